"""The lines of `ip -batch` that make a host's links."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from dataplane.errors import ModelError
from dataplane.host.config import Link, Vxlan
from dataplane.host.links import MODELLED_KINDS
from dataplane.host.notation import address_text, mac_text

__all__ = ["leads_away", "link_lines", "up_lines", "word"]

_WORD = re.compile(r"""[^\s"'#\\]+""")


def word(text: str) -> str:
    """A name as one word of a batch line. ModelError if it would not be read as one: dumps come from anywhere."""
    if not _WORD.fullmatch(text):
        raise ModelError(f"{text!r} is not a name that a command can take")
    return text


def leads_away(link: Link, links: Sequence[Link]) -> bool:
    """Whether it is made as a veth whose other end is in another namespace."""
    if link.kind == "veth":
        return _near_peer(link, links) is None
    return not link.kind and not link.loopback


def _near_peer(link: Link, links: Sequence[Link]) -> Link | None:
    if link.peer_netns is not None or not link.peer_index:
        return None
    return next((other for other in links if other.index == link.peer_index and other.kind == "veth"), None)


def link_lines(links: Sequence[Link], far: str, far_names: Mapping[str, str]) -> Iterable[str]:
    """Lines of `ip -batch` that make the links, down, with all that is theirs, and put ports into their bridges."""
    for link in links:
        if link.kind not in MODELLED_KINDS:
            raise ModelError(f"{link.name} is of the kind {link.kind}, which is not modelled and so not created")
        if leads_away(link, links) and not far:
            raise ModelError(f"the other end of {link.name} needs a namespace to be put into")
    made: set[str] = set()
    # A vxlan device may need its lower device, which may be any other.
    for link in sorted(links, key=lambda link: link.kind == "vxlan"):
        if not link.loopback and link.name not in made:
            yield from _create_lines(link, links, far, far_names, made)
    for link in links:
        yield from _set_lines(link)
    for link in links:
        if link.master is not None:
            yield f"link set dev {word(link.name)} master {word(link.master)}"
            yield from _port_lines(link)


def up_lines(links: Sequence[Link]) -> Iterable[str]:
    """Lines that bring up what is up. The kernel makes no link-local addresses then: the caller adds what is listed."""
    for link in links:
        if link.up:
            if not link.loopback:
                yield f"link set dev {word(link.name)} addrgenmode none"
            yield f"link set dev {word(link.name)} up"


def _create_lines(
    link: Link, links: Sequence[Link], far: str, far_names: Mapping[str, str], made: set[str]
) -> Iterable[str]:
    made.add(link.name)
    if link.kind == "tun":
        words = ["tuntap add dev", word(link.name), "mode", link.tun.mode if link.tun else "tun"]
        if link.tun is not None:
            flags = {"pi": link.tun.packet_info, "vnet_hdr": link.tun.vnet_header, "multi_queue": link.tun.multi_queue}
            words += [name for name, is_set in flags.items() if is_set]
        yield " ".join(words)
        if link.mac is not None:
            yield f"link set dev {word(link.name)} address {mac_text(link.mac)}"
        if link.mtu != 1500:
            yield f"link set dev {word(link.name)} mtu {link.mtu}"
        return
    words = ["link add name", *_common_words(link)]
    if leads_away(link, links):
        words += ["type veth peer name", word(far_names.get(link.name, link.name)), "netns", far]
    elif link.kind == "veth":
        peer = _near_peer(link, links)
        assert peer is not None
        made.add(peer.name)
        words += ["type veth peer name", *_common_words(peer)]
    elif link.kind == "vxlan":
        words += ["type vxlan", *_vxlan_words(link.vxlan or Vxlan(0))]
    elif link.kind == "bridge":
        words += ["type bridge", *_bridge_words(link)]
    else:
        words += ["type", link.kind]
    yield " ".join(words)


def _common_words(link: Link) -> Iterable[str]:
    yield word(link.name)
    if link.index:
        yield from ("index", str(link.index))
    if link.mac is not None:
        yield from ("address", mac_text(link.mac))
    yield from ("mtu", str(link.mtu), "txqueuelen", str(link.tx_queue_length))


