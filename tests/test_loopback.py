"""Which hosts are this machine: the same everywhere that trusts them more."""

from __future__ import annotations

import pytest

from realtime_client.batch.judging.prices import is_own
from realtime_client.loopback import is_loopback
from realtime_client.settings import load_settings
from realtime_client.settings.target import endpoint
from realtime_client.tools.mcp.spec import server_specs

HOSTS = [
    ("localhost", True),
    ("LOCALHOST", True),
    ("127.0.0.1", True),
    ("127.5.5.5", True),
    ("::1", True),
    ("127.evil.example", False),
    ("127.0.0.1.evil.example", False),
    ("localhost.evil.example", False),
    ("192.168.0.1", False),
    ("::ffff:10.0.0.1", False),
    ("", False),
]


@pytest.mark.parametrize(("host", "near"), HOSTS)
def test_which_hosts_are_this_machine(host: str, near: bool):
    assert is_loopback(host) is near
    assert is_own(host, "sess_local_1") is near
    if host and ":" not in host:
        (spec,) = server_specs([f"http://{host}/mcp"])
        assert ("(not encrypted)" not in spec.shown) is near
        place = endpoint(load_settings({"url": f"ws://{host}/v1/realtime"}, environ={}))
        assert ("(not encrypted)" not in place.name) is near
