"""Limits of tools."""

from __future__ import annotations

import msgspec


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
