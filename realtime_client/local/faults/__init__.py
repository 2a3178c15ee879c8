"""Faults on demand: what `realtime serve --faults` and `LocalServer(faults=...)` let go wrong, and when.

`fault` and `spec` say what can be asked for, `plan` when it strikes, `line` and `messages` what it does to bytes and
messages: pure. `door`, `connection` and `stream` do it to the server's connections.
"""

from __future__ import annotations

from .fault import Fault
from .plan import FaultBook
from .spec import Faults, faults_of_file, parse_faults, read_faults

__all__ = ["Fault", "FaultBook", "Faults", "faults_of_file", "parse_faults", "read_faults"]
