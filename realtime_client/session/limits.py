"""Time limits and queue sizes of one session."""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """All in seconds, messages or bytes; 0 turns a time limit off where that makes sense.

    open_timeout_s: TCP, TLS, handshake and the server's greeting together.
    read_timeout_s: longest silence of the server, pongs included; 0 for none.
    write_timeout_s: how long a call may wait for room in the outbox.
    ping_interval_s, pong_timeout_s: the keep-alive; an interval of 0 turns it off.
    close_timeout_s: the one deadline of the whole shutdown.
    answer_timeout_s: how long a request may stay without an answer that begins; then it is given up, and an answer that
    comes later is still shown; 0 for no limit.
    inbound_queue, inbound_bytes: what was read together, between the receive and the audio thread; when full, reading
    waits.
    outbox_queue, outbox_bytes: messages to the send thread, and what they carry; when full, callers wait, then fail.
    updates_queue: updates a reader may lag behind; beyond it the reader gets an error.
    max_frame_bytes: a longer frame ends the connection.
    ack_timeout_s: how long the server's system may leave unacknowledged what it is sent, where ours tells (Linux); then
    the network is gone; 0: the pong alone decides.
    busy_timeout_s: how long a pong may take while the server's system does acknowledge; 0 for no limit.
    """

    open_timeout_s: float = 10.0
    read_timeout_s: float = 0.0
    write_timeout_s: float = 10.0
    ping_interval_s: float = 10.0
    pong_timeout_s: float = 10.0
    close_timeout_s: float = 5.0
    answer_timeout_s: float = 30.0
    inbound_queue: int = 512
    inbound_bytes: int = 32 * 2**20
    outbox_queue: int = 2048
    outbox_bytes: int = 8 * 2**20
    updates_queue: int = 8192
    max_frame_bytes: int = 64 * 2**20
    ack_timeout_s: float = 4.0
    busy_timeout_s: float = 60.0


class Recovery(msgspec.Struct, frozen=True, kw_only=True):
    """What happens when the connection of a session is lost, or is about to reach the server's time limit.

    reconnect_s: how long a lost connection is tried again, counted from the loss; 0: not at all. restore_tokens: the
    most of the conversation that a new session is told, in tokens (estimated); the oldest entries go first.
    keep_audio_s: how much of the user's sound is kept until it is part of the conversation; beyond it the oldest is
    lost. rollover_s: how long a session lasts where the server does not say when it expires; the conversation moves to
    a new one before; 0: it stays until it is lost.
    """

    reconnect_s: float = 300.0
    restore_tokens: int = 16_000
    keep_audio_s: float = 300.0
    rollover_s: float = 3600.0


NO_RECOVERY = Recovery(reconnect_s=0.0, rollover_s=0.0)
"""One connection, and no other after it."""


class ToolLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much tools may take.

    timeout_s: longest work on one call, unless its tool has a limit of its own. at_once: calls that are worked on at
    the same time; others wait. open_calls: calls that wait, are asked about or worked on; more are refused.
    approval_s: how long a question whether a call is allowed waits for an answer. result_characters: longest output
    that the model gets; a longer one is cut, and says so. argument_bytes: longest arguments that are read.
    """

    timeout_s: float = 60.0
    at_once: int = 8
    open_calls: int = 256
    approval_s: float = 300.0
    result_characters: int = 32_000
    argument_bytes: int = 262_144
