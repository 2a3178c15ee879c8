"""How a run plays its cases: the same for all of them, and small enough to travel with each."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from realtime_client.errors import UsageError
from realtime_client.secret import Secret, has_secret, shown_url
from realtime_client.settings import SPECS, URLS, Settings, load_settings

LONGEST_ASKED_S = 600.0
"""The longest wait that is granted to a server that asks for one: limits are counted by the minute."""
_GIVEN: dict[str, str] = {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """How cases are played. Frozen and picklable.

    settings: where the endpoint is and what else was set (flag, environment, file); `record` and `record_dir` say
    whether and where sessions are recorded: with `record_dir=RUN/sessions`, `CaseResult.recording` is
    `sessions/NAME`. fast: audio goes out as quickly as the outbox takes it, nobody listens in real time, and a
    pause without expectations is none. Only where the server counts time by the audio that it gets, as the built-in
    one does. local: `settings.url` is a built-in server's: its answers cost nothing. ears: how many spoken turns its
    ears transcribe at a time, 0 where that is not known. retries: how often a case is begun again after a fault of the
    endpoint; a failed check is never tried again. backoff_s: the wait before the first retry, doubled for each further
    one, up to backoff_max_s (unless the server asks for longer). worker: who runs it, for the result. approve: rules by
    which a scenario's own tools may run, as of `tools.approval.rule`; None: scenarios with such tools are not played.

    Keys do not travel with it, nor URLs and proxies that hold a password or a key: where it is unpickled they come from
    `give_secrets` or from that machine's own environment. missing: settings that should hold a key and found none
    there, and URLs that are not there or lead elsewhere.
    """

    settings: Settings
    fast: bool = False
    local: bool = False
    ears: int = 0
    retries: int = 2
    backoff_s: float = 0.5
    backoff_max_s: float = 30.0
    worker: str = ""
    approve: tuple[str, ...] | None = None
    missing: tuple[str, ...] = ()

    def secrets(self) -> dict[str, str]:
        """Return the keys themselves by setting, and the URLs that hold one.

        For `give_secrets` in a process of the same user, never for a file.
        """
        values = {name: self.settings.value(name) for name, spec in SPECS.items() if spec.is_secret}
        keys = {name: value.reveal() for name, value in values.items() if isinstance(value, Secret)}
        urls = {name: self.settings.value(name) or "" for name in URLS}
        return keys | {name: url for name, url in urls.items() if has_secret(url)}

    def check(self) -> None:
        """Errors: UsageError when a key is missing here; without it, the session would be with a different server."""
        if not self.missing:
            return
        names = ", ".join(SPECS[name].env for name in self.missing)
        urls = {name: self.settings.value(name) for name in self.missing if name in URLS}
        as_here = "".join(f"; {SPECS[name].env} as {url}" for name, url in urls.items())
        raise UsageError(f"this worker has no key: set {names} in its environment (keys do not travel{as_here})")

    def __reduce__(self) -> tuple[Any, ...]:
        """Leave the keys behind; of a URL that holds one, only what may be shown travels."""
        bare = {name: shown_url(self.settings.value(name)) if name in URLS else None for name in self.secrets()}
        settings = dataclasses.replace(self.settings, **bare, sources=dict(self.settings.sources))  # type: ignore[arg-type]
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return _restore, ({**fields, "settings": settings}, tuple(bare))


def give_secrets(values: Mapping[str, str]) -> None:
    """Hold keys for the plans that this process unpickles. values: as `Plan.secrets` gives them."""
    _GIVEN.update(values)


def _restore(fields: dict[str, Any], names: tuple[str, ...]) -> Plan:
    settings: Settings = fields["settings"]
    found: dict[str, Any] = {
        name: _typed(name, _GIVEN[name]) for name in names if _fits(settings, name, _GIVEN.get(name))
    }
    if len(found) < len(names):
        own = load_settings()
        found |= {
            name: own.value(name) for name in names if name not in found and _fits(settings, name, own.value(name))
        }
    missing = tuple(name for name in names if name not in found)
    return Plan(**{**fields, "settings": dataclasses.replace(settings, **found), "missing": missing})


def _fits(settings: Settings, name: str, value: Any) -> bool:
    """Whether a value of this machine can replace the one that did not travel: a URL must lead to the same place."""
    return bool(value) and (name not in URLS or shown_url(value) == settings.value(name))


def _typed(name: str, value: str) -> Any:
    return Secret(value) if SPECS[name].is_secret else value
