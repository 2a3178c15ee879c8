"""A half-open connection on purpose: one end hears nothing any more, and the other is not told.

So it is when a cable is pulled, a laptop sleeps, or a router forgets a connection. A socket filter that takes no packet
at all (socket(7), SO_ATTACH_FILTER) drops each segment before it is acknowledged; no rights are needed for it.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
import time

_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27  # asm-generic/socket.h; the `socket` module does not name them
_TAKE_NOTHING = struct.pack("=HBBI", 0x06, 0, 0, 0)  # BPF_RET | BPF_K, 0 bytes: linux/filter.h
_OWN_WORDS_S = 0.2


def stop_acknowledging(sock: socket.socket) -> bool:
    """Drop all that arrives from now on, unacknowledged. False where that cannot be done: Linux only.

    What this end itself has sent it would go on repeating, which the other end would hear: it waits until that is
    acknowledged, 0.2 s at most. So nothing must be written meanwhile, nor later. Closing the socket tells the other.
    """
    if sys.platform != "linux":
        return False
    deadline_s = time.monotonic() + _OWN_WORDS_S
    while _unacknowledged(sock) and time.monotonic() < deadline_s:
        time.sleep(0.001)
    program = ctypes.create_string_buffer(_TAKE_NOTHING, len(_TAKE_NOTHING))
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", 1, ctypes.addressof(program)))
    except OSError:  # sandboxes that know no filters
        return False
    return True


def acknowledge_again(sock: socket.socket) -> None:
    """End what `stop_acknowledging` began: the network is back."""
    sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


def _unacknowledged(sock: socket.socket) -> int:
    """How many bytes that were sent are not acknowledged (tcp(7), SIOCOUTQ)."""
    import fcntl
    import termios

    return struct.unpack("@i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0]  # type: ignore[no-any-return]
