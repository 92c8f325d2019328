"""Texts of iptables: what the real tools printed prints back, and what people type prints as the tools print it."""

import json
import os
import shlex
from pathlib import Path

import pytest

from dataplane.errors import DumpError
from dataplane.host.iptables import Chain, Rule, Ruleset, Table
from dataplane.host.iptables_check import check
from dataplane.host.iptables_rule import parse_rule, split
from dataplane.host.xtables import find_match, find_target, match_names, target_names
from dataplane.host.xtables.declare import Refused

SAMPLES = Path(__file__).parent / "samples"
ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("DATAPLANE_SHARED", ROOT.parent / "shared"))
KUBE_PROXY = SHARED / "data" / "kube-proxy"

TYPED = json.loads((SAMPLES / "typed.json").read_text())

# Matches of the tool that have no file here.
UNKNOWN = (
    *("owner", "time", "string", "ecn", "cpu", "helper", "policy", "realm", "devgroup", "quota", "bpf", "cgroup"),
    *("frag", "rt", "hbh", "ipv6header", "eui64"),
)
# Lines of samples that are refused, as said at DIFFERENT and in the tests of errors.
LEFT_OUT = (*(f"-m {name} " for name in UNKNOWN), "-j QUEUE", "! -p tcp -m tcp", "-i a b", "upto 0b/s")
# What we print, or refuse (None), where the tools do something else, and why.
DIFFERENT = {
    # The tools forget the `!`, and the kernel does not.
    "-p tcp -m tcp ! --dport 0:65535 -j ACCEPT": "-p tcp -m tcp ! --dport 0:65535 -j ACCEPT",
    # The tools print a mask with holes as no mask.
    "-m conntrack --ctorigsrc 10.0.0.0/255.0.255.0": None,
    "-j NETMAP --to 10.1.0.0/255.0.255.0": None,
    # Whether a set, an accounting object or a kernel module is there is not said by the rules.
    "-m set --match-set NOSET src": "-m set --match-set NOSET src",
    "-j QUEUE": None,
    "! -p tcp -m tcp --dport 80": None,
    "-j SET --add-set NOSET src": "-j SET --add-set NOSET src",
    "-m nfacct --nfacct-name x": "-m nfacct --nfacct-name x",
    "-m ipvs --ipvs": "-m ipvs --ipvs",
    "-m ipvs --vaddr 1.2.3.4 --vport 5 --vproto 6": "-m ipvs --vproto 6 --vaddr 1.2.3.4 --vport 5",
    # No interface can have such a name.
    "-i 'a b'": None,
    # The tools take a value behind = only of options that they know already.
    "-ptcp --dport=80 -jACCEPT": "-p tcp -m tcp --dport 80 -j ACCEPT",
    # The tools print 0b/s.
    "-m hashlimit --hashlimit-upto 1b/s --hashlimit-name n1": None,
}


def restored(words: list[str]) -> str:
    """Words as iptables-restore takes them: in double quotes where they need it."""

    def one(word: str) -> str:
        if word and not any(character in ' \t"\\' for character in word):
            return word
        return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'

    return " ".join(map(one, words))


def printed_or_refused(text: str, family: int, chain: str) -> list[str] | None:
    """The rules of a chain, None where line 4 is refused and its option named."""
    try:
        ruleset = Ruleset.parse(text, family)
    except DumpError as error:
        return None if (error.where, bool(error.field)) == ("line 4", True) else [str(error)]
    found = ruleset.tables[0].chain(chain)
    assert found is not None
    assert Ruleset.parse(ruleset.text(counters=True), family) == ruleset
    return [rule.text for rule in found.rules]


@pytest.mark.parametrize("sample", sorted(SAMPLES.glob("*.save")), ids=lambda path: path.stem)
def test_what_was_printed_prints_back(sample: Path) -> None:
    lines = sample.read_text().splitlines()
    text = "\n".join(line for line in lines if not any(part in f"{line} " for part in LEFT_OUT))
    ruleset = Ruleset.parse(text + "\n", 6 if sample.name.startswith("ip6") else 4, str(sample))
    assert ruleset.text(counters="counted" in sample.name) == text + "\n"
    assert sum(1 for _ in ruleset.rules()) > 250


