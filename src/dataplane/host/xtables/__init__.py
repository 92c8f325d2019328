"""The extensions of xtables, one small file each.

To add a match, write matches/NAME.py: a class of `Match` with its options and its tests, named MATCH. To add a
target, write targets/name.py with a class of `Target`, named TARGET. There is no list to extend: `-m NAME` finds the
file.
"""

from __future__ import annotations

import pkgutil
from functools import lru_cache
from importlib import import_module

from dataplane.host.xtables import matches, targets
from dataplane.host.xtables.declare import Match, Target

__all__ = ["find_match", "find_target", "match_names", "target_names"]

# Other names of a match, by the name of its file.
_ALIASES = {"icmpv6": "icmp6", "ipv6-icmp": "icmp6", "mobility-header": "mh"}


@lru_cache(1)
def match_names() -> frozenset[str]:
    return frozenset(module.name for module in pkgutil.iter_modules(matches.__path__))


@lru_cache(1)
def target_names() -> frozenset[str]:
    return frozenset(module.name.upper() for module in pkgutil.iter_modules(targets.__path__))


@lru_cache(256)
def find_match(name: str) -> type[Match] | None:
    """The match of `-m name`, None if there is none."""
    name = _ALIASES.get(name, name)
    if name not in match_names():
        return None
    found: type[Match] = import_module(f"{matches.__name__}.{name}").MATCH
    return found


@lru_cache(256)
def find_target(name: str) -> type[Target] | None:
    """The extension target of `-j NAME`, None if there is none."""
    if name not in target_names():
        return None
    found: type[Target] = import_module(f"{targets.__name__}.{name.lower()}").TARGET
    return found
