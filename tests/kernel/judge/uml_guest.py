"""The first and only program of the user-mode kernel: mounts, modules, then scenario after scenario.

uml_guest.py FOLDER LIST PATH...: names of scenarios are read from FOLDER/LIST (a folder of the machine), what became of
them is written next to it; PATH is where Python looks for modules.
"""

import ctypes
import os
import pickle
import sys
import time
import traceback
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_POWER_OFF = 0x4321FEDC
_RESULTS = Path("/mnt")
# Loaded beforehand, so that the kernel never has to look for a program that does it.
_MODULES = """
    ipv6 tun veth dummy bridge br_netfilter ipip ip6_tunnel fou fou6 ip_gre ip6_gre
    ip_tables iptable_filter iptable_nat iptable_mangle iptable_raw ip6_tables ip6table_filter ip6table_nat
    ip6table_mangle ip6table_raw ipt_REJECT ip6t_REJECT nf_conntrack_netlink
    xt_tcpudp xt_mark xt_connmark xt_comment xt_conntrack xt_addrtype xt_physdev xt_MASQUERADE xt_nat xt_REDIRECT
    xt_statistic xt_multiport xt_set xt_ipvs xt_CT xt_limit
    ip_set ip_set_bitmap_port ip_set_hash_ip ip_set_hash_ipport ip_set_hash_ipportip ip_set_hash_ipportnet
    ip_set_hash_net ip_set_list_set
    ip_vs ip_vs_rr ip_vs_wrr ip_vs_lc ip_vs_wlc ip_vs_lblc ip_vs_lblcr ip_vs_sh ip_vs_dh ip_vs_sed ip_vs_nq ip_vs_mh
    ip_vs_fo ip_vs_ovf
"""


def _check(result: int, what: str) -> None:
    if result:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def mount(kind: str, place: str, options: str = "") -> None:
    _check(_libc.mount(kind.encode(), place.encode(), kind.encode(), 0, options.encode() or None), f"mount {place}")


def load(wanted: list[str]) -> None:
    """Insert modules after those that they need."""
    folder = Path("/usr/lib/uml/modules") / os.uname().release
    needs = {}
    for line in (folder / "modules.dep").read_text().splitlines():
        path, _, others = line.partition(":")
        needs[Path(path).stem] = (path, others.split())
    inserted = set()

    def insert(name: str) -> None:
        if name in inserted or name not in needs:
            return
        inserted.add(name)
        path, others = needs[name]
        for other in reversed(others):
            insert(Path(other).stem)
        with open(folder / path, "rb") as file:
            _check(_libc.syscall(313, file.fileno(), b"", 0), f"finit_module {name}")

    for name in wanted:
        insert(name)


def main() -> None:
    for kind, place in (("proc", "/proc"), ("sysfs", "/sys"), ("tmpfs", "/run")):
        mount(kind, place)
    mount("hostfs", str(_RESULTS), sys.argv[1])
    os.environ["TMPDIR"] = "/run"
    os.chdir("/")
    load(_MODULES.split())
    Path("/proc/sys/kernel/modprobe").write_text("\n")
    if not os.path.exists("/dev/net/tun"):
        mount("tmpfs", "/dev")
        os.mkdir("/dev/net")
        for name, number in (("null", (1, 3)), ("urandom", (1, 9)), ("random", (1, 8)), ("net/tun", (10, 200))):
            os.mknod(f"/dev/{name}", 0o20666, os.makedev(*number))
    sys.path[:] = sys.argv[3:]
    import warnings

    warnings.filterwarnings("ignore", module="scapy")
    from judge import scenario, uml
    from judge.ipvs_node import IpvsNode
    from judge.recording import Recording

    print(f"{uml.READY} {time.monotonic():.2f} s", flush=True)
    known = scenario.load("scenarios.ipvs")
    kernel = scenario.Kernel(node=IpvsNode)
    for name in (_RESULTS / sys.argv[2]).read_text().splitlines():
        began = time.process_time()
        error = ""
        try:
            recording = kernel.run(known[name], _RESULTS / name)
        except Exception as raised:
            recording = getattr(raised, "recording", None) or Recording(name, _RESULTS / name)
            error = traceback.format_exc()
        took = time.process_time() - began
        print(f"{name} {took:.2f} s {error}", flush=True)
        (_RESULTS / f"{name}.pickle").parent.mkdir(parents=True, exist_ok=True)
        (_RESULTS / f"{name}.pickle").write_bytes(pickle.dumps(uml.Done(recording, error, took)))


if __name__ == "__main__":
    try:
        main()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        _libc.sync()
        _libc.reboot(_POWER_OFF)
