"""What the system knows of a TCP connection: whether the other end's system still acknowledges what it is sent.

A system acknowledges by itself, however busy its programs are. So what stays unacknowledged tells a network that is
gone from a server that is slow, which a missed pong cannot.
"""

from __future__ import annotations

import socket
import struct
import sys
from typing import NamedTuple

# The start of `struct tcp_info` (linux/tcp.h): tcpi_retransmits, tcpi_probes, tcpi_snd_mss, tcpi_unacked,
# tcpi_last_ack_recv, tcpi_notsent_bytes. Kernels only ever append to it; the last of these came with 4.6.
_FIELDS = struct.Struct("=2xBB12xI4xI28xI84xI")
_PLACE = getattr(socket, "TCP_INFO", None) if sys.platform == "linux" else None


class TcpInfo(NamedTuple):
    """waiting: something that was written is not acknowledged, or waits until the other end has room for it.

    in_vain: how often the system has sent the oldest of it again, or asked for room, since it last got anywhere.
    heard_s: seconds since a segment came; each acknowledges what had arrived.
    """

    waiting: bool
    in_vain: int
    heard_s: float


def parse(data: bytes) -> TcpInfo | None:
    """Read Linux's `struct tcp_info`. None for an old kernel's, and for one that is not filled in, as in sandboxes."""
    if len(data) < _FIELDS.size:
        return None
    repeated, probes, segment, unacked, heard_ms, unsent = _FIELDS.unpack_from(data)
    if not segment:  # a connection has one
        return None
    # Asking for room has its own count, and only goes on while nothing is in flight.
    return TcpInfo(unacked > 0 or unsent > 0, max(repeated, probes), heard_ms / 1000)


def read(sock: socket.socket) -> TcpInfo | None:
    """Ask for it, without waiting; None where the system does not tell, or the socket is closed."""
    if _PLACE is None:
        return None
    try:
        return parse(sock.getsockopt(socket.IPPROTO_TCP, _PLACE, _FIELDS.size))
    except OSError:
        return None