@pytest.mark.parametrize("row", TYPED, ids=lambda row: f"{row[0]} {row[3]}"[:80])
def test_what_people_type_prints_as_the_tools_print_it(row: list[object]) -> None:
    family, table, chain, rule, *answers = row
    assert isinstance(family, int)
    assert isinstance(rule, str)
    text = f"*{table}\n:{chain} ACCEPT [0:0]\n:XCHAIN - [0:0]\n-A {chain} {restored(shlex.split(rule))}\nCOMMIT\n"
    printed = printed_or_refused(text, family, str(chain))
    if rule in DIFFERENT:
        expected = DIFFERENT[rule]
        assert printed == (None if expected is None else [expected])
    elif any(f"-m {name}" == " ".join(rule.split()[:2]) for name in UNKNOWN):
        assert printed is None
    else:
        assert printed in answers


def saved() -> list[Path]:
    return sorted(KUBE_PROXY.glob("captured/*/ip*tables-save.txt")) if KUBE_PROXY.is_dir() else []


def fed() -> list[Path]:
    found = [*KUBE_PROXY.glob("golden/**/*.restore"), *KUBE_PROXY.glob("golden/**/*.rules")]
    return sorted(found) if KUBE_PROXY.is_dir() else []


@pytest.mark.skipif(not saved(), reason="no captured kube-proxy rules beside the repository")
def test_what_kube_proxy_programs_prints_back() -> None:
    rules = 0
    for path in saved():
        text = path.read_text()
        ruleset = Ruleset.parse(text, 6 if path.name.startswith("ip6") else 4, str(path))
        assert ruleset.text() == text
        rules += sum(1 for _ in ruleset.rules())
    assert rules > 1000


@pytest.mark.skipif(not fed(), reason="no kube-proxy restore texts beside the repository")
def test_what_kube_proxy_feeds_is_understood() -> None:
    rules = 0
    for path in fed():
        ruleset = Ruleset.parse(path.read_text(), 6 if "ipv6" in path.name else 4, str(path), complete=False)
        printed = ruleset.text()
        assert Ruleset.parse(printed, ruleset.family, complete=False).text() == printed
        rules += sum(1 for _ in ruleset.rules())
    assert rules > 1000


# ---- values ----------------------------------------------------------------------------------------------------------


def test_a_rule_of_canonical_text_is_not_looked_at() -> None:
    rule = Rule.of("-s 10.0.0.0/8 -j NOT A RULE")
    assert rule.text == "-s 10.0.0.0/8 -j NOT A RULE"
    with pytest.raises(Refused):
        rule.specification(4)


def test_a_rule_of_canonical_text_is_understood_once() -> None:
    rule = Rule.of("-s 10.0.0.0/8 -j ACCEPT")
    assert rule.specification(4) is rule.specification(4)
    assert rule.specification(4).text() == rule.text
    assert rule == Rule("-s 10.0.0.0/8 -j ACCEPT", line=7)


def test_a_ruleset_from_values_prints_and_is_checked() -> None:
    chains = (Chain("FORWARD", (Rule.of("-j KUBE"),), "DROP", 3, 180), Chain("KUBE", (Rule.of("-j RETURN"),)))
    ruleset = Ruleset(4, (Table("filter", chains),))
    assert ruleset.text() == (
        "*filter\n:FORWARD DROP [3:180]\n:KUBE - [0:0]\n-A FORWARD -j KUBE\n-A KUBE -j RETURN\nCOMMIT\n"
    )
    check(ruleset)
    wrong = Ruleset(4, (Table("filter", (Chain("FORWARD", (Rule.of("-j KUBE"),), "DROP"),)),))
    with pytest.raises(DumpError, match="-j KUBE: neither a chain of the table nor a known target"):
        check(wrong)


