/* Preloaded into the user-mode kernel: what it needs of newer processors, and a clock that skips idle time.
 *
 * Registers: it asks for the extended registers of its processes with a buffer that is sized for older processors, and
 * the machine's kernel refuses to set from a short buffer. So the whole set is read, the short one laid over it, and all
 * of it set.
 *
 * Time: an idle user-mode kernel asks how long its timer has to run, and then sleeps. Here the rest of that time is
 * added to its clock and the timer fires at once: its time goes on, timer by timer, and nobody waits for it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static unsigned char registers[1 << 16];
static long long skipped; /* ns; the kernel is one thread, and its helpers do not read the clock */

long ptrace(enum __ptrace_request request, ...)
{
    va_list rest;
    va_start(rest, request);
    long pid = va_arg(rest, long);
    void *address = va_arg(rest, void *);
    void *data = va_arg(rest, void *);
    va_end(rest);
    if (request == PTRACE_SETREGSET && (long)address == NT_X86_XSTATE) {
        struct iovec given = *(struct iovec *)data, whole = {registers, sizeof registers};
        if (syscall(SYS_ptrace, PTRACE_GETREGSET, pid, address, &whole) == 0 && given.iov_len < whole.iov_len) {
            memcpy(registers, given.iov_base, given.iov_len);
            return syscall(SYS_ptrace, PTRACE_SETREGSET, pid, address, &whole);
        }
    }
    static long (*next)(enum __ptrace_request, ...);
    if (!next)
        next = (long (*)(enum __ptrace_request, ...))dlsym(RTLD_NEXT, "ptrace");
    return next(request, pid, address, data);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (!failed && clock == CLOCK_MONOTONIC) {
        long long ns = now->tv_sec * 1000000000LL + now->tv_nsec + skipped;
        now->tv_sec = ns / 1000000000LL;
        now->tv_nsec = ns % 1000000000LL;
    }
    return failed;
}

int timer_gettime(timer_t timer, struct itimerspec *left)
{
    static int (*get)(timer_t, struct itimerspec *);
    static int (*set)(timer_t, int, const struct itimerspec *, struct itimerspec *);
    if (!get) {
        get = (int (*)(timer_t, struct itimerspec *))dlsym(RTLD_NEXT, "timer_gettime");
        set = (int (*)(timer_t, int, const struct itimerspec *, struct itimerspec *))dlsym(RTLD_NEXT, "timer_settime");
    }
    int failed = get(timer, left);
    if (!failed && (left->it_value.tv_sec || left->it_value.tv_nsec)) {
        struct itimerspec now = {left->it_interval, {0, 1}};
        skipped += left->it_value.tv_sec * 1000000000LL + left->it_value.tv_nsec;
        set(timer, 0, &now, NULL);
    }
    return failed;
}
