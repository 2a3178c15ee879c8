"""Measuring the way from the speaker to the microphone with a sweep. Pure.

An exponential sine sweep is played and the microphone recorded (Farina, "Simultaneous measurement of impulse response
and distortion with a swept-sine technique", AES 108th Convention, 2000). Dividing the spectra gives the impulse
response of the loop, in which the distortion of a small loudspeaker stays ahead of the direct sound, at negative time.
Its peak is the delay; its decay tells how long echo lasts; the powers of what was played and heard give the loss.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
import numpy.typing as npt

from realtime_client.audio.echo.control import EchoMode
from realtime_client.audio.echo.level import EchoPath
from realtime_client.audio.echo.onset import OnsetSettings, Samples

SWEEP_S = 2.0
LEAD_S = 0.5  # silence before: what the microphone hears of it is the noise
TRAIL_S = 1.0  # silence after: the longest loop that can be measured
_LOW_HZ, _HIGH_HZ = 150.0, 8_000.0
_ROOM_S, _EXPLAINED = 0.3, 0.5
_FADE_S = 0.02
_CLEAR_DB = 20.0  # the direct sound stands out from the rest of the response by this, or nothing was heard
_CLIPPED = 32_700
_CLIPPED_SHARE = 0.001
_DECAYED_DB = 25.0
_SILENT_DBFS = -90.0

FloatSamples = npt.NDArray[np.float64]


class LoopMeasurement(msgspec.Struct, frozen=True, kw_only=True):
    """What a loop test found.

    delay_ms: from handing a sample to the speaker until the microphone delivers it. return_loss_db: how much quieter
    the echo is than what was handed over. noise_dbfs: the microphone's noise. tail_ms: until the echo has fallen by
    25 dB. clear_db: by how much the direct sound stood out.
    """

    delay_ms: float
    return_loss_db: float
    noise_dbfs: float
    tail_ms: float
    clear_db: float

    @property
    def path(self) -> EchoPath:
        """What `EchoControl` needs to know."""
        hold_ms = max(200.0, min(1_500.0, self.delay_ms + self.tail_ms + 150))
        return EchoPath(delay_ms=self.delay_ms, return_loss_db=self.return_loss_db, hold_ms=hold_ms)


class NothingHeard(msgspec.Struct, frozen=True, kw_only=True):
    """The sweep did not come back. dead: the microphone gave nothing at all, not even noise."""

    noise_dbfs: float
    dead: bool = False


class Clipped(msgspec.Struct, frozen=True, kw_only=True):
    """The microphone was overdriven: nothing can be measured. share: of the samples."""

    share: float


class Disturbed(msgspec.Struct, frozen=True, kw_only=True):
    """Another sound, such as a door, was louder than the sweep: most of what was heard is not an echo of it."""

    noise_dbfs: float


LoopResult = LoopMeasurement | NothingHeard | Clipped | Disturbed


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """What to do about echo on these devices: the mode, why, and the thresholds to go with it."""

    mode: EchoMode
    reason: str
    path: EchoPath = EchoPath()
    onset: OnsetSettings = OnsetSettings()


def sweep(rate_hz: int, level_dbfs: float = -18.0) -> Samples:
    """Return the sound to play: silence, the sweep (its RMS at level_dbfs), silence."""
    low, high = _LOW_HZ, min(_HIGH_HZ, 0.45 * rate_hz)
    time_s = np.arange(round(SWEEP_S * rate_hz)) / rate_hz
    growth = math.log(high / low)
    wave = np.sin(2 * math.pi * low * SWEEP_S / growth * (np.exp(time_s * growth / SWEEP_S) - 1))
    fade = round(_FADE_S * rate_hz)
    ramp = 0.5 - 0.5 * np.cos(math.pi * np.arange(fade) / fade)
    wave[:fade] *= ramp
    wave[-fade:] *= ramp[::-1]
    amplitude = math.sqrt(2) * 10 ** (level_dbfs / 20) * 32_767
    lead, trail = np.zeros(round(LEAD_S * rate_hz)), np.zeros(round(TRAIL_S * rate_hz))
    return np.rint(np.concatenate((lead, wave * amplitude, trail))).astype(np.int16)


def measure(recorded: Samples, rate_hz: int, played: Samples | None = None) -> LoopResult:
    """Compare what the microphone delivered with what was played (default `sweep(rate_hz)`).

    recorded: mono at rate_hz; its first sample was delivered when the first one of `played` was handed over. It should
    be as long as `played` or longer.
    """
    played = sweep(rate_hz) if played is None else played
    share = float(np.mean(np.abs(recorded.astype(np.int32)) >= _CLIPPED)) if recorded.size else 0.0
    if share > _CLIPPED_SHARE:
        return Clipped(share=share)
    heard, handed = recorded.astype(np.float64) / 32_768, played.astype(np.float64) / 32_768
    lead = round(LEAD_S * rate_hz)
    noise_dbfs = _dbfs(heard[lead // 5 : lead])  # the first moments of a stream may be an artefact
    if _dbfs(heard) < _SILENT_DBFS:
        return NothingHeard(noise_dbfs=noise_dbfs, dead=not heard.any())
    response = _impulse_response(heard, handed)
    found = _read_response(response, heard, handed, noise_dbfs, rate_hz)
    if isinstance(found, LoopMeasurement) and not _explains(response, heard, handed, found, rate_hz):
        return Disturbed(noise_dbfs=found.noise_dbfs)
    return found


def _impulse_response(heard: FloatSamples, handed: FloatSamples) -> FloatSamples:
    """Divide the spectra, where the sweep has power. Negative times are at the end."""
    size = 1 << (heard.size + handed.size - 1).bit_length()
    spectrum = np.fft.rfft(handed, size)
    power = np.abs(spectrum) ** 2
    return np.fft.irfft(np.fft.rfft(heard, size) * spectrum.conj() / (power + 1e-3 * power.max()), size)


def _explains(
    response: FloatSamples, heard: FloatSamples, handed: FloatSamples, found: LoopMeasurement, rate_hz: int
) -> bool:
    """Tell whether the response, from its peak on, explains most of what was heard above the noise.

    Another sound has a response, too, but one that is spread over seconds, as the sweep's tones are.
    """
    noise = 10 ** (found.noise_dbfs / 10)
    excess = float(np.mean(heard**2)) - noise
    if excess < 2 * noise:
        return True  # too faint to tell, and harmless for the same reason
    peak = round(found.delay_ms * rate_hz / 1000)
    room = np.zeros(response.size)
    part = slice(max(0, peak - round(0.01 * rate_hz)), peak + round(_ROOM_S * rate_hz))
    room[part] = response[part]
    made = np.fft.irfft(np.fft.rfft(room) * np.fft.rfft(handed, response.size), response.size)
    return float(np.sum(made**2)) / heard.size >= _EXPLAINED * excess


def _peak(response: FloatSamples, longest: int) -> tuple[int, float]:
    """Return where the direct sound is, and by how much it stands out from what follows the longest loop (dB)."""
    causal = np.abs(response[:longest])
    peak = int(np.argmax(causal))
    rest = float(np.sqrt(np.mean(response[longest : 2 * longest] ** 2)))
    return peak, 20 * math.log10(float(causal[peak]) / rest) if rest > 0 and causal[peak] > 0 else 0.0


def _read_response(
    response: FloatSamples, heard: FloatSamples, handed: FloatSamples, noise_dbfs: float, rate_hz: int
) -> LoopResult:
    longest = round(TRAIL_S * rate_hz)
    causal = np.abs(response[:longest])
    peak, clear_db = _peak(response, longest)
    rest = float(causal[peak]) / 10 ** (clear_db / 20)
    if clear_db < _CLEAR_DB:
        return NothingHeard(noise_dbfs=noise_dbfs)
    loss_db = _return_loss(heard, handed, peak, noise_dbfs)
    return LoopMeasurement(
        delay_ms=round(peak * 1000 / rate_hz, 1),
        return_loss_db=round(loss_db, 1),
        noise_dbfs=round(noise_dbfs, 1),
        tail_ms=_tail_ms(causal, peak, rest, rate_hz),
        clear_db=round(clear_db, 1),
    )


def _return_loss(heard: FloatSamples, handed: FloatSamples, delay: int, noise_dbfs: float) -> float:
    """Compare the powers over the sweep, with the noise subtracted."""
    lead = int(np.argmax(np.abs(handed) > 0))
    last = handed.size - int(np.argmax(np.abs(handed[::-1]) > 0))
    power = float(np.mean(heard[lead + delay : last + delay] ** 2)) if lead + delay < heard.size else 0.0
    echo = max(power - 10 ** (noise_dbfs / 10), power / 100, 1e-12)
    return 10 * math.log10(float(np.mean(handed[lead:last] ** 2)) / echo)


def _tail_ms(causal: FloatSamples, peak: int, rest: float, rate_hz: int) -> float:
    """Return how long after the direct sound blocks of 10 ms are within 25 dB of the first one, and above noise."""
    block = rate_hz // 100
    after = causal[peak:]
    count = after.size // block
    power = np.mean(after[: count * block].reshape(count, block) ** 2, axis=1)
    quiet = np.flatnonzero(power <= max(power[0] * 10 ** (-_DECAYED_DB / 10), 4 * rest**2)) if count else power
    return 10.0 * (float(quiet[0]) if quiet.size else count)


def _dbfs(samples: FloatSamples) -> float:
    power = float(np.mean(samples**2)) if samples.size else 0.0
    return 10 * math.log10(power) if power > 1e-12 else -120.0


def advise(result: LoopResult, *, aec: bool) -> Advice:
    """Recommend a mode. aec: echo cancellation is installed."""
    if isinstance(result, Clipped):
        mode = EchoMode.HALF_DUPLEX
        return Advice(mode=mode, reason="the microphone is overdriven by the speaker: turn one of them down")
    if isinstance(result, Disturbed):
        return Advice(mode=EchoMode.AUTO, reason="another sound was louder than the sweep: try again when it is quiet")
    onset = OnsetSettings(least_dbfs=max(-60.0, min(-30.0, round(result.noise_dbfs + 12))))
    if isinstance(result, NothingHeard):
        if result.dead:
            return Advice(
                mode=EchoMode.AUTO, reason="the microphone gives digital silence: it is muted or not the right one"
            )
        return Advice(mode=EchoMode.HEADPHONES, reason="the microphone does not hear the speaker", onset=onset)
    return _advise_for_echo(result, onset, aec=aec)


_FAINT_DB = 45.0
_LONGEST_FOR_AEC_MS = 450.0


def _advise_for_echo(result: LoopMeasurement, onset: OnsetSettings, *, aec: bool) -> Advice:
    loss = f"the echo is {result.return_loss_db:.0f} dB below what is played"
    if result.return_loss_db >= _FAINT_DB:
        mode, reason = EchoMode.HEADPHONES, f"{loss}: too faint to matter"
    elif result.delay_ms > _LONGEST_FOR_AEC_MS:
        mode, reason = EchoMode.HALF_DUPLEX, f"{loss} and {result.delay_ms:.0f} ms late: too late to cancel"
    elif aec:
        mode, reason = EchoMode.AEC, f"{loss}, {result.delay_ms:.0f} ms late"
    else:
        mode, reason = EchoMode.HALF_DUPLEX, f"{loss}, and the extra aec is not installed"
    return Advice(mode=mode, reason=reason, path=result.path, onset=onset)
