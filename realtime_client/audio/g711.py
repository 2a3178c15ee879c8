"""G.711, the telephone's codec: mu-law and A-law, 8 bits a sample.

After ITU-T G.711 (and, for the treatment of 16-bit input, the reference code of ITU-T G.191: mu-law takes the upper 14
bits, A-law the upper 13). Both directions are table look-ups: 65,536 entries to encode, 256 to decode.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from realtime_client.errors import UsageError

LAWS = ("ulaw", "alaw")
_MU_BIAS = 33  # G.711 table 2a: makes every segment border a power of two, in 14-bit units
_MU_TOP = 8191  # the biased magnitude has 13 bits; without the clip the top input overflows into a ninth segment


def encode(pcm: bytes, law: str) -> bytes:
    """Return the codes of 16-bit little-endian mono PCM, one byte a sample.

    law: `ulaw` or `alaw`, else UsageError. An incomplete last sample is left out.
    """
    import numpy as np

    return bytes(_encode_table(law)[np.frombuffer(pcm, "<u2", len(pcm) // 2)].tobytes())


def decode(codes: bytes, law: str) -> bytes:
    """Return 16-bit little-endian mono PCM, two bytes for each code. law: `ulaw` or `alaw`, else UsageError."""
    import numpy as np

    return bytes(_decode_table(law)[np.frombuffer(codes, np.uint8)].tobytes())


def _check(law: str) -> None:
    if law not in LAWS:
        raise UsageError(f"no such G.711 law: {law!r} (ulaw or alaw)")


@cache
def _encode_table(law: str) -> Any:
    """Index: the 16 bits of a sample, unsigned."""
    import numpy as np

    _check(law)
    samples = np.arange(65_536, dtype=np.uint16).view(np.int16).astype(np.int32)
    return (_mu_codes(samples) if law == "ulaw" else _a_codes(samples)).astype(np.uint8)


@cache
def _decode_table(law: str) -> Any:
    """Index: the code."""
    import numpy as np

    _check(law)
    codes = np.arange(256, dtype=np.int32)
    return (_mu_samples(codes) if law == "ulaw" else _a_samples(codes)).astype("<i2")


def _segment(magnitude: Any, first_bit: int) -> Any:
    """Number of the chord: how far the highest set bit is above `first_bit`, at least 0."""
    import numpy as np

    top = np.floor(np.log2(np.maximum(magnitude, 1))).astype(np.int32)
    return np.maximum(top - first_bit, 0)


def _mu_codes(samples: Any) -> Any:
    import numpy as np

    value = samples >> 2
    magnitude = np.minimum(np.abs(value) + _MU_BIAS, _MU_TOP)
    segment = _segment(magnitude, 5)
    code = (segment << 4) | ((magnitude >> (segment + 1)) & 0x0F)
    return code ^ np.where(value < 0, 0x7F, 0xFF)


def _a_codes(samples: Any) -> Any:
    import numpy as np

    value = samples >> 3
    magnitude = np.where(value < 0, -value - 1, value)
    segment = _segment(magnitude, 4)
    code = (segment << 4) | ((magnitude >> np.maximum(segment, 1)) & 0x0F)
    return code ^ np.where(value < 0, 0x55, 0xD5)  # even bits inverted, sign bit set for positive


def _mu_samples(codes: Any) -> Any:
    import numpy as np

    code = ~codes & 0xFF
    magnitude = ((((code & 0x0F) << 3) + (_MU_BIAS << 2)) << ((code & 0x70) >> 4)) - (_MU_BIAS << 2)
    return np.where(code & 0x80, -magnitude, magnitude)


def _a_samples(codes: Any) -> Any:
    import numpy as np

    code = codes ^ 0x55
    segment = (code & 0x70) >> 4
    step = ((code & 0x0F) << 4) + 8
    magnitude = np.where(segment == 0, step, (step + 0x100) << np.maximum(segment - 1, 0))
    return np.where(code & 0x80, magnitude, -magnitude)
