"""What a session cost, as far as that can be known. Pure."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import msgspec

from realtime_client.batch.judging.prices import FREE, cost_usd, is_own, prices_of
from realtime_client.updates import Usage

from .fields import number, table, text

_PRICED = ("openai.com", "openai.azure.com")


def dollars(value: float) -> str:
    """Return an amount for people, in US dollars."""
    return "$0" if value == 0 else f"${value:,.4f}"


def is_local(info: dict[str, Any]) -> bool:
    """Return whether a session was with the built-in server, asked for or for lack of another.

    Before version 2 that was recorded only where it was asked for; otherwise an address on this machine that no setting
    names was the built-in server's.
    """
    settings = table(info, "settings")
    if settings.get("local") is True:
        return True
    if (number(info, "version") or 0) >= 2:
        return False
    host = _host(text(settings, "endpoint"))
    named = any(text(settings, name) for name in ("url", "base_url", "azure_endpoint"))
    return host in ("127.0.0.1", "localhost", "::1") and not named


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def session_cost(info: dict[str, Any], *, local: bool = False) -> tuple[float | None, str]:
    """Return the cost in US dollars, None when it is not known, and where the figure comes from.

    What session.json states goes first. Else tokens are priced by the table of list prices, but only where those
    prices hold: at OpenAI's own address and Azure's. local: it was the built-in server, which costs nothing.
    """
    stated = number(info, "cost_usd")
    if stated is not None:
        return stated, "as the session states it"
    host = _host(text(table(info, "settings"), "endpoint"))
    if local or is_local(info) or is_own(host, text(info, "session_id")):
        return 0.0, "the built-in server costs nothing"
    if table(info, "fallbacks"):
        return None, "not known: more than one model was asked"
    try:
        usage = msgspec.convert(table(info, "usage"), Usage)
    except (ValueError, msgspec.ValidationError):
        return None, "not known"
    prices = prices_of(text(info, "model"), host)
    if prices is FREE:
        return 0.0, "a model of one's own costs nothing a token"
    if prices is None or not any(host == name or host.endswith("." + name) for name in _PRICED):
        return None, "prices of this model at this address are not known"
    return cost_usd(usage, prices), "list prices of November 2026; transcription of your speech is not counted"
