"""Texts of ipvsadm 1.31 on Linux 6.1, read and printed: texts/ holds what the real tool printed of one table."""

from ipaddress import ip_address
from pathlib import Path

import pytest

from dataplane.errors import DumpError
from dataplane.host.config import HostConfig
from dataplane.host.ipvs import (
    IpvsTimeouts,
    RealServer,
    VirtualService,
    endpoint_of,
    parse,
    parse_timeouts,
    text,
    timeouts_text,
)
from dataplane.host.ipvs_list import (
    Balanced,
    IpvsConnection,
    ServiceKey,
    Traffic,
    connections_text,
    services_text,
    stats_text,
)

TEXTS = Path(__file__).parent / "texts"
SAVED = (TEXTS / "save.txt").read_text()
SERVICES = parse(SAVED)
ONE = ip_address("10.0.0.1")


def key(name: str) -> ServiceKey:
    return next(service.key for service in SERVICES if service.name == name)


def test_a_saved_text_comes_back() -> None:
    assert text(SERVICES) == SAVED


def test_what_a_saved_text_says() -> None:
    by_name = {service.name: service for service in SERVICES}
    dns = by_name["-u 10.0.0.1:53"]
    assert (dns.scheduler, dns.flags, dns.persistent, dns.netmask, dns.one_packet) == ("sh", 3, 300, 24, True)
    assert dns.servers == (RealServer.of("10.1.0.3:53", forward="route"),)
    assert by_name["-t 10.0.0.1:80"].servers[2] == RealServer.of("10.1.0.2:8080", weight=3)
    assert by_name["-f 8 -6"] == VirtualService("", fwmark=8, family=6, scheduler="rr", persistent=60, netmask=64)
    assert by_name["-f 7"].servers[1] == RealServer.of("10.1.0.4", forward="tunnel", tunnel="gue", tunnel_port=6080)


def test_thresholds_are_written_where_there_are_any() -> None:
    service = VirtualService.of("tcp", "10.0.0.1:80", servers=(RealServer.of("10.1.0.2:80", upper=10, lower=5),))
    assert text([service]).endswith("-r 10.1.0.2:80 -m -w 1 -x 10 -y 5\n")
    assert parse(text([service])) == (service,)


def test_services_are_listed_as_ipvsadm_does() -> None:
    servers = {
        (key("-t 10.0.0.1:0"), ONE, 0): Balanced(0, 1),
        (key("-t 10.0.0.1:80"), ip_address("127.0.0.1"), 8082): Balanced(0, 1),
        (key("-t [fd00::1]:80"), ip_address("fd00::5"), 80): Balanced(1, 0),
    }
    assert services_text(reversed(SERVICES), servers) == (TEXTS / "list.txt").read_text()


def test_counters_are_listed_as_ipvsadm_does() -> None:
    web, six = Traffic(1, 1, 1, 60, 40), Traffic(1, 1, 0, 80, 0)
    totals = {key("-t 10.0.0.1:80"): web, key("-t [fd00::1]:80"): six}
    servers = {
        (key("-t 10.0.0.1:80"), ip_address("127.0.0.1"), 8082): Balanced(traffic=web),
        (key("-t [fd00::1]:80"), ip_address("fd00::5"), 80): Balanced(traffic=six),
    }
    assert stats_text(SERVICES, totals, servers) == (TEXTS / "stats.txt").read_text()


def test_connections_are_listed_as_ipvsadm_does() -> None:
    rows = []
    for line in (TEXTS / "connections.txt").read_text().splitlines()[2:]:
        protocol, time, state, *ends = line.split()
        minutes, seconds = map(int, time.split(":"))
        rows.append(IpvsConnection(protocol, 60 * minutes + seconds, state, *map(endpoint_of, ends)))
    assert connections_text(rows) == (TEXTS / "connections.txt").read_text()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (99_999_999, " 99999999"),
        (100_000_000, "  100000K"),
        (10**9, "    1000M"),
        (10**11, "     100G"),
        (10**14, "     100T"),
    ],
)
def test_large_counts_are_rounded_down(value: int, shown: str) -> None:
    service = VirtualService.of("tcp", "10.0.0.1:80")
    assert stats_text([service], {service.key: Traffic(value)}, {}).splitlines()[3][33:42] == shown


def test_timeouts() -> None:
    line = "Timeout (tcp tcpfin udp): 900 60 30\n"
    assert parse_timeouts(line) == IpvsTimeouts(900, 60, 30)
    assert timeouts_text(parse_timeouts(line)) == line
    assert parse_timeouts("") == (900, 120, 300)


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("-A -t 10.0.0.1:80 -s fastest", "-s"),
        ("-A -t 10.0.0.1:80 -b sh-port", "-b"),
        ("-A -t 10.0.0.1:0 -s rr", "-p"),
        ("-A -t 10.0.0.1:70000", "-t"),
        ("-A -t 10.0.0.1:80 -M 255.0.255.0 -p 9", "-M"),
        ("-A -f 0", "-f"),
        ("-a -t 10.0.0.1:81 -r 10.0.0.2:81 -m", "-t 10.0.0.1:81"),
        ("-a -t 10.0.0.1:80 -r 10.0.0.2:81 -g", "-r"),
        ("-a -t 10.0.0.1:80 -r [fd00::1]:80 -m", "-r"),
        ("-D -t 10.0.0.1:80", "-D"),
    ],
)
def test_errors_name_line_and_option(line: str, field: str) -> None:
    with pytest.raises(DumpError) as raised:
        parse(f"-A -t 10.0.0.1:80 -s rr\n{line.replace('-A -t 10.0.0.1:80', '-A -t 10.0.0.9:80')}\n", "node/ipvs.save")
    assert (raised.value.file, raised.value.where, raised.value.field) == ("node/ipvs.save", "line 2", field)


def test_a_dump_holds_services_and_timeouts(tmp_path: Path) -> None:
    config = HostConfig(ipvs=SERVICES, ipvs_timeouts=IpvsTimeouts(900, 60, 30))
    config.save(tmp_path / "node")
    assert (tmp_path / "node" / "ipvs.save").read_text() == SAVED
    again = HostConfig.load(tmp_path / "node")
    assert (again.ipvs, again.ipvs_timeouts) == (config.ipvs, config.ipvs_timeouts)
