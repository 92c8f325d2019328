"""-m connlabel as text: numbers alone, since names are the machine's own."""

import pytest
from conftest import EMPTY

from dataplane.errors import InputError
from dataplane.host.iptables import Ruleset

RULES = (
    '-A FORWARD -m connlabel --label "5"\n'
    '-A FORWARD -m connlabel --label "127" --set\n'
    '-A FORWARD -m connlabel ! --label "0"\n'
)


def test_rules_are_printed_as_the_tool_prints_them() -> None:
    ruleset = Ruleset.parse(EMPTY.format(RULES), 4)
    for _, _, rule in ruleset.rules():
        rule.specification(4)
    assert RULES in ruleset.text(counters=False)
    assert [str(rule.specification(4).matches[0].value("label")) for _, _, rule in ruleset.rules()] == ["5", "127", "0"]


@pytest.mark.parametrize("label", ["128", "eth0-in", '"-1"'])
def test_other_labels_are_refused(label: str) -> None:
    with pytest.raises(InputError, match="line 5: --label"):
        Ruleset.parse(EMPTY.format(f"-A FORWARD -m connlabel --label {label}\n"), 4)
