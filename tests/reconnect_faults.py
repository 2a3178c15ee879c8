"""The faults that a session must outlive, or end at as it should, and the moments at which they strike."""

from __future__ import annotations

from typing import NamedTuple

MOMENTS = ("idle", "user speaking", "speaking, server_vad", "answer streaming", "tool call open")
_NOW = "@conversation.item.retrieve"
"""The moment: the stage sends this message then."""
_LATER = f"rst{_NOW}@connections=1; "
"""It is lost, and something is wrong with what comes after it."""


class Case(NamedTuple):
    """A fault. spec: for the server. heals: whether it must be restored, None where both is right.

    ends: the error that the session ends with, and the connections that are made until then. silent: only pings tell.
    """

    name: str
    spec: str
    heals: bool | None = True
    ends: str = ""
    connections: int = 1
    silent: bool = False


def _stays(name: str, spec: str) -> Case:
    return Case(name, spec, heals=False)


def _ends(name: str, spec: str, error: str, connections: int = 1) -> Case:
    return Case(name, spec, ends=error, connections=connections)


def _once(spec: str) -> str:
    return f"{spec}@connections=1"


FAULTS = (
    # the connection ends
    Case("close 1001, going away", _once(f"close:1001{_NOW}")),
    Case("close 1011, failed", _once(f"close:1011{_NOW}")),
    Case("close 1012, restart", _once(f"close:1012{_NOW}")),
    Case("close 1013, overloaded", _once(f"close:1013{_NOW}")),
    Case("close 1014, bad gateway", _once(f"close:1014{_NOW}")),
    Case("close 4500, unknown", _once(f"close:4500{_NOW}")),
    Case("TCP reset", _once(f"rst{_NOW}")),
    Case("TCP end without close", _once(f"eof{_NOW}")),
    Case("expired", _once(f"expire{_NOW}")),
    Case("an error, then close 1000", f"error:server_error{_NOW}@connections=1; close:1000{_NOW}@connections=1"),
    # it stands still
    Case("stands still", _once(f"half-open{_NOW}"), silent=True),
    Case("reads nothing", _once(f"stall-reads{_NOW}"), silent=True),
    Case("no pongs", _once(f"no-pongs{_NOW}"), silent=True),
    # it comes back late, or only to be lost again
    Case("reset, then HTTP 502 twice", _LATER + "refuse:502@connections=2-3"),
    Case("reset, then HTTP 503, Retry-After", _LATER + "refuse:503,Retry-After=1@connections=2"),
    Case("reset, then HTTP 500", _LATER + "refuse:500@connections=2"),
    Case("reset, then HTTP 429, rate", _LATER + "refuse:429@connections=2"),
    Case("reset, then HTTP 404 once", _LATER + "refuse:404@connections=2"),
    Case("reset, then no answer", _LATER + "no-answer@connections=2"),
    Case("reset, then 5 refusals", _LATER + "refuse:503@connections=2-6"),
    Case("reset, and at the greeting", _LATER + "rst@session.created@connections=2"),
    Case("reset, and at the settings", _LATER + "rst@session.update@connections=2"),
    Case("reset, and at their confirmation", _LATER + "eof@session.updated@connections=2"),
    Case("reset, and at the first item", _LATER + "rst@conversation.item.create@connections=2"),
    Case("reset, and at the third item", _LATER + "close:1011@conversation.item.create#3@connections=2"),
    Case("reset, and at items' confirmation", _LATER + "close:1012@conversation.item.done#2@connections=2"),
    Case("reset, and after 2 kB", _LATER + "rst@sent=2k@connections=2"),
    Case("reset, and amid what is told", _LATER + "rst@received=500@connections=2"),
    Case("reset, then it stands still", _LATER + "half-open@session.update@connections=2"),
    Case("reset thrice", f"rst{_NOW}@connections=1; rst@session.updated@connections=2-3"),
    Case("reset, and at the next answer", _LATER + "rst@response.created@connections=2"),
    Case("reset, and amid the next answer", _LATER + "rst@response.output_audio.delta#2@connections=2"),
    Case("reset, and before its end", _LATER + "rst@response.done@connections=2"),
    # a server that confirms nothing, or slowly
    Case("reset, settings not confirmed", _LATER + "drop@session.updated@connections=2"),
    Case("reset, items not confirmed", _LATER + "drop@conversation.item.*@server@connections=2"),
    Case("reset, then 100 ms late", _LATER + "delay:100ms,jitter=50ms@connections=2"),
    Case("reset, then 40 kB/s", _LATER + "bandwidth:40k@connections=2"),
    # the line is bad, and holds
    _stays("100 ms late, with jitter", "delay:100ms,jitter=100ms"),
    _stays("200 kB/s", "bandwidth:200k"),
    _stays("drips 500 bytes at a time", "drip:500,every=1ms"),
    _stays("messages in fragments", "split:7@*@server"),
    _stays("confirmations twice", "duplicate@conversation.item.*@server"),
    _stays("an error that says nothing", f"error:server_error{_NOW}"),
    _stays("late pongs", "late-pongs:300ms"),
    _stays("half a character", "corrupt:surrogate@conversation.item.retrieved"),
    _stays("invalid text", "corrupt:utf8@conversation.item.retrieved"),
    _stays("a message cut short", "corrupt:json@conversation.item.retrieved"),
    _stays("stands still for 1 s", f"half-open,for=1s{_NOW}"),
    # what would only happen again
    _ends("close 1008, policy", f"close:1008{_NOW}", "SessionEndedError"),
    _ends("close 3000, key", f"close:3000{_NOW}", "SessionEndedError"),
    _ends("close 4000, refused", f"close:4000{_NOW}", "SessionEndedError"),
    _ends("close 1009, too long", f"close:1009{_NOW}", "SessionEndedError"),
    _ends("close 1002, protocol", f"close:1002{_NOW}", "SessionEndedError"),
    _ends("quota, then close", f"error:insufficient_quota{_NOW}; close:1011{_NOW}", "SessionEndedError"),
    _ends("reset, then HTTP 401", _LATER + "refuse:401@connections=2-", "AuthenticationError", 2),
    _ends("reset, then HTTP 403", _LATER + "refuse:403@connections=2-", "AuthenticationError", 2),
    _ends("reset, then HTTP 400", _LATER + "refuse:400@connections=2-", "SessionRefusedError", 2),
)

# --- several at once --------------------------------------------------------------------------------------------------

ENDS = ("rst", "eof", "expire", *(f"close:{code}" for code in (1001, 1011, 1012, 1013)))
WHEN_FIRST = (
    _NOW,
    "@response.created#3",
    "@response.output_audio.delta#14",
    "@response.done#3",
    "@input_audio_buffer.append#30",
    "@conversation.item.create#2",
    "@conversation.item.added#3@server",
    "@received=20k",
)
"""Of the first connection: once it is open."""
WHEN_LATER = (
    "@session.created",
    "@session.update",
    "@session.updated",
    "@conversation.item.create#2",
    "@conversation.item.done#3",
    "@response.create",
    "@response.created",
    "@response.output_audio.delta#2",
    "@response.done",
    "@input_audio_buffer.append",
    "@input_audio_buffer.committed",
    "@sent=1500",
    "@received=2k",
)
REFUSALS = ("refuse:429", "refuse:500", "refuse:502", "refuse:503")
LINES = ("delay:20ms,jitter=20ms", "bandwidth:300k", "drip:700,every=1ms", "split:50@*@server")