def _vxlan_words(vxlan: Vxlan) -> Iterable[str]:
    if vxlan.external:
        yield "external"
        if vxlan.vni_filter:
            yield "vnifilter"
    else:
        yield from ("id", str(vxlan.vni))
    if vxlan.group is not None:
        yield from ("group" if vxlan.group.is_multicast else "remote", address_text(vxlan.group))
    if vxlan.local is not None:
        yield from ("local", address_text(vxlan.local))
    if vxlan.device is not None:
        yield from ("dev", word(vxlan.device))
    yield from ("dstport", str(vxlan.port))
    if vxlan.port_low or vxlan.port_high:
        yield from ("srcport", str(vxlan.port_low), str(vxlan.port_high))
    if vxlan.ttl_inherit:
        yield "ttl inherit"
    elif vxlan.ttl:
        yield from ("ttl", str(vxlan.ttl))
    if vxlan.tos:
        yield from ("tos", "inherit" if vxlan.tos == 1 else hex(vxlan.tos))
    if vxlan.df != "unset":
        yield from ("df", word(vxlan.df))
    if vxlan.flow_label:
        yield from ("flowlabel", hex(vxlan.flow_label))
    if not vxlan.external:
        yield "learning" if vxlan.learning else "nolearning"
    yield from ("ageing", str(vxlan.ageing_ns // 1_000_000_000))
    if vxlan.limit:
        yield from ("maxaddress", str(vxlan.limit))
    if not vxlan.udp_checksum:
        yield "noudpcsum"
    flags = {
        "udp6zerocsumtx": vxlan.udp6_zero_checksum_tx,
        "udp6zerocsumrx": vxlan.udp6_zero_checksum_rx,
        "proxy": vxlan.proxy,
        "rsc": vxlan.rsc,
        "l2miss": vxlan.l2miss,
        "l3miss": vxlan.l3miss,
        "gbp": vxlan.gbp,
        "gpe": vxlan.gpe,
        "nolocalbypass": not vxlan.local_bypass,
    }
    yield from (name for name, is_set in flags.items() if is_set)


def _bridge_words(link: Link) -> Iterable[str]:
    """Only what differs from the default: not every kernel takes every option."""
    bridge = link.bridge
    if bridge is None:
        return
    centiseconds = {
        "ageing_time": (bridge.ageing_ns, 300_000_000_000),
        "forward_delay": (bridge.forward_delay_ns, 15_000_000_000),
        "hello_time": (bridge.hello_time_ns, 2_000_000_000),
        "max_age": (bridge.max_age_ns, 20_000_000_000),
    }
    for name, (value, default) in centiseconds.items():
        if value != default:
            yield from (name, str(value // 10_000_000))
    flags = {
        "stp_state": (bridge.stp, False),
        "vlan_filtering": (bridge.vlan_filtering, False),
        "mcast_snooping": (bridge.mcast_snooping, True),
        "nf_call_iptables": (bridge.nf_call_iptables, False),
        "nf_call_ip6tables": (bridge.nf_call_ip6tables, False),
        "nf_call_arptables": (bridge.nf_call_arptables, False),
    }
    for name, (is_set, default_set) in flags.items():
        if is_set != default_set:
            yield from (name, str(int(is_set)))
    if bridge.group_forward_mask:
        yield from ("group_fwd_mask", hex(bridge.group_forward_mask))
    if bridge.priority != 32768:
        yield from ("priority", str(bridge.priority))


def _set_lines(link: Link) -> Iterable[str]:
    dummy = link.kind == "dummy"
    three = link.kind == "tun" and link.mac is None
    if link.loopback and link.mtu != 65536:
        yield f"link set dev {word(link.name)} mtu {link.mtu}"
    if link.kind == "tun" and link.tx_queue_length != (500 if three else 1000):
        yield f"link set dev {word(link.name)} txqueuelen {link.tx_queue_length}"
    if link.noarp != (dummy or three):
        yield f"link set dev {word(link.name)} arp {'off' if link.noarp else 'on'}"
    if link.multicast != (not dummy and not link.loopback):
        yield f"link set dev {word(link.name)} multicast {'on' if link.multicast else 'off'}"
    if link.promisc:
        yield f"link set dev {word(link.name)} promisc on"
    if link.allmulti:
        yield f"link set dev {word(link.name)} allmulticast on"
    for name in link.aliases:
        yield f"link property add dev {word(link.name)} altname {word(name)}"


def _port_lines(link: Link) -> Iterable[str]:
    port = link.port
    if port is None:
        return
    flags = {
        "hairpin": (port.hairpin, False),
        "learning": (port.learning, True),
        "flood": (port.flood, True),
        "mcast_flood": (port.mcast_flood, True),
        "bcast_flood": (port.bcast_flood, True),
        "isolated": (port.isolated, False),
        "neigh_suppress": (port.neigh_suppress, False),
        "proxy_arp": (port.proxy_arp, False),
        "guard": (port.guard, False),
        "root_block": (port.root_block, False),
        "fastleave": (port.fastleave, False),
        "locked": (port.locked, False),
        "mcast_to_unicast": (port.mcast_to_unicast, False),
        "vlan_tunnel": (port.vlan_tunnel, False),
    }
    words = [f"{name} {'on' if is_set else 'off'}" for name, (is_set, default) in flags.items() if is_set != default]
    if port.priority != 32:
        words.append(f"priority {port.priority}")
    if port.cost != 2:
        words.append(f"cost {port.cost}")
    if port.group_forward_mask:
        words.append(f"group_fwd_mask {port.group_forward_mask:#x}")
    if words:
        yield f"link set dev {word(link.name)} type bridge_slave {' '.join(words)}"
