"""Where a run is played: the executor, and the plan and the settings that fit it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from realtime_client.batch.plan import Plan
from realtime_client.batch.result import CaseResult
from realtime_client.batch.scenario import Case
from realtime_client.secret import Secret
from realtime_client.settings import FLAG, Settings

from .run import Play


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """What `run` needs. stop: ends running sessions soon. kill: ends the workers, None where that cannot be done.

    send, receive, play: as of `run`.
    """

    plan: Plan
    executor: Executor
    play: Play
    stop: Callable[[], object]
    kill: Callable[[], object] | None = None
    send: Callable[[Case], Case] = lambda case: case
    receive: Callable[[Any], CaseResult] = lambda result: result


def at_server(settings: Settings, url: str, token: str) -> Settings:
    """Return the settings for a built-in server at `url`: no proxy, and no key but its token."""
    sources = {**settings.sources, "url": (FLAG, "built-in server")}
    own = without_keys(settings)
    return dataclasses.replace(own, url=url, token=Secret(token), local=False, proxy="none", sources=sources)


def without_keys(settings: Settings) -> Settings:
    """Return the settings without any key, for whoever needs none."""
    return dataclasses.replace(
        settings, token=None, api_key=None, azure_api_key=None, azure_ad_token=None, organization=None, project=None
    )
