"""-j CONNMARK: set the mark of the connection, save the packet's in it, or restore it (net/netfilter/xt_connmark.c)."""

from __future__ import annotations

from dataplane._fast.ruleset import TargetKind
from dataplane.host.xtables.declare import Given, Option, Refused, Scope, Target
from dataplane.host.xtables.marks import MARK_OPTIONS, settle_mark
from dataplane.host.xtables.predicate import Action
from dataplane.host.xtables.values import ALL_BITS, number

_SET = tuple(option.name for option in MARK_OPTIONS)


class Connmark(Target):
    name = "CONNMARK"
    options = (
        *MARK_OPTIONS,
        Option("save-mark", excludes=(*_SET, "restore-mark")),
        Option("restore-mark", excludes=_SET),
        Option("nfmask", number(form="#x"), excludes=("mask",)),
        Option("ctmask", number(form="#x"), excludes=("mask",)),
        Option("mask", number()),
        Option("left-shift-mark", number(0, 31), excludes=("right-shift-mark",)),
        Option("right-shift-mark", number(0, 31)),
    )

    @classmethod
    def settle(cls, given: dict[str, Given], scope: Scope) -> dict[str, Given]:
        settle_mark(given)
        if not any(name in given for name in ("set-xmark", "save-mark", "restore-mark")):
            raise Refused("-j CONNMARK", "no operation was given")
        masks = [name for name in ("mask", "nfmask", "ctmask") if name in given]
        if "set-xmark" in given:
            if masks:
                raise Refused(f"--{masks[0]}", "belongs to --save-mark and --restore-mark")
        else:
            both = given.pop("mask", Given(ALL_BITS))
            given.setdefault("nfmask", both)
            given.setdefault("ctmask", both)
        return given

    def action(self) -> Action:
        """flags: 0 set, 1 save, 2 restore; value and mask: of set, else the masks of the packet and of the connection.

        min_port: bits to shift by; max_port: 1 to the right.
        """
        shift, right = self.value("left-shift-mark", 0), 0
        if self.has("right-shift-mark"):
            shift, right = self.value("right-shift-mark"), 1
        if self.has("set-xmark"):
            (value, mask), way = self.value("set-xmark"), 0
        else:
            value, mask, way = self.value("nfmask"), self.value("ctmask"), 1 if self.has("save-mark") else 2
        kind = TargetKind.TARGET_CONNMARK
        return Action(kind, flags=way, value=value, mask=mask, min_port=shift, max_port=right)


TARGET = Connmark
