"""What may stand between an IP header and the transport's: IPv4 options and IPv6 extension headers, well-formed or not."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from judge.random_wire import FRAGMENT_IDS, packed

HOP, ROUTING, FRAGMENT, AUTH, NONE, DESTINATION = 0, 43, 44, 51, 59, 60


# ---- IPv4 -----------------------------------------------------------------------------------------------------------


def options(random: Random, addresses: Sequence[str], source_routes: bool) -> bytes:
    """Up to 40 bytes of options, a multiple of 4. addresses: of the node and of others, for what names one."""
    made = b""
    for _ in range(random.choice([1, 1, 1, 2, 2, 3])):
        made += _option(random, addresses, source_routes)
    if random.random() < 0.1:
        at = random.randrange(len(made))
        made = made[:at] + bytes([random.choice([0, 1, made[at] ^ 1 << random.randrange(8)])]) + made[at + 1 :]
    made = made[:40]
    return made + random.choice([b"\0", b"\0", b"\1", b"\7"]) * (-len(made) % 4)


def _option(random: Random, addresses: Sequence[str], source_routes: bool) -> bytes:
    kind = random.choice(["record", "record", "stamp", "stamp", "stamp", "alert", "noop", "other", "label", "route"])
    if kind == "record":
        slots = random.choice([0, 1, 1, 2, 3, 4, 9])
        return bytes([7, 3 + 4 * slots, _pointer(random, 4, slots)]) + bytes(4 * slots)
    if kind == "stamp":
        flag = random.choice([0, 0, 1, 1, 3, 3, 2])
        size, entries = (8 if flag in (1, 3) else 4), random.choice([0, 1, 1, 2, 3])
        body = b"".join((packed(random.choice(addresses)) if flag == 3 else bytes(4)) + bytes(size - 4)
                        for _ in range(entries))  # fmt: skip
        return (
            bytes(
                [68, 4 + len(body), _pointer(random, 5, entries * size // 4), random.choice([0, 0, 14, 15]) << 4 | flag]
            )
            + body
        )
    if kind == "alert":
        return random.choice([b"\x94\x04\0\0", b"\x94\x04\0\1", b"\x94\x03\0"])
    if kind == "noop":
        return random.choice([b"\1", b"\1\1\1\1", b"\0\0\0\0", b"\0\7\7\7"])
    if kind == "other":
        return random.choice(
            [b"\xff\x02", b"\x1e\x04ab", b"\x82\x0babcdefghi", b"\x88\x04ab", b"\x07", b"\xff\x01", b"\xff\0"]
        )
    if kind == "route" and source_routes:
        hops = random.sample(list(addresses), random.choice([0, 1, 1, 2, 3]))
        return bytes([random.choice([131, 131, 137]), 3 + 4 * len(hops), _pointer(random, 4, len(hops))]) + b"".join(
            map(packed, hops)
        )
    return random.choice(
        [b"\x86\x06\0\0\0\1", b"\x86\x0a\0\0\0\1\1\4\0\0", b"\x83\x03\x04", b"\x89\x07\x04" + packed(addresses[0])]
    )


def _pointer(random: Random, first: int, words: int) -> int:
    if random.random() < 0.07:
        return random.choice([0, first - 1, first + 1, first + 2, 40, 255])
    return first + 4 * random.choice([0, 0, 0, random.randint(0, words), words])


# ---- IPv6 -----------------------------------------------------------------------------------------------------------


def extensions(random: Random, protocol: int) -> tuple[int, bytes]:
    """The number of the first header, and all of them; the last says `protocol`, or that nothing follows."""
    kinds = [random.choice([HOP, HOP, DESTINATION, DESTINATION, ROUTING, FRAGMENT, AUTH]) if random.random() < 0.2
             else kind for kind in random.choice(_USUAL)]  # fmt: skip
    following = [*kinds[1:], random.choice([protocol] * 12 + [NONE])]
    return kinds[0], b"".join(_header(random, *pair) for pair in zip(kinds, following, strict=True))


_USUAL = (
    (HOP,),
    (HOP,),
    (DESTINATION,),
    (DESTINATION,),
    (ROUTING,),
    (FRAGMENT,),
    (AUTH,),
    (HOP, DESTINATION),
    (HOP, FRAGMENT),
    (DESTINATION, ROUTING),
    (ROUTING, DESTINATION),
    (FRAGMENT, DESTINATION),
    (DESTINATION, FRAGMENT),
    (AUTH, DESTINATION),
    (HOP, DESTINATION, ROUTING, FRAGMENT),
    (ROUTING, FRAGMENT, DESTINATION),
)


def _header(random: Random, kind: int, following: int) -> bytes:
    if kind == FRAGMENT:
        offset = random.choice([0] * 8 + [1, 8, 1 << 3, 1 << 3 | 1, 0xFFF8, 2, 6])
        return (
            bytes([following, random.choice([0, 0, 0, 9])])
            + offset.to_bytes(2, "big")
            + random.choice(FRAGMENT_IDS).to_bytes(4, "big")
        )
    if kind == AUTH:
        length = random.choice([4, 4, 4, 2, 1, 0, 6, 200])
        return bytes([following, length]) + bytes(min(length + 2, 10) * 4 - 2)
    if kind == ROUTING:
        words = random.choice([0, 0, 2, 2, 4, 1])
        body = bytes([random.choice([0, 0, 2, 3, 253]), random.choice([0, 0, 0, 1, 2])]) + bytes(4 + 8 * words)
        return bytes([following, _length(random, words)]) + body
    made = b""
    for _ in range(random.choice([0, 1, 1, 1, 2, 3])):
        made += _tlv(random)
    missing = -(len(made) + 2) % 8
    if missing:
        padding = bytes(missing) if missing == 1 else b"\1" + bytes([missing - 2]) + bytes(missing - 2)
        made += random.choice([padding, bytes(missing)])
    return bytes([following, _length(random, (len(made) + 2) // 8 - 1)]) + made


def _length(random: Random, right: int) -> int:
    return right if random.random() < 0.95 else random.choice([0, right + 1, 30, 255])


def _tlv(random: Random) -> bytes:
    return random.choice(
        [
            b"\0",
            b"\0\0\0\0\0\0\0",
            b"\1\0",
            b"\1\4\0\0\0\0",
            b"\1\5\0\0\0\0\0",
            b"\1\6\0\0\0\0\0\0",
            b"\1\4\0\0\7\0",
            b"\5\2\0\0",
            b"\5\2\0\1",
            b"\5\1\0",
            b"\4\1\4",  # tunnel encapsulation limit
            b"\x1e\2ab",
            b"\x3e\2ab",
            b"\x5e\2ab",
            b"\x7e\2ab",
            b"\x9e\2ab",
            b"\xbe\2ab",
            b"\xde\2ab",
            b"\xfe\2ab",
            b"\xc2\4\0\0\0\0",
            b"\xc2\4\0\1\0\0",
            b"\xc2\3\0\1\0",
            b"\7\x08\0\0\0\1\0\0\0\0",
            b"\7\2\0\0",
            b"\x31\2\0\0",
            b"\xc9\x10" + bytes(15) + b"\1",
            b"\x1e\x20ab",
        ]
    )
