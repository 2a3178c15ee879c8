"""Prometheus text: the format itself, over HTTP, and of a live session."""

from __future__ import annotations

import http.client
import math
import re
import socket
import threading
import urllib.error
import urllib.request

import pytest
from run_players import make_cases, result_of

import realtime_client
from realtime_client.batch.result import Fault
from realtime_client.batch.running.run_metrics import RunMetrics
from realtime_client.errors import UsageError
from realtime_client.telemetry.endpoint import metrics_endpoint
from realtime_client.telemetry.metrics import MOST_SERIES, Registry

LIMIT_S = 30.0
# One sample line of the exposition format 0.0.4.
SAMPLE = re.compile(
    r'[a-zA-Z_:][a-zA-Z0-9_:]*(\{([a-zA-Z_][a-zA-Z0-9_]*="([^"\\\n]|\\[\\"n])*",?)*\})? '
    r"(-?[0-9.]+(e[+-]?[0-9]+)?|[+-]Inf|NaN)"
)


def check_format(text: str) -> dict[str, str]:
    """Every line fits the format, HELP and TYPE come first, no sample comes twice; returns the samples."""
    assert text.endswith("\n")
    samples: dict[str, str] = {}
    declared = ""
    for line in text.splitlines():
        if line.startswith("# "):
            declared = line.split()[2]
            continue
        assert SAMPLE.fullmatch(line), line
        name, value = line.rsplit(" ", 1)
        assert name.startswith(declared)
        assert name not in samples
        samples[name] = value
    return samples


def test_counters_gauges_and_histograms():
    registry = Registry()
    counter = registry.counter("a_total", "how many\n\\ there are", ["kind"])
    gauge = registry.gauge("b", "how much")
    histogram = registry.histogram("c_seconds", "how long", bounds=[0.1, 1])
    counter.add(2, 'x"\\\n')
    counter.add(-5, "y")
    gauge.add(-1.5)
    for value in (0.05, 0.1, 0.5, 7):
        histogram.observe(value)
    text = registry.render()
    assert "# HELP a_total how many\\n\\\\ there are\n# TYPE a_total counter\n" in text
    assert check_format(text) == {
        'a_total{kind="x\\"\\\\\\n"}': "2",
        'a_total{kind="y"}': "0",
        "b": "-1.5",
        'c_seconds_bucket{le="0.1"}': "2",
        'c_seconds_bucket{le="1"}': "3",
        'c_seconds_bucket{le="+Inf"}': "4",
        "c_seconds_sum": "7.65",
        "c_seconds_count": "4",
    }
    gauge.set(math.nan)
    assert check_format(registry.render())["b"] == "NaN"
    with pytest.raises(ValueError, match="labels"):
        counter.add(1)


def test_foreign_words_do_not_fill_the_memory():
    registry = Registry()
    counter = registry.counter("a_total", "t", ["word"])
    for number in range(MOST_SERIES * 2):
        counter.add(1, str(number))
    samples = check_format(registry.render())
    assert len(samples) == MOST_SERIES + 1
    assert samples['a_total{word="other"}'] == str(MOST_SERIES)


def test_counting_from_many_threads_loses_nothing():
    registry = Registry()
    counter = registry.counter("a_total", "t")
    threads = [threading.Thread(target=lambda: [counter.add() for _ in range(2000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert check_format(registry.render()) == {"a_total": "8000"}


# --- over HTTP --------------------------------------------------------------------------------------------------------


def get(url: str, **headers: str) -> tuple[int, str, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=LIMIT_S) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        error.close()
        return error.code, "", ""


def test_figures_over_http_on_loopback_only():
    with metrics_endpoint(0, lambda: "a 1\n") as url:
        assert url.startswith("http://127.0.0.1:")
        assert get(url) == (200, "text/plain; version=0.0.4; charset=utf-8", "a 1\n")
        assert get(url.replace("metrics", ""))[0] == 404
        assert get(url, Host="evil.example:80")[0] == 403
        port = int(url.split(":")[2].split("/")[0])
        with pytest.raises(UsageError, match="cannot serve metrics"), metrics_endpoint(port, str):
            pass
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
        client.request("POST", "/metrics", body=b"x")
        assert client.getresponse().status == 501
        client.close()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_a_live_session():
    port = free_port()
    with realtime_client.connect(local=True, record=False, metrics_port=port, modality="text") as client:
        client.ask("What is two plus three?")
        samples = check_format(get(f"http://127.0.0.1:{port}/metrics")[2])
    assert samples["realtime_sessions_running"] == "1"
    assert samples['realtime_answers_total{status="completed"}'] == "1"
    assert samples['realtime_latency_seconds_count{latency="answer"}'] == "1"
    assert int(samples['realtime_bytes{direction="in"}']) > 500
    assert int(samples['realtime_tokens_total{direction="out"}']) > 0
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), 5)


def test_a_run():
    first, second, third = make_cases(3)
    metrics = RunMetrics(3)
    fault = Fault(kind="HostUnreachableError", message="no", infrastructure=True)
    for case in (first, second, third):
        metrics.began(case, 1)
    metrics.again(first, fault)
    metrics.began(first, 2)
    traffic = {"bytes_in": 10, "bytes_out": 4, "rtt_ms": 1.5, "underruns": 2}
    metrics.finished(result_of(first, cost_usd=0.5, traffic=traffic))
    metrics.finished(result_of(second, "failed", latencies={"answer": [300.0]}))
    samples = check_format(metrics.render())
    assert samples["realtime_sessions_running"] == "1"
    assert samples['realtime_cases_total{status="failed"}'] == "1"
    assert samples['realtime_checks_total{outcome="failed"}'] == "1"
    assert samples['realtime_retries_total{fault="HostUnreachableError"}'] == "1"
    assert samples['realtime_latency_seconds_bucket{latency="answer",le="0.5"}'] == "1"
    assert samples['realtime_latency_seconds_bucket{latency="answer",le="0.25"}'] == "0"
    assert samples['realtime_bytes_total{direction="in"}'] == "10"
    assert samples["realtime_underruns_total"] == "2"
    assert samples["realtime_cost_dollars_total"] == "0.5"
