"""-m recent: lists of addresses that were seen (net/netfilter/xt_recent.c)."""

from __future__ import annotations

from collections.abc import Iterator

from dataplane._fast.packet import Field
from dataplane._fast.ruleset import OpKind, RecentFlag
from dataplane.host.xtables.declare import Given, Kind, Match, Option, Refused, Scope
from dataplane.host.xtables.predicate import ANY, Custom, Shared, Test
from dataplane.host.xtables.values import address_number, full_mask, number, show_address, text

COMMANDS = ("set", "rcheck", "update", "remove")
STAMPS = 32  # that a list keeps of each address, unless a rule asks for more hits

MASK = Kind(lambda text, scope: (address_number(text, scope.family), scope.family), lambda value: show_address(*value))


class Recent(Match):
    name = "recent"
    options = (
        Option("set", invert=True, excludes=("rcheck", "update", "remove", "rttl", "reap")),
        Option("rcheck", invert=True, excludes=("update", "remove")),
        Option("update", invert=True, excludes=("remove",)),
        Option("remove", invert=True, excludes=("rttl", "reap")),
        Option("seconds", number(1)),
        Option("reap", needs=("seconds",)),
        Option("hitcount", number(1, 65535)),
        Option("rttl"),
        Option("name", text(199, str)),
        Option("mask", MASK),
        Option("rsource", excludes=("rdest",)),
        Option("rdest"),
    )

    @classmethod
    def settle(cls, given: dict[str, Given], scope: Scope) -> dict[str, Given]:
        command = next((name for name in COMMANDS if name in given), None)
        if command is None:
            raise Refused("-m recent", "one of --set, --rcheck, --update or --remove must be given")
        if command in ("set", "remove"):
            for option in ("seconds", "hitcount"):
                if option in given:
                    raise Refused(f"--{option}", f"plays no part in --{command}")
        given.setdefault("name", Given("DEFAULT"))
        name = given["name"].value
        if name in ("", ".", "..") or "/" in name:
            raise Refused("--name", f"{name!r} cannot be a list's name")
        given.setdefault("mask", Given((full_mask(scope.family), scope.family)))
        if "rdest" not in given:
            given["rsource"] = Given(True)
        return given

    @property
    def command(self) -> str:
        return next(name for name in COMMANDS if self.has(name))

    def tests(self) -> Iterator[Test]:
        command = self.command
        flags = {
            "set": RecentFlag.RECENT_SET,
            "rcheck": RecentFlag.RECENT_CHECK,
            "update": RecentFlag.RECENT_UPDATE,
            "remove": RecentFlag.RECENT_REMOVE,
        }[command]
        hits = self.value("hitcount", 0)
        stamps = 1 << (hits - 1).bit_length() if hits else STAMPS
        mask, family = self.value("mask")
        words = (
            int(flags)
            | (int(RecentFlag.RECENT_TTL) if self.has("rttl") else 0)
            | (int(RecentFlag.RECENT_REAP) if self.has("reap") else 0),
            int(Field.FIELD_DST if self.has("rdest") else Field.FIELD_SRC),
            self.value("seconds", 0),
            hits,
        )
        masks = (mask, 0, 0, 0) if family == 4 else tuple(mask >> shift & ANY for shift in (96, 64, 32, 0))
        list_ = Shared("recent", self.value("name"), (stamps, *masks))
        yield Custom(OpKind.OP_RECENT, words, invert=self.inverted(command), shared=list_)


MATCH = Recent
