"""The server's side under any order of requests and work: nothing raises, and its promises hold."""

from __future__ import annotations

import base64
import json
import os
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from local_helpers import Drive

from realtime_client.protocol.server.conversation import ServerLimits

EXAMPLES = int(os.environ.get("REALTIME_TEST_EXAMPLES", "150"))
FEW = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])

SOUND = base64.b64encode(bytes(4_800)).decode()
VADS: list[Any] = [None, {"type": "server_vad"}, {"type": "semantic_vad", "create_response": False}]
VADS += [{"type": "server_vad", "interrupt_response": False, "idle_timeout_ms": 5_000}]


def _request(kind: str, **fields: Any) -> tuple[str, Any]:
    return ("send", {"type": kind, **fields})


def _message(role: str, part: dict[str, Any]) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": [part]}


known = st.integers(0, 5).map(lambda n: f"#{n}")  # stands for the n-th item that exists
item_ids = st.one_of(known, st.sampled_from(["root", "nowhere"]))
items = st.sampled_from(
    [
        _message("user", {"type": "input_text", "text": "hi"}),
        _message("user", {"type": "input_audio", "audio": SOUND}),
        _message("assistant", {"type": "output_text", "text": "hi"}),
        _message("assistant", {"type": "output_audio", "audio": SOUND}),
        {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "c"},
        {"type": "function_call_output", "call_id": "c", "output": "x"},
        {"type": "message", "id": "chosen", "role": "user", "content": []},
        {"type": "nothing"},
    ]
)
responses = st.sampled_from(
    [
        None,
        {"conversation": "none", "metadata": {"a": "b"}},
        {"conversation": "none", "input": []},
        {"input": [_message("user", {"type": "input_audio", "audio": SOUND})]},
        {"output_modalities": ["text"]},
        {"max_output_tokens": 5},
        {"tools": 5},
    ]
)
requests = st.one_of(
    st.just(_request("input_audio_buffer.append", audio=SOUND)),
    st.just(_request("input_audio_buffer.commit")),
    st.just(_request("input_audio_buffer.clear")),
    st.just(_request("response.cancel")),
    st.just(_request("nonsense")),
    st.builds(lambda r: _request("response.create", response=r, event_id="e"), responses),
    st.builds(
        lambda i, p: _request("conversation.item.create", item=i, previous_item_id=p), items, st.none() | item_ids
    ),
    st.builds(lambda i: _request("conversation.item.delete", item_id=i), item_ids),
    st.builds(lambda i: _request("conversation.item.retrieve", item_id=i), item_ids),
    st.builds(
        lambda i, c, m: _request("conversation.item.truncate", item_id=i, content_index=c, audio_end_ms=m),
        item_ids,
        st.integers(-1, 1),
        st.integers(-5, 400),
    ),
    st.builds(
        lambda v: _request("session.update", session={"type": "realtime", "audio": {"input": {"turn_detection": v}}}),
        st.sampled_from(VADS),
    ),
    st.builds(
        lambda t: _request("session.update", session={"type": "realtime", "audio": {"input": {"transcription": t}}}),
        st.sampled_from([None, {"model": "w"}]),
    ),
)
work = st.one_of(
    st.tuples(st.sampled_from(["say", "call", "finish", "fail"]), st.integers(0, 3)),
    st.tuples(st.sampled_from(["started", "stopped"]), st.integers(-100, 2_000)),
    st.tuples(st.sampled_from(["heard", "not_heard"]), st.integers(0, 3)),
    st.tuples(st.just("tick"), st.integers(0, 100)),
)
scripts = st.lists(st.one_of(requests, requests, work), max_size=40)


class _Run:
    """Carries a script out, with the ids that the conversation made up."""

    def __init__(self) -> None:
        self.drive = Drive(limits=ServerLimits(max_item_audio_bytes=40_000, max_items=12, max_parallel=3))
        self.now_s = 0.0
        self.asked: list[Any] = []

    def step(self, kind: str, value: Any) -> None:
        c = self.drive.conversation
        if kind == "send":
            self.drive.frame(json.dumps(self._named(value)))
        elif kind == "tick":
            self.now_s += value
            self.drive.take(c.tick(self.now_s))
        elif kind == "started":
            self.drive.take(c.speech_started(value))
        elif kind == "stopped":
            self.drive.take(c.speech_stopped(value))
        elif kind in {"heard", "not_heard"}:
            for ask in [w for w in self.drive.work if hasattr(w, "content_index")][value : value + 1]:
                self.drive.take(getattr(c, kind)(ask.item_id, ask.content_index, "words"))
        else:
            self._produce(kind, value)

    def _named(self, request: dict[str, Any]) -> dict[str, Any]:
        known = [entry.id for entry in self.drive.conversation.items]
        named = dict(request)
        for field in ("item_id", "previous_item_id"):
            wanted = named.get(field)
            if isinstance(wanted, str) and wanted.startswith("#"):
                named[field] = known[int(wanted[1:]) % len(known)] if known else "nowhere"
        return named

    def _produce(self, kind: str, value: int) -> None:
        c = self.drive.conversation
        begun = [e["response"]["id"] for e in self.drive.all if e["type"] == "response.created"]
        response_id = begun[value % len(begun)] if begun else "resp_none"
        c.brief(response_id)
        arguments: dict[str, tuple[Any, ...]] = {
            "say": ("hi ", bytes(9_600)),
            "call": ("f", '{"a": 1}'),
            "fail": ("x",),
        }
        self.drive.take(getattr(c, kind)(response_id, *arguments.get(kind, ())))

    def end(self) -> None:
        """Finish what runs, so that each response must have its end."""
        for event in list(self.drive.all):
            if event["type"] == "response.created":
                self.drive.take(self.drive.conversation.finish(event["response"]["id"]))