def test_counters_are_merged_in_the_order_of_the_text() -> None:
    text = "*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE - [0:0]\n-A PREROUTING -j KUBE\n-A KUBE -j RETURN\nCOMMIT\n"
    counted = Ruleset.parse(text, 4).counted([(5, 300), (2, 120)], [(3, 180), (9, 9)])
    assert counted.text(counters=True) == (
        "*nat\n:PREROUTING ACCEPT [3:180]\n:KUBE - [0:0]\n"
        "[5:300] -A PREROUTING -j KUBE\n[2:120] -A KUBE -j RETURN\nCOMMIT\n"
    )


def test_a_table_that_the_tool_could_not_print_is_named() -> None:
    text = "# Table `nat' is incompatible, use 'nft' tool.\n*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n"
    ruleset = Ruleset.parse(text, 4)
    assert ruleset.unmodelled == ("Table `nat' is incompatible, use 'nft' tool.",)
    assert ruleset.text() == text


def test_empty_text_is_an_empty_ruleset() -> None:
    assert Ruleset.parse("", 4).text() == ""
    assert Ruleset.parse("# nothing\n", 6).text() == "# nothing\n"


# ---- words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("-A X  -j\tACCEPT ", ["-A", "X", "-j", "ACCEPT"]),
        ('--comment "a b" -j X', ["--comment", "a b", "-j", "X"]),
        (r'--comment "it\'s \"so\" \\"', ["--comment", 'it\'s "so" \\']),
        ('--comment ""', ["--comment", ""]),
        ('"a"b', ["a", "b"]),
        ("it's", ["it's"]),
    ],
)
def test_words_are_cut_as_iptables_restore_cuts_them(line: str, words: list[str]) -> None:
    assert split(line) == words


# ---- restore texts ---------------------------------------------------------------------------------------------------


def test_commands_of_restore_are_carried_out() -> None:
    text = """*filter
:INPUT ACCEPT
-N A
-A A -j ACCEPT
-I A -j DROP
-I A 2 -p tcp
-R A 3 -p udp
[4:240] -A INPUT -j A -c 7 8
-A INPUT -s 10.0.0.1,10.0.0.2 -d 10.1.0.0/16
-D INPUT 2
-N B
-A B -j DROP
-F B
-X B
-P INPUT DROP
-P FORWARD DROP
COMMIT
"""
    assert (
        Ruleset.parse(text, 4).text(counters=True)
        == """*filter
:INPUT DROP [0:0]
:A - [0:0]
:FORWARD DROP [0:0]
[4:240] -A INPUT -j A
[0:0] -A INPUT -s 10.0.0.2/32 -d 10.1.0.0/16
[0:0] -A A -j DROP
[0:0] -A A -p tcp
[0:0] -A A -p udp
COMMIT
"""
    )


