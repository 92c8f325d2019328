"""What is wrong in a dump is named by file, line or entry, and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataplane.errors import DumpError, ModelError
from dataplane.host import Address, FdbEntry, HostConfig, Link, Neighbour, Route, Vxlan
from dataplane.host.dump import check, read
from dataplane.host.loader import Command, commands

LO = '{"ifindex":1,"ifname":"lo","flags":["LOOPBACK","UP"],"mtu":65536,"link_type":"loopback","promiscuity":0'
ETH0 = '{"ifindex":2,"ifname":"eth0","flags":["UP"],"mtu":1500,"link_type":"ether","address":"02:00:00:00:00:01"'


@pytest.mark.parametrize(
    ("file", "text", "where", "field", "message"),
    [
        ("links.json", "[{", "line 1 column 3", "", "property name"),
        ("links.json", "[\n{},\n{\"ifname\":}]", "line 3 column 11", "", "Expecting value"),
        ("links.json", "{}", "line 1", "", "a list of objects is expected"),
        ("links.json", "[5]", "entry 1", "", "an object is expected, not 5"),
        ("links.json", '[{"ifindex":1}]', "entry 1", "ifname", "is missing"),
        ("links.json", '[{"ifname":"a","ifindex":"x"}]', "entry 1 (a)", "ifindex", "a number is expected"),
        ("links.json", '[{"ifname":"a","ifindex":0,"mtu":1}]', "entry 1 (a)", "ifindex", "not an index"),
        ("links.json", f"[{LO}}},{LO}}}]", "entry 2 (lo)", "ifname", "two links have this name"),
        ("links.json", '[{"ifname":"a","ifindex":1}]', "entry 1 (a)", "mtu", "is missing"),
        ("links.json", '[{"ifindex":1,"ifname":"lo","flags":5,"mtu":1}]', "entry 1 (lo)", "flags", "a list of words"),
        ("links.json", f'[{ETH0},"address":"02:00"}}]'.replace(',"address":"02:00:00:00:00:01"', ""),
         "entry 1 (eth0)", "address", "a MAC address is expected, not \"02:00\""),
        ("links.json", f'[{LO},"linkinfo":{{"info_kind":"vxlan","info_data":{{"port":1}}}}}}]',
         "entry 1 (lo): linkinfo: info_data", "id", "is missing"),
        ("links.json", f'[{LO},"linkinfo":{{"info_kind":"vxlan","info_data":{{"id":1,"port":1,"local":"fd00::1"}}}}}}]',
         "entry 1 (lo): linkinfo: info_data", "local", "an IPv4 address is expected, not fd00::1"),
        ("links.json", f'[{LO},"master":"br0"}}]', "entry 1 (lo)", "master", "br0 is not among the links"),
        ("links.json", f'[{LO}}},{ETH0},"linkinfo":{{"info_slave_kind":"bridge"}},"master":"lo"}}]',
         "entry 2 (eth0)", "master", "lo is not a bridge but a plain link"),
        ("addresses.json", '[{"ifname":"eth9","addr_info":[]}]', "entry 1 (eth9)", "ifname", "not among the links"),
        ("addresses.json", '[{"ifname":"lo","addr_info":[{"family":"inet","local":"10.0.0.300","prefixlen":8}]}]',
         "entry 1 (lo): addr_info[0]", "local", "10.0.0.300"),
        ("addresses.json", '[{"ifname":"lo","addr_info":[{"family":"inet6","local":"10.0.0.3","prefixlen":8}]}]',
         "entry 1 (lo): addr_info[0]", "local", "an IPv6 address is expected"),
        ("addresses.json", '[{"ifname":"lo","addr_info":[{"family":"ipx"}]}]',
         "entry 1 (lo): addr_info[0]", "family", "inet or inet6"),
        ("routes.json", '[{"dst":"10.0.0.0/33"}]', "entry 1 (10.0.0.0/33)", "dst", "a prefix is expected"),
        ("routes.json", '[{"dst":"10.0.0.0/8","dev":"eth9"}]', "entry 1 (10.0.0.0/8)", "dev", "eth9 is not among"),
        ("routes.json", '[{"dst":"10.0.0.0/8","type":"odd"}]', "entry 1 (10.0.0.0/8)", "type", "not a type of route"),
        ("routes.json", '[{"dst":"10.0.0.0/8","table":"calico"}]', "entry 1 (10.0.0.0/8)", "table", "rt_tables"),
        ("routes.json", '[{"dst":"10.0.0.0/8","gateway":"fd00::1"}]', "entry 1 (10.0.0.0/8)", "gateway", "IPv4"),
        ("routes.json", '[{"dst":"10.0.0.0/8","nexthops":[{"dev":"lo"},{"dev":"lo","weight":"w"}]}]',
         "entry 1 (10.0.0.0/8): nexthops[1]", "weight", "a number is expected"),
        ("routes6.json", '[{"dst":"fd00::/8","dev":"eth9"}]', "entry 1 (fd00::/8)", "dev", "eth9 is not among"),
        ("routes6.json", '[{"dst":"10.0.0.0/8"}]', "entry 1 (10.0.0.0/8)", "dst", "an IPv6 prefix"),
        ("rules.json", '[{"priority":5,"src":"fd00::"}]', "entry 1 (priority 5)", "src", "fd00::/32"),
        ("rules.json", '[{"src":"all"}]', "entry 1 (priority None)", "priority", "is missing"),
        ("rules.json", '[{"priority":5,"src":"all","ipproto":"odd"}]', "entry 1 (priority 5)", "ipproto", "'odd'"),
        ("neighbours.json", '[{"dst":"10.0.0.1","dev":"eth9","state":["STALE"]}]', "entry 1 (10.0.0.1)", "dev", "eth9"),
        ("neighbours.json", '[{"dst":"10.0.0.1","dev":"lo","state":["ODD"]}]', "entry 1 (10.0.0.1)", "state", "'ODD'"),
        ("groups.json", '[{"ifname":"eth9"}]', "entry 1 (eth9)", "ifname", "eth9 is not among"),
        ("groups.json", '[{"ifname":"lo","maddr":[{"family":"inet","address":"10.0.0.1"}]}]',
         "entry 1 (lo): maddr[0]", "address", "10.0.0.1 is no multicast group"),
        ("fdb.json", '[{"mac":"x","ifname":"lo"}]', "entry 1 (x on lo)", "mac", "a MAC address"),
        ("fdb.json", '[{"mac":"02:00:00:00:00:01","ifname":"eth9"}]',
         "entry 1 (02:00:00:00:00:01 on eth9)", "ifname", "eth9 is not among"),
        ("fdb.json", '[{"mac":"02:00:00:00:00:01","ifname":"eth0","master":"lo"}]',
         "entry 1 (02:00:00:00:00:01 on eth0)", "master", "lo is not a bridge"),
        ("ipset.save", "create a hash:ip\nadd a 10.0.0.1,tcp:80\n", "line 2", "10.0.0.1,tcp:80", "address"),
        ("ipset.save", "create a hash:odd\n", "line 1", "type", "'hash:odd' is not a type of set"),
        ("ipset.save", "create a hash:ip size\n", "line 1", "size", "is missing"),
        ("ipset.save", "create a hash:ip timeout x\n", "line 1", "timeout", "a number is expected, not 'x'"),
        ("ipset.save", "create a hash:ip odd 5\n", "line 1", "odd", "is not an option of hash:ip"),
        ("ipset.save", "create a hash:ip\n\ncreate a hash:ip\n", "line 3", "a", "is created twice"),
        ("ipset.save", "add a 10.0.0.1\n", "line 1", "a", "no such set"),
        ("ipset.save", "create a hash:ip,port\nadd a 10.0.0.1\n", "line 2", "10.0.0.1", "has 2 parts"),
        ("ipset.save", "create a hash:ip,port\nadd a 10.0.0.1,odd:1\n", "line 2", "odd:1", "'odd' is not a protocol"),
        ("ipset.save", "create a hash:ip\nadd a fd00::1\n", "line 2", "fd00::1", "an IPv4 address is expected"),
        ("ipset.save", "create a hash:ip\nadd a 10.0.0.1 odd\n", "line 2", "odd", "not an option of a member"),
        ("ipset.save", "create a list:set\nadd a b\n", "set a", "b", "no such set"),
        ("ipset.save", "create a bitmap:port\n", "line 1", "range", "is missing"),
        ("ipset.save", "remove a\n", "line 1", "remove", "create or add is expected"),
        ("sysctl.txt", "net.ipv4.ip_forward = 1\nnonsense\n", "line 2", "nonsense", "name = value is expected"),
        ("sysctl.txt", "net.ipv4.conf.eth0.rp_filter = on\n", "line 1", "net.ipv4.conf.eth0.rp_filter", "'on'"),
        ("conntrack.txt", "tcp      6 5 src=10.0.0.1\n", "line 1", "family", "ipv4 or ipv6 is expected"),
        ("conntrack.txt", "ipv4     2 tcp      6 5 src=10.0.0.1 dst=10.0.0.2\n", "line 1", "src, dst", "two pairs"),
        ("conntrack.txt", "\nipv4     2 tcp      6 5 src=x dst=10.0.0.2\n", "line 2", "src", "an address is expected"),
        ("conntrack.txt", "ipv4     2 udp     17 5 src=fd00::1\n", "line 1", "src", "an IPv4 address is expected"),
        ("conntrack.txt", "ipv4     2 udp     17 5 src=10.0.0.1 dst=10.0.0.2 sport=x\n", "line 1", "sport", "number"),
        ("conntrack.txt", "ipv4     2 udp     17 5 dst=10.0.0.1\n", "line 1", "dst", "is out of place"),
        ("conntrack.txt", "ipv4     2 udp\n", "line 1", "protocol", "is missing"),
    ],
)  # fmt: skip
def test_bad_input(tmp_path: Path, file: str, text: str, where: str, field: str, message: str) -> None:
    if file != "links.json":
        (tmp_path / "links.json").write_text(f"[{LO}}},{ETH0}}}]\n")
    (tmp_path / file).write_text(text)
    with pytest.raises(DumpError) as caught:
        HostConfig.load(tmp_path)
    error = caught.value
    assert (error.file, error.where, error.field) == (str(tmp_path / file), where, field)
    assert message in error.message


def test_a_folder_without_a_dump(tmp_path: Path) -> None:
    with pytest.raises(DumpError, match="holds no file of a host's dump"):
        HostConfig.load(tmp_path)
    with pytest.raises(DumpError, match="is not a folder"):
        HostConfig.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"addresses": (Address.of("eth9", "10.0.0.1/8"),)}, "addresses.json: address 1 (10.0.0.1/8): interface: eth9"),
        ({"routes": (Route.of("default", "eth9", "10.0.0.1"),)}, "routes.json: entry 1 (0.0.0.0/0): dev: eth9"),
        ({"neighbours": (Neighbour.of("eth9", "10.0.0.1", 5),)}, "neighbours.json: entry 1 (10.0.0.1): dev: eth9"),
        ({"fdb": (FdbEntry.of(5, "eth0", master="lo"),)}, "fdb.json: entry 1 (00:00:00:00:00:05 on eth0): master: lo"),
        ({"links": (Link("x", "vxlan", vxlan=Vxlan(1, device="eth9")),)}, "links.json: entry 1 (x): linkinfo"),
    ],
)
def test_a_configuration_that_does_not_fit_is_not_written(tmp_path: Path, change: dict, message: str) -> None:
    config = HostConfig(links=(Link.lo(), Link("eth0", mac=1))).with_(**change)
    with pytest.raises(DumpError) as caught:
        config.save(tmp_path / "dump")
    assert str(caught.value).startswith(message)
    assert not (tmp_path / "dump").exists()


def test_without_links_nothing_is_checked_against_them() -> None:
    check(HostConfig(addresses=(Address.of("eth9", "10.0.0.1/8"),)))


def test_only_addresses() -> None:
    text = (Path(__file__).parent / "samples" / "node" / "addresses.json").read_text()
    config = read(HostConfig, {"addresses.json": text})
    assert [link.name for link in config.links] == ["lo", "eth0", "flannel.1", "cni0", "veth0a", "veth0b"]
    assert "no links.json" in config.warnings[0]
    from dataplane.host.dump import texts

    assert texts(config)["addresses.json"] == text


def test_another_layout_is_said() -> None:
    config = read(HostConfig, {"rules.json": '[ {"priority": 0, "src": "all", "table": "local"} ]'})
    assert config.warnings == (
        "rules.json: laid out otherwise than the tools do that we know; writing it changes its layout",
    )
    assert len(config.rules) == 1


def test_links_without_details_are_said() -> None:
    text = '[{"ifindex":1,"ifname":"lo","flags":[],"mtu":65536,"link_type":"loopback","address":"00:00:00:00:00:00"}]\n'
    assert "taken without -details" in read(HostConfig, {"links.json": text}).warnings[0]


def test_what_is_not_modelled_is_kept_as_text(tmp_path: Path) -> None:
    (tmp_path / "nftables.json").write_text('{"nftables": []}\n')
    config = HostConfig.load(tmp_path)
    assert config.unmodelled == ("nftables.json (the whole file)",)
    config.save(tmp_path / "again")
    assert (tmp_path / "again" / "nftables.json").read_text() == '{"nftables": []}\n'


def test_a_file_of_an_earlier_dump_does_not_stay(tmp_path: Path) -> None:
    HostConfig(neighbours=(Neighbour.of("eth0", "10.0.0.1"),)).save(tmp_path)
    assert (tmp_path / "neighbours-proxy.json").exists()
    HostConfig().save(tmp_path)
    assert not (tmp_path / "neighbours-proxy.json").exists()
    assert HostConfig.load(tmp_path) == HostConfig(name=tmp_path.name)


def test_bytes_that_are_not_utf8_come_through(tmp_path: Path) -> None:
    text = b'[{"ifindex":1,"ifname":"a\xff","flags":[],"mtu":1,"link_type":"none","promiscuity":0}]\n'
    (tmp_path / "links.json").write_bytes(text)
    HostConfig.load(tmp_path).save(tmp_path / "again")
    assert (tmp_path / "again" / "links.json").read_bytes() == text


def test_what_cannot_be_created_is_refused() -> None:
    with pytest.raises(ModelError, match="if0 is of the kind ifb"):
        commands(HostConfig(links=(Link.lo(), Link("if0", "ifb", mac=1))))
    with pytest.raises(ModelError, match="would outlive its namespace"):
        commands(HostConfig(neighbours=(Neighbour.of("", "10.0.0.98"),)))
    with pytest.raises(ModelError, match="the other end of eth0 needs a namespace"):
        commands(HostConfig(links=(Link.lo(), Link("eth0", mac=1))))


def test_a_name_that_is_not_one_word_is_not_put_into_a_command() -> None:
    for name in ("a b", "a\nlink del eth0", 'a"', "#a", "a\\", ""):
        with pytest.raises(ModelError, match="is not a name that a command can take"):
            commands(HostConfig(links=(Link.lo(), Link(name, "bridge", mac=1))))


def test_a_script_holds_its_input_together() -> None:
    text = str(Command(("ipset", "restore"), "END_OF_INPUT\nrm -rf nowhere\n"))
    assert text == "ipset restore <<'END_OF_INPUT_'\nEND_OF_INPUT\nrm -rf nowhere\nEND_OF_INPUT_\n"
