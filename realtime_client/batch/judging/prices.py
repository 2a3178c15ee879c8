"""What tokens cost. Pure.

The table holds what OpenAI's model pages stated (developers.openai.com/api/docs/models/NAME, each read in full on
20 November 2026), in US dollars for a million tokens. A model that is not there has no price here: give `prices` in the
scenario. Not counted: the transcription of the user's audio, which is billed apart by another model's price, and what a
judge costs.
"""

from __future__ import annotations

import re

from realtime_client.batch.scenario import Prices
from realtime_client.loopback import is_loopback
from realtime_client.updates import OWN_SESSION, Usage

_MILLION = 1_000_000
FREE = Prices()

_LARGE_AUDIO = {
    "input_text": 4.0,
    "cached_text": 0.4,
    "input_audio": 32.0,
    "cached_audio": 0.4,
    "output_audio": 64.0,
    "input_image": 5.0,
    "cached_image": 0.5,
}
_MINI = Prices(
    input_text=0.6,
    cached_text=0.06,
    output_text=2.4,
    input_audio=10.0,
    cached_audio=0.3,
    output_audio=20.0,
    input_image=0.8,
    cached_image=0.08,
)
TABLE: dict[str, Prices] = {
    "gpt-realtime-1.5": Prices(**_LARGE_AUDIO, output_text=16.0),
    "gpt-realtime-2": Prices(**_LARGE_AUDIO, output_text=24.0),
    "gpt-realtime-2.1": Prices(**_LARGE_AUDIO, output_text=24.0),
    "gpt-realtime-2.1-mini": _MINI,
    "gpt-4o-mini-realtime-preview": Prices(
        input_text=0.6, cached_text=0.3, output_text=2.4, input_audio=10.0, cached_audio=0.3, output_audio=20.0
    ),
}
_DATE = re.compile(r"-\d{4}-\d{2}-\d{2}$")


def prices_of(model: str, host: str = "") -> Prices | None:
    """Return a model's prices, a dated snapshot's being those of its model; None when they are not known.

    model: a text model's with its provider, for prices are a provider's: what Ollama runs costs nothing a token, but
    at `host` ollama.com, where it is paid for.
    """
    if model.startswith("ollama/"):
        return None if host.partition(":")[0] == "ollama.com" else FREE
    return TABLE.get(_DATE.sub("", model))


def is_own(host: str, session_id: str) -> bool:
    """Return whether a session was with a server of this package on this machine, which costs nothing.

    The server says that it is one by its sessions' ids; of a host elsewhere that is not believed.
    """
    return is_loopback(host) and session_id.startswith(f"{OWN_SESSION}_")


def cost_usd(usage: Usage, prices: Prices) -> float | None:
    """Return what these tokens cost in US dollars.

    Cached tokens are a subset of the input tokens of the same kind, at their own price. None when the server stated
    totals without the kinds of tokens: they cannot be priced.
    """
    inputs = usage.input_text + usage.input_audio + usage.input_image
    outputs = usage.output_text + usage.output_audio
    if (usage.input_tokens and not inputs) or (usage.output_tokens and not outputs):
        return None
    total = usage.output_text * prices.output_text + usage.output_audio * prices.output_audio
    for kind in ("text", "audio", "image"):
        count, cached = getattr(usage, f"input_{kind}"), getattr(usage, f"cached_{kind}")
        cached = min(count, cached)
        total += (count - cached) * getattr(prices, f"input_{kind}") + cached * getattr(prices, f"cached_{kind}")
    return float(total / _MILLION)