def _check_responses(events: list[dict[str, Any]]) -> None:
    """Each response: created once, done once, nothing of it outside; one at a time in the conversation."""
    open_now: dict[str, bool] = {}
    done: set[str] = set()
    for event in events:
        response_id = event.get("response_id") or (event.get("response") or {}).get("id")
        if response_id is None:
            continue
        if event["type"] == "response.created":
            assert response_id not in open_now
            assert response_id not in done
            in_conversation = event["response"]["conversation_id"] is not None
            assert not (in_conversation and any(open_now.values())), "a second active response"
            open_now[response_id] = in_conversation
        else:
            assert response_id in open_now, event["type"]
        if event["type"] == "response.done":
            assert event["response"]["status"] != "in_progress"
            del open_now[response_id]
            done.add(response_id)
    assert not open_now


def _check_items_of_responses(events: list[dict[str, Any]]) -> None:
    """Each output item: added, parts and deltas, done; the deltas put together are what `done` says."""
    state: dict[str, str] = {}
    said: dict[str, str] = {}
    for event in events:
        kind = event["type"]
        item_id = event.get("item_id") or (event.get("item") or {}).get("id", "")
        if kind == "response.output_item.added":
            assert item_id not in state
            state[item_id] = "open"
        elif kind == "response.output_item.done":
            assert state[item_id] == "open"
            assert event["item"]["status"] in {"completed", "incomplete"}
            state[item_id] = "done"
        elif kind.startswith("response.") and "item_id" in event:
            assert state[item_id] == "open", kind
            if kind.endswith("function_call_arguments.delta"):
                said[item_id] = said.get(item_id, "") + event["delta"]
            elif kind.endswith("function_call_arguments.done"):
                assert event["arguments"] == said.get(item_id, "")
    assert "open" not in state.values()


def _check_chain(run: _Run) -> None:
    """previous_item_id, as announced, leads to the order that the server keeps."""
    order: list[str] = []
    for event in run.drive.all:
        if event["type"] == "conversation.item.added":
            previous = event.get("previous_item_id")
            assert previous is None or previous in order
            order.insert(order.index(previous) + 1 if previous else 0, event["item"]["id"])
        elif event["type"] == "conversation.item.deleted":
            order.remove(event["item_id"])
    kept = [entry.id for entry in run.drive.conversation.items]
    assert [item_id for item_id in order if item_id in kept] == kept


def _hold(script: Any) -> None:
    run = _Run()
    for kind, value in script:
        run.step(kind, value)
        assert run.drive.conversation.items.audio_bytes <= 40_000
        assert len(run.drive.conversation.items) <= 13
    run.end()
    _check_responses(run.drive.all)
    _check_items_of_responses(run.drive.all)
    _check_chain(run)


@FEW
@given(scripts)
def test_any_order_of_requests_and_work_keeps_the_promises(script):
    _hold(script)


WORK = ["started", "stopped", "say", "say", "say", "call", "finish", "fail", "heard", "tick"]
REQUESTS: list[dict[str, Any]] = [
    {"type": "input_audio_buffer.append", "audio": SOUND},
    {"type": "input_audio_buffer.commit"},
    {"type": "response.create"},
    {"type": "response.create"},
    {"type": "response.create", "response": {"conversation": "none"}},
    {"type": "response.create", "response": {"output_modalities": ["text"]}},
    {"type": "response.cancel"},
    {"type": "conversation.item.delete", "item_id": "#3"},
    {"type": "conversation.item.truncate", "item_id": "#1", "content_index": 0, "audio_end_ms": 50},
    {
        "type": "conversation.item.create",
        "item": _message("user", {"type": "input_text", "text": "hi"}),
        "previous_item_id": "#2",
    },
]


@pytest.mark.slow
@FEW
@given(st.integers(0, 2**32))
def test_long_conversations_keep_the_promises(seed):
    """Hypothesis by itself prefers short and uniform scripts; these get deep into a conversation."""
    chance = random.Random(seed)
    script: list[tuple[str, Any]] = []
    for _ in range(60):
        if chance.random() < 0.5:
            script.append(("send", chance.choice(REQUESTS)))
        else:
            script.append((chance.choice(WORK), chance.randrange(4)))
    _hold(script)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-10, 10**20)
    | st.text(max_size=5)
    | st.sampled_from(["auto", "server_vad"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "audio", "input", "output", "format", "tools", "name", "id", "content", "role", "rate"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
KINDS = [
    "session.update",
    "conversation.item.create",
    "response.create",
    "input_audio_buffer.append",
    "response.cancel",
]


@FEW
@given(
    st.lists(
        st.tuples(
            st.sampled_from(KINDS),
            st.dictionaries(
                st.sampled_from(["session", "item", "response", "audio", "item_id", "event_id", "previous_item_id"]),
                json_values,
            ),
        ),
        max_size=6,
    )
)
def test_any_content_is_survived(requests_):
    drive = Drive()
    for kind, fields in requests_:
        drive.frame(json.dumps({**fields, "type": kind}))
        if isinstance(fields.get("session"), dict):
            drive.frame(json.dumps({"type": kind, "session": {**fields["session"], "type": "realtime"}}))
    assert drive.text("still here")


@FEW
@given(st.binary(max_size=60))
def test_any_bytes_are_survived(frame):
    drive = Drive()
    drive.frame(frame)
    drive.frame(b'{"type":"response.create",' + frame)
    assert drive.text("still here")
