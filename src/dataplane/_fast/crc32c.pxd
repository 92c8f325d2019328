"""CRC32c, the checksum of SCTP (RFC 9260, appendix A)."""

from libc.stdint cimport uint8_t, uint32_t

cdef extern from *:
    """
    #include <stddef.h>
    #include <stdint.h>
    /* By half bytes: a table of sixteen words, since packets of SCTP are few. */
    static inline uint32_t dp_crc32c(const uint8_t *p, size_t n, uint32_t crc) {
        static const uint32_t half[16] = {
            0x00000000u, 0x105ec76fu, 0x20bd8edeu, 0x30e349b1u, 0x417b1dbcu, 0x5125dad3u, 0x61c69362u, 0x7198540du,
            0x82f63b78u, 0x92a8fc17u, 0xa24bb5a6u, 0xb21572c9u, 0xc38d26c4u, 0xd3d3e1abu, 0xe330a81au, 0xf36e6f75u,
        };
        while (n--) {
            crc ^= *p++;
            crc = (crc >> 4) ^ half[crc & 15];
            crc = (crc >> 4) ^ half[crc & 15];
        }
        return crc;
    }
    /* Of a packet whose own field counts as zero; the register goes out lowest byte first. */
    static inline uint32_t dp_sctp_checksum(const uint8_t *sctp, size_t n) {
        static const uint8_t zero[4];
        uint32_t crc = dp_crc32c(sctp, 8, 0xFFFFFFFFu);
        crc = dp_crc32c(zero, 4, crc);
        return __builtin_bswap32(~dp_crc32c(sctp + 12, n - 12, crc));
    }
    """
    uint32_t dp_sctp_checksum(const uint8_t *sctp, size_t n) noexcept nogil


cdef inline uint32_t sctp_checksum(const uint8_t *sctp, const uint8_t *tail) noexcept nogil:
    """What the checksum field of an SCTP packet of at least 12 bytes should hold, as load32 reads it."""
    return dp_sctp_checksum(sctp, <size_t>(tail - sctp))