@pytest.mark.parametrize(
    ("lines", "line", "field", "message"),
    [
        ("-A FORWARD -j ACCEPT", 1, "-A", "no table is open"),
        ("*filter\n-A FORWARD -j ACCEPT", 2, "*filter", "the table has no COMMIT"),
        ("*filter\nCOMMIT\n*filter\nCOMMIT", 3, "*filter", "the table was given before"),
        ("*sieve\nCOMMIT", 1, "*sieve", "there is no such table"),
        ("*filter\n*nat\nCOMMIT", 2, "*nat", "table filter has no COMMIT"),
        ("*filter\n:FORWARD - [0:0]\nCOMMIT", 2, ":FORWARD", "'-' is no policy"),
        ("*filter\n:MINE DROP [0:0]\nCOMMIT", 2, ":MINE", "only a built-in chain has a policy"),
        ("*filter\n:MINE - [0:0]\n:MINE - [0:0]\nCOMMIT", 3, ":MINE", "declared before"),
        ("*filter\n:REJECT - [0:0]\nCOMMIT", 2, ":REJECT", "cannot be a chain's name"),
        (f"*filter\n:{'x' * 29} - [0:0]\nCOMMIT", 2, "x" * 29, "at most 28 bytes"),
        ("*filter\n-A NONE -j DROP\nCOMMIT", 2, "NONE", "the chain is not declared"),
        ("*filter\n-A FORWARD -j NONE\nCOMMIT", 2, "-j NONE", "neither a chain of the table nor a known target"),
        ("*filter\n-A FORWARD -j INPUT\n-A INPUT\nCOMMIT", 2, "-j INPUT", "a built-in chain cannot be jumped to"),
        ("*filter\n:A - [0:0]\n:B - [0:0]\n-A A -j B\n-A B -g A\nCOMMIT", 5, "-j A", "the jump closes a loop"),
        ("*filter\n:A - [0:0]\n-A A -j A\nCOMMIT", 3, "-j A", "the jump closes a loop"),
        ("*filter\n-A FORWARD -m mark --mark 1 --frob 2\nCOMMIT", 2, "--frob", "unknown option"),
        ("*filter\n-A FORWARD -m frob\nCOMMIT", 2, "-m frob", "this match is not known"),
        ("*filter\n-A FORWARD -p tcp --dport 80:frob\nCOMMIT", 2, "--dport", "'frob' is not a port"),
        ("*filter\n-A FORWARD -s host.example\nCOMMIT", 2, "-s", "host names are not resolved"),
        ('*filter\n-A FORWARD -m comment --comment "x\nCOMMIT', 2, '"', "a quote is not closed"),
        ("*nat\n:A - [0:0]\n-A A -j MASQUERADE\n-A OUTPUT -j A\nCOMMIT", 3, "-j MASQUERADE", "has no place in OUTPUT"),
        ("*filter\n-A INPUT -j DNAT --to-destination 1.2.3.4\nCOMMIT", 2, "-j DNAT", "has no place in table filter"),
        ("*nat\n-A OUTPUT -j DROP\nCOMMIT", 2, "-j DROP", "not intended for filtering"),
        ("*filter\n-E A B\nCOMMIT", 2, "-E", "not a command that is understood"),
        ("*filter\n[1:2]\nCOMMIT", 2, "[1:2]", "counters without a rule"),
        ("*filter\n-D INPUT -j DROP\nCOMMIT", 2, "-D", "the chain has no such rule"),
        ("*filter\n-I INPUT 3 -j DROP\nCOMMIT", 2, "-I", "the chain has no place 3"),
        ("COMMIT", 1, "COMMIT", "no table is open"),
    ],
)
def test_a_wrong_text_names_file_line_and_option(lines: str, line: int, field: str, message: str) -> None:
    with pytest.raises(DumpError) as caught:
        Ruleset.parse(lines + "\n", 4, "dump/iptables.save")
    assert caught.value.file == "dump/iptables.save"
    if field != "*filter" or message != "the table has no COMMIT":
        assert caught.value.where == f"line {line}"
    assert field in caught.value.field
    assert message in str(caught.value)


def test_a_rule_reached_from_nowhere_may_hold_what_its_table_allows() -> None:
    """As in the kernel, where a chain nobody jumps to has no hook."""
    Ruleset.parse("*nat\n:A - [0:0]\n-A A -j MASQUERADE\nCOMMIT\n", 4)


# ---- extensions ------------------------------------------------------------------------------------------------------


def test_every_extension_is_one_file_named_after_it() -> None:
    assert {"tcp", "conntrack", "recent", "statistic"} <= match_names()
    assert {"DNAT", "MARK", "REJECT"} <= target_names()
    for name in match_names():
        kind = find_match(name)
        assert kind is not None
        assert kind.name == name
        assert kind.__doc__ is None or kind.__module__.endswith(name)
    for name in target_names():
        target = find_target(name)
        assert target is not None
        assert target.name == name


@pytest.mark.parametrize("name", sorted(match_names()))
def test_options_of_a_match_do_not_contradict_each_other(name: str) -> None:
    kind = find_match(name)
    assert kind is not None
    names = [option.name for option in kind.options]
    assert len(set(names)) == len(names)
    for option in kind.options:
        assert set(option.excludes) <= set(names)
        assert set(option.needs) <= set(names)


def test_parts_of_a_rule_may_come_in_any_order() -> None:
    words = split("-j DROP -m mark --mark 1 -p tcp -s 10.0.0.1 --sport 5 ! -d 10.0.0.2")
    (spec,) = parse_rule(words, 4).specifications
    assert spec.text() == "-s 10.0.0.1/32 ! -d 10.0.0.2/32 -p tcp -m mark --mark 0x1 -m tcp --sport 5 -j DROP"
