from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from typing import TypeAlias, final

from dataplane._fast.conntrack import ConnectionTable

_Address: TypeAlias = IPv4Address | IPv6Address
_Key: TypeAlias = tuple[int, int, _Address | None, int, int]
_Counters: TypeAlias = tuple[int, int, int, int, int]

STATE_NAMES: tuple[str, ...]
TIMEOUTS: tuple[int, ...]

class Scheduler(IntEnum):
    SCHEDULER_RR = 0
    SCHEDULER_WRR = 1
    SCHEDULER_LC = 2
    SCHEDULER_WLC = 3
    SCHEDULER_LBLC = 4
    SCHEDULER_LBLCR = 5
    SCHEDULER_SH = 6
    SCHEDULER_DH = 7
    SCHEDULER_SED = 8
    SCHEDULER_NQ = 9
    SCHEDULER_MH = 10
    SCHEDULER_FO = 11
    SCHEDULER_OVF = 12
    SCHEDULER_TWOS = 13

class Forward(IntEnum):
    FORWARD_MASQ = 0
    FORWARD_TUNNEL = 2
    FORWARD_ROUTE = 3

class Tunnel(IntEnum):
    TUNNEL_IPIP = 0
    TUNNEL_GUE = 1
    TUNNEL_GRE = 2

class IpvsState(IntEnum):
    IPVS_NONE = 0
    IPVS_ESTABLISHED = 1
    IPVS_SYN_SENT = 2
    IPVS_SYN_RECV = 3
    IPVS_FIN_WAIT = 4
    IPVS_TIME_WAIT = 5
    IPVS_CLOSE = 6
    IPVS_CLOSE_WAIT = 7
    IPVS_LAST_ACK = 8
    IPVS_LISTEN = 9
    IPVS_SYNACK = 10
    IPVS_UDP = 11
    IPVS_SCTP_INIT1 = 12
    IPVS_SCTP_INIT = 13
    IPVS_SCTP_COOKIE_SENT = 14
    IPVS_SCTP_COOKIE_REPLIED = 15
    IPVS_SCTP_COOKIE_WAIT = 16
    IPVS_SCTP_COOKIE = 17
    IPVS_SCTP_COOKIE_ECHOED = 18
    IPVS_SCTP_ESTABLISHED = 19
    IPVS_SCTP_SHUTDOWN_SENT = 20
    IPVS_SCTP_SHUTDOWN_RECEIVED = 21
    IPVS_SCTP_SHUTDOWN_ACK_SENT = 22
    IPVS_SCTP_REJECTED = 23
    IPVS_SCTP_CLOSED = 24
    IPVS_STATE_COUNT = 25

@final
class Balancer:
    limit: int
    def __new__(cls, *, seed: int = 0, limit: int = ...) -> Balancer: ...
    def settings(
        self,
        *,
        conntrack: bool = False,
        conn_reuse_mode: int = 1,
        expire_nodest_conn: bool = False,
        expire_quiescent_template: bool = False,
        sloppy_tcp: bool = False,
        sloppy_sctp: bool = False,
        pmtu_disc: bool = True,
        nat_icmp_send: bool = False,
        schedule_icmp: bool = False,
        snat_reroute: bool = True,
        lblc_expiration: int = ...,
        lblcr_expiration: int = ...,
        tcp: int = ...,
        tcp_fin: int = ...,
        udp: int = ...,
    ) -> None: ...
    def add_service(
        self,
        key: _Key,
        *,
        scheduler: int,
        flags: int = 0,
        one_packet: bool = False,
        persistent: int = 0,
        netmask: int = -1,
    ) -> None: ...
    def remove_service(self, key: _Key) -> None: ...
    def set_server(
        self,
        key: _Key,
        address: _Address,
        port: int,
        *,
        forward: int,
        weight: int = 1,
        upper: int = 0,
        lower: int = 0,
        tunnel: int = ...,
        tunnel_port: int = 0,
        tunnel_sum: bool = False,
    ) -> None: ...
    def remove_server(self, key: _Key, address: _Address, port: int) -> None: ...
    def service_counters(self, key: _Key) -> _Counters: ...
    def server_row(self, key: _Key, address: _Address, port: int, now: int) -> tuple[int, int, int, int, _Counters]: ...
    def tracks(self, connections: ConnectionTable) -> None: ...
    def expire(self, now: int) -> None: ...
    def rows(self, now: int) -> list[tuple[int, int, str, _Address, int, _Address, int, _Address, int, bool]]: ...
    @property
    def refused(self) -> int: ...
    def __len__(self) -> int: ...
