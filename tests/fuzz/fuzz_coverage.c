/* Which branches an input has taken. The compiler calls __sanitizer_cov_trace_pc at the beginning of each
 * (gcc -fsanitize-coverage=trace-pc); Python lines come through coverage_line. Both are counted in one map, as AFL has it:
 * by the place and the one before. */
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#define PLACES (1u << 18)

static uint8_t quiet[PLACES];
static uint8_t *counts = quiet; /* of the input that runs */
static uint8_t *known;          /* of all inputs, shared by all processes: how often, in powers of two */
static uintptr_t before, base;

__attribute__((no_sanitize("all"))) void __sanitizer_cov_trace_pc(void) {
    uintptr_t here = (uintptr_t)__builtin_return_address(0) - base;
    here ^= here >> 15;
    uint8_t *count = counts + ((here ^ before) & (PLACES - 1));
    *count += *count != 255;
    before = here >> 1;
}

void coverage_line(uint32_t place) {
    uint8_t *count = counts + (place & (PLACES - 1));
    *count += *count != 255;
}

/* Two maps that processes forked from this one share. They are never given back: code runs until the process has ended. */
int coverage_start(void) {
    uint8_t *maps = mmap(0, 2 * PLACES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (maps == MAP_FAILED)
        return -1;
    known = maps + PLACES;
    counts = maps;
    base = (uintptr_t)coverage_start;
    return 0;
}

void coverage_begin(void) {
    memset(counts, 0, PLACES);
    before = 0;
}

static uint8_t power(uint8_t count) {
    uint8_t bit = 1;
    for (; count > 1; count >>= 1)
        bit <<= 1;
    return bit;
}

/* How many places this input has taken for the first time, or more often than any before. */
uint32_t coverage_new(void) {
    uint32_t found = 0;
    for (uint32_t i = 0; i < PLACES; i++) {
        if (counts[i]) {
            uint8_t bit = power(counts[i]);
            if (!(known[i] & bit)) {
                known[i] |= bit;
                found++;
            }
        }
    }
    return found;
}
