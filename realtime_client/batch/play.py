"""Playing one case: a session is opened, the steps are said in it, and what comes back is judged."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from realtime_client.client.listeners import Observer

from .plan import Plan
from .result import CaseResult
from .scenario import Case


def play_case(
    case: Case, plan: Plan, *, stop: threading.Event | None = None, observers: Sequence[Observer] = ()
) -> CaseResult:
    """Play one case to its end and judge it. Never raises on account of the endpoint: that is in the result.

    stop: set from outside, it ends the case soon, as `error` with a fault of kind `Stopped`. observers: get every
    update of every session, as `client.observe(..., direct=True)` gives them.
    """
    raise NotImplementedError
