"""A text model as the brain of the local server: what it is asked, what comes of it, and that nothing waits for it."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
from local_helpers import WAIT_S, Raw, raw
from text_server import (
    DONE,
    Script,
    TextServer,
    answers,
    delta,
    drops,
    ends,
    in_turn,
    refuses,
    silent,
    stream,
    usage,
)

import realtime_client
from realtime_client.chat.pending_calls import HAS_COME
from realtime_client.deadline import Deadline
from realtime_client.errors import UsageError
from realtime_client.history import Call, Opaque, ProviderState, Text
from realtime_client.local import BrainError, BrainTurn, LocalServer, Parts, Say, TextBrain, Utterance
from realtime_client.local.engine import _Running
from realtime_client.local.helpers import Helpers
from realtime_client.local.server_process import brain_values
from realtime_client.local.told import Calls
from realtime_client.local.words import think
from realtime_client.settings import load_settings
from realtime_client.settings.providers import brains

PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WEATHER = {
    "type": "function",
    "name": "weather",
    "description": "The weather of a place",
    "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
}
TIME = {"type": "function", "name": "time", "description": "", "parameters": {"type": "object", "properties": {}}}


@contextmanager
def brained(*scripts: Script, pace: float = 0, **values: Any) -> Iterator[tuple[TextServer, Raw]]:
    """A client of a server whose brain asks a text server with these scripts."""
    with TextServer(*scripts) as text:
        given = {"brain": "openai/test", "base_url": text.url, "retries": 0, **values}
        with LocalServer(parts=Parts(brain=TextBrain.of(**given)), pace=pace) as server:
            with raw(server.url) as client:
                client.until("session.created")
                yield text, client


def ask(client: Raw, text: str, **response: Any) -> dict[str, Any]:
    """Say something and return the answer's response.done."""
    client.say(text)
    return answer(client, **response)


def answer(client: Raw, **response: Any) -> dict[str, Any]:
    client.send("response.create", response=response)
    done: dict[str, Any] = client.until("response.done")["response"]
    return done


def transcript(response: dict[str, Any]) -> str:
    return "".join(
        part.get("transcript") or part.get("text") or ""
        for item in response["output"]
        for part in item.get("content", [])
    )


def told(text: TextServer, number: int) -> list[tuple[str, Any]]:
    return [
        (each["role"], each["content"]) for each in text.request(number).json["messages"] if each["role"] != "system"
    ]


def calls(*made: tuple[str, str, str]) -> bytes:
    """A chunk with calls: (id, name, arguments)."""
    listed = [
        {"index": n, "id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
        for n, (call_id, name, arguments) in enumerate(made)
    ]
    return delta(tool_calls=listed)


# --- as it comes ------------------------------------------------------------------------------------------------------


def test_the_first_sentence_is_spoken_while_the_model_still_writes() -> None:
    more = threading.Event()
    with brained(stream(delta("It is **Dr. "), delta("No**. "), delta("He"), more, delta(" left 👋."), ends())) as (
        _,
        client,
    ):
        client.say("Who?")
        client.send("response.create")
        client.until("response.output_audio.delta")
        said = "".join(event["delta"] for event in client.seen if event["type"].endswith("audio_transcript.delta"))
        assert said
        assert "It is Dr. No. ".startswith(said)
        more.set()
        done = client.until("response.done")["response"]
        assert (done["status"], transcript(done)) == ("completed", "It is Dr. No. He left 👋.")


def test_what_is_written_stays_as_the_model_wrote_it() -> None:
    more = threading.Event()
    with brained(stream(delta("# A *list*\n- "), more, delta("one"), ends())) as (_, client):
        client.say("Write.")
        client.send("response.create", response={"output_modalities": ["text"]})
        client.until("response.output_text.delta")  # no sentence is waited for
        more.set()
        assert transcript(client.until("response.done")["response"]) == "# A *list*\n- one"


def test_the_session_goes_on_while_the_model_says_nothing() -> None:
    with brained(silent) as (text, client):
        client.say("Hello?")
        client.send("response.create")
        text.request(0)
        client.send("session.update", session={"type": "realtime", "instructions": "Changed."})
        assert client.until("session.updated")["session"]["instructions"] == "Changed."
        client.say("And?")
        client.until("conversation.item.done")
        client.send("response.create", response={"conversation": "none", "input": []})
        client.until("response.created")
        text.request(1)


@pytest.mark.parametrize("script", [silent, stream(delta("One. "), silent, end=False)], ids=["before", "within"])
def test_a_cancelled_answer_is_cut_at_the_provider(script: Script) -> None:
    with brained(script, answers("Here.")) as (text, client):
        client.say("Hello?")
        client.send("response.create")
        request = text.request(0)
        client.send("response.cancel")
        done = client.until("response.done")["response"]
        assert (done["status"], done["status_details"]["reason"]) == ("cancelled", "client_cancelled")
        assert request.gone.wait(WAIT_S)
        assert transcript(ask(client, "And now?")) == "Here."


@pytest.mark.parametrize("leaves", ["client", "server"])
def test_an_answer_ends_with_its_session(leaves: str) -> None:
    with TextServer(silent) as text:
        brain = TextBrain.of(brain="openai/test", base_url=text.url)
        with LocalServer(parts=Parts(brain=brain)) as server, raw(server.url) as client:
            client.say("Hello?")
            client.send("response.create")
            request = text.request(0)
            if leaves == "client":
                client.connection.close()
            else:
                server.close()
            assert request.gone.wait(WAIT_S)


def test_a_cancel_ends_the_wait_before_asking_again() -> None:
    with brained(refuses(503), retries=3, retry_delay_s=60.0) as (text, client):
        client.say("Hello?")
        client.send("response.create")
        text.request(0)
        client.send("response.cancel")
        assert client.until("response.done")["response"]["status"] == "cancelled"


def test_what_a_slow_model_did_not_say_is_not_made_up_by_haste() -> None:
    running = _Running((piece for piece in ()), 0.0)
    running.went_out(3.0, 1.0)
    assert running.due_s == 1.0  # two seconds ahead
    running.waits = True
    running.goes_on(10.0)
    assert (running.due_s, running.waits) == (10.0, False)
    running.went_out(1.0, 1.0)
    assert running.due_s == 11.0
    running.goes_on(10.5)
    assert running.due_s == 11.0


# --- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "code", "words"),
    [
        (refuses(400, {"error": {"message": "no such\nthing"}}), "application", "openai/test: no such thing"),
        (refuses(401, {"error": {"message": "bad key", "code": "invalid_api_key"}}), "invalid_api_key", "bad key"),
        (refuses(429, {"error": {"message": "slow down", "type": "requests"}}), "rate_limit_exceeded", "slow down"),
        (refuses(500, {"error": {"message": "oops"}}), "server_error", "oops"),
        (stream(delta("One. Two"), drops), "cut", "the answer was cut"),
        (stream(ends()), "empty", "the answer is empty"),
        (stream(calls(("a", "weather", '{"place": "Ri')), ends("tool_calls")), "server_error", "is not whole"),
        (stream(calls(("a", "weather", '["Rome"]')), ends("tool_calls")), "server_error", "is not whole"),
        (refuses(200, b"<html>", content_type="text/html"), "protocol", "sends no answer"),
    ],
    ids=["400", "401", "429", "500", "cut", "empty", "half a call", "no object", "no model"],
)
def test_a_failure_is_told_in_the_words_of_the_model(script: Script, code: str, words: str) -> None:
    with brained(script) as (_, client):
        done = ask(client, "Hello?", tools=[WEATHER])
        error = done["status_details"]["error"]
        assert done["status"] == "failed"
        assert words in error["message"]
        assert "\n" not in error["message"]
        assert not [item for item in done["output"] if item["type"] == "function_call"]
        if code in ("rate_limit_exceeded", "invalid_api_key", "cut", "empty"):
            assert error["code"] == code


def test_a_model_that_is_not_there_and_one_that_stands_in() -> None:
    line = json.dumps({"message": {"role": "assistant", "content": "I stand in."}, "done": False})
    last = json.dumps({"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"})
    ollama = stream(f"{line}\n{last}\n".encode(), content_type="application/x-ndjson")
    with TextServer(ollama) as other:
        with brained(refuses(500), brain="openai/test, ollama/other", ollama_host=other.host) as (_, client):
            assert transcript(ask(client, "Hello?")) == "I stand in."
        assert other.requests[0].json["model"] == "other"


def test_a_field_that_a_server_refuses_is_left_out_from_then_on() -> None:
    refusal = refuses(400, {"error": {"message": "Unsupported parameter: 'temperature'", "param": "temperature"}})
    with brained(refusal, answers("Fine."), temperature=0.5) as (text, client):
        assert transcript(ask(client, "Hello?")) == "Fine."
        assert transcript(ask(client, "Again?")) == "Fine."
        assert [request.json.get("temperature") for request in text.requests] == [0.5, None, None]


@pytest.mark.parametrize(
    ("script", "limits", "words"),
    [
        (silent, {"first_byte_s": 0.1}, "said nothing within 0.1 s"),
        (stream(delta("One. "), silent, end=False), {"silence_s": 0.1}, "was silent for 0.1 s"),
    ],
    ids=["before", "within"],
)
def test_a_model_that_takes_too_long_is_given_up(script: Script, limits: dict[str, Any], words: str) -> None:
    with brained(script, **limits) as (text, client):
        assert words in ask(client, "Hello?")["status_details"]["error"]["message"]
        assert text.request(0).gone.wait(WAIT_S)


# --- what is asked ----------------------------------------------------------------------------------------------------


def test_what_reaches_the_model() -> None:
    with brained(answers("Fine."), temperature=0.3) as (text, client):
        settings = {"type": "realtime", "instructions": "Be kind.", "max_output_tokens": 4_000}
        client.send("session.update", session=settings)
        ask(client, "Hello?")
        ask(client, "Again?", instructions="Be brief.", max_output_tokens=3_000)
        first, second = (text.request(n).json for n in (0, 1))
        assert (first["model"], first["temperature"], first["max_completion_tokens"]) == ("test", 0.3, 4_000)
        assert first["messages"] == [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello?"}]
        assert (second["messages"][0]["content"], second["max_completion_tokens"]) == ("Be brief.", 3_000)
        assert told(text, 1) == [("user", "Hello?"), ("assistant", "Fine."), ("user", "Again?")]


def test_an_answer_outside_the_conversation_has_its_own() -> None:
    with brained(answers("Fine.")) as (text, client):
        ask(client, "Hello?")
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Only this."}]}
        assert transcript(answer(client, conversation="none", input=[item])) == "Fine."
        ask(client, "Again?")
        assert told(text, 1) == [("user", "Only this.")]
        assert told(text, 2) == [("user", "Hello?"), ("assistant", "Fine."), ("user", "Again?")]


def test_an_image_is_shown_to_the_model() -> None:
    with brained(answers("A dot.")) as (text, client):
        content = [{"type": "input_text", "text": "What is it?"}, {"type": "input_image", "image_url": PIXEL}]
        client.send("conversation.item.create", item={"type": "message", "role": "user", "content": content})
        answer(client)
        parts = text.request(0).json["messages"][-1]["content"]
        assert {"type": "image_url", "image_url": {"url": PIXEL}} in parts
        assert {"type": "text", "text": "What is it?"} in parts


def test_the_usage_is_the_models_own() -> None:
    with brained(answers("Fine.")) as (_, client):
        spent = ask(client, "Hello?")["usage"]
        assert (spent["input_tokens"], spent["output_tokens"], spent["total_tokens"]) == (7, 3, 10)
        assert spent["output_token_details"] == {"text_tokens": 3, "audio_tokens": 0}


@pytest.mark.parametrize(("finish", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")])
def test_an_answer_that_the_model_does_not_finish_is_incomplete(finish: str, reason: str) -> None:
    with brained(answers("It is ", "so that", finish=finish)) as (_, client):
        done = ask(client, "Hello?")
        assert (done["status"], done["status_details"]["reason"]) == ("incomplete", reason)
        assert transcript(done) == "It is so that"
        assert done["usage"]["total_tokens"] == 10


# --- tools ------------------------------------------------------------------------------------------------------------


def test_calls_of_tools_and_their_results() -> None:
    first = ("call_0", "weather", '{"place": "Rome"}'), ("call_1", "time", "{}")
    script = stream(delta("Let me see. "), calls(*first), delta(finish="tool_calls"), usage(), DONE)
    with brained(script, answers("Sunny.")) as (text, client):
        client.send("session.update", session={"type": "realtime", "tools": [WEATHER, TIME]})
        done = ask(client, "The weather?")
        message, *made = done["output"]
        assert message["content"][0]["transcript"] == "Let me see. "
        assert [(call["name"], call["arguments"]) for call in made] == [
            ("weather", '{"place": "Rome"}'),
            ("time", "{}"),
        ]
        client.say("And hurry.")  # between the calls and their results
        for call, output in zip(reversed(made), ("noon", "sun"), strict=True):
            item = {"type": "function_call_output", "call_id": call["call_id"], "output": output}
            client.send("conversation.item.create", item=item)
        assert transcript(answer(client)) == "Sunny."
        asked = text.request(0).json
        assert [tool["function"]["name"] for tool in asked["tools"]] == ["weather", "time"]
        assert asked["tools"][0]["function"]["parameters"] == WEATHER["parameters"]
        user, called, *results, hurry = text.request(1).json["messages"][-5:]
        ids = [call["call_id"] for call in made]
        assert (user["content"], called["content"], hurry["content"]) == ("The weather?", "Let me see. ", "And hurry.")
        assert [call["id"] for call in called["tool_calls"]] == ids
        assert [(each["tool_call_id"], each["content"]) for each in results] == [(ids[0], "sun"), (ids[1], "noon")]


def test_ids_that_a_server_gives_twice_are_told_apart() -> None:
    script = stream(calls(("call_0", "time", "{}")), ends("tool_calls"))
    with brained(script) as (text, client):
        client.send("session.update", session={"type": "realtime", "tools": [TIME]})
        for output in ("one", "two"):
            (call,) = ask(client, "The time?")["output"]
            item = {"type": "function_call_output", "call_id": call["call_id"], "output": output}
            client.send("conversation.item.create", item=item)
        ask(client, "Again?")
        results = [each["content"] for each in text.request(2).json["messages"] if each["role"] == "tool"]
        assert results == ["one", "two"]


def test_a_call_without_its_result_is_not_told() -> None:
    script = in_turn(stream(calls(("a", "time", "{}")), ends("tool_calls")), answers("Fine."))
    with brained(script) as (text, client):
        client.send("session.update", session={"type": "realtime", "tools": [TIME]})
        ask(client, "The time?")
        ask(client, "Never mind.")
        assert told(text, 1) == [("user", "The time?"), ("user", "Never mind.")]


def test_a_result_that_comes_late_is_what_the_model_goes_on_from() -> None:
    script = in_turn(stream(calls(("a", "time", "{}")), ends("tool_calls")), answers("Fine."), answers("It is noon."))
    with brained(script) as (text, client):
        client.send("session.update", session={"type": "realtime", "tools": [TIME]})
        (call,) = ask(client, "The time?")["output"]
        ask(client, "Meanwhile?")
        item = {"type": "function_call_output", "call_id": call["call_id"], "output": "noon"}
        client.send("conversation.item.create", item=item)
        assert transcript(answer(client)) == "It is noon."
        said = [(each["role"], each["content"]) for each in text.request(2).json["messages"][-4:]]
        assert said[0] == ("tool", "noon")
        assert said[2:] == [("assistant", "Fine."), ("user", HAS_COME)]


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", "auto"),
        ("none", "none"),
        ("required", "required"),
        ({"type": "function", "name": "time"}, {"type": "function", "function": {"name": "time"}}),
    ],
    ids=["auto", "none", "required", "by name"],
)
def test_the_choice_of_a_tool(choice: Any, sent: Any) -> None:
    with brained(answers("Fine.")) as (text, client):
        ask(client, "Hello?", tools=[WEATHER, TIME], tool_choice=choice)
        assert text.request(0).json["tool_choice"] == sent


def test_what_a_provider_wants_back_with_a_call_goes_back() -> None:
    state, thought = ProviderState("gemini", "signed"), Opaque(provider_state=ProviderState("anthropic", "thought"))
    made = Call(call_id="a", name="time", arguments="{}", provider_state=state)
    known = Calls()
    call_id = known.remember("a", (thought, Text(text="Let me see."), made))
    call, before = known.made(Utterance(role="call", text="{}", name="time", call_id=call_id))
    assert (call.provider_state, call.call_id, before) == (state, call_id, (thought,))
    for _ in range(2_000):
        known.remember("a", (made,))
    plain_call, nothing = known.made(Utterance(role="call", text="{}", name="time", call_id=call_id))
    assert (plain_call.provider_state, nothing) == (None, ())


# --- what was heard ---------------------------------------------------------------------------------------------------


def truncated(client: Raw, done: dict[str, Any], share: float) -> None:
    """Cut an answer's audio to a share of it."""
    audio = [event for event in client.seen if event["type"] == "response.output_audio.delta"]
    item_id = done["output"][0]["id"]
    size = sum(len(base64.b64decode(event["delta"])) for event in audio if event["item_id"] == item_id)
    client.send("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=int(size / 48 * share))
    client.until("conversation.item.truncated")


@pytest.mark.parametrize(
    ("shares", "heard"),
    [
        ([0.5], "One two three four five"),
        ([0.5, 0.5], "One two"),
        ([1.0], "One two three four five six seven eight nine ten."),
    ],
)
def test_the_model_remembers_what_was_heard_of_its_answer(shares: list[float], heard: str) -> None:
    with brained(answers("One two three four five six seven eight nine ten.")) as (text, client):
        done = ask(client, "Count.")
        left = 1.0
        for share in shares:
            left *= share
            truncated(client, done, left)
        ask(client, "Go on.")
        (_, said), asked = told(text, 1)[1:]
        assert asked == ("user", "Go on.")
        assert said == heard if shares == [1.0] else heard.startswith(said[:7])
        assert abs(len(said) - len(heard)) <= 6


def test_of_an_answer_that_was_hardly_heard_nothing_is_told() -> None:
    with brained(answers("Incomprehensibilities are everywhere.")) as (text, client):
        truncated(client, ask(client, "Hello?"), 0.05)
        ask(client, "What?")
        assert told(text, 1) == [("user", "Hello?"), ("user", "What?")]


def test_an_item_that_was_deleted_is_gone() -> None:
    with brained(answers("Fine.")) as (text, client):
        done = ask(client, "Hello?")
        client.send("conversation.item.delete", item_id=done["output"][0]["id"])
        client.until("conversation.item.deleted")
        ask(client, "Again?")
        assert told(text, 1) == [("user", "Hello?"), ("user", "Again?")]


def test_a_cancelled_answer_is_remembered_as_far_as_it_came() -> None:
    with brained(stream(delta("One two. Three"), silent, end=False), answers("Fine.")) as (text, client):
        client.say("Hello?")
        client.send("response.create")
        client.until("response.output_audio.delta")
        client.send("response.cancel")
        client.until("response.done")
        ask(client, "Again?")
        (_, said) = told(text, 1)[1]
        assert "One two. ".startswith(said)


# --- brains of one's own ----------------------------------------------------------------------------------------------


class Slow:
    """Says one word, and then what it is told."""

    blocks = True

    def __init__(self) -> None:
        self.go, self.closed = threading.Event(), threading.Event()

    def reply(self, _turn: BrainTurn) -> Iterator[Say]:
        try:
            yield Say("First. ")
            assert self.go.wait(WAIT_S)
            yield Say("Second. ")
            raise BrainError("I am\nout of words", "no_words")
        finally:
            self.closed.set()


@pytest.mark.parametrize("cancelled", [True, False])
def test_a_generator_that_waits_holds_nothing_up(cancelled: bool) -> None:
    brain = Slow()
    with LocalServer(parts=Parts(brain=brain), pace=0) as server, raw(server.url) as client:
        client.say("Hello?")
        client.send("response.create")
        client.until("response.output_audio.delta")
        if cancelled:
            client.send("response.cancel")
            assert client.until("response.done")["response"]["status"] == "cancelled"
            assert not brain.closed.is_set()
        brain.go.set()
        if not cancelled:
            error = client.until("response.done")["response"]["status_details"]["error"]
            assert (error["message"], error["code"]) == ("I am\nout of words", "no_words")
        assert brain.closed.wait(WAIT_S)


def test_words_that_nobody_wants_are_not_asked_for() -> None:
    asked = []

    class Never:
        def __iter__(self) -> Never:
            return self

        def __next__(self) -> Say:
            raise AssertionError("asked")

        def close(self) -> None:
            asked.append("closed")

    may_begin = threading.Event()
    helpers = Helpers()

    def begin() -> Never:
        assert may_begin.wait(WAIT_S)
        return Never()

    words = think(helpers, begin, lambda: None)
    words.close()
    may_begin.set()
    assert helpers.close(Deadline(WAIT_S)) == []
    assert asked == ["closed"]


# --- settings ---------------------------------------------------------------------------------------------------------


def test_the_brain_is_judged_before_anything_is_served() -> None:
    for values, words in [
        ({"brain": "gpt-x"}, "flag --brain: gpt-x: not a text model"),
        ({"brain": "anthropic/b"}, "flag --brain: anthropic/b: there is no key: set ANTHROPIC_API_KEY"),
        ({"brain": "openai/a,azure/b", "base_url": "http://127.0.0.1:1/v1"}, "azure needs AZURE_OPENAI_ENDPOINT"),
    ]:
        with pytest.raises(UsageError, match=words):
            brains(load_settings(values, environ={}))
    assert brains(load_settings({}, environ={})) == []
    with pytest.raises(UsageError, match="a brain needs at least one text model"):
        TextBrain([])


def test_another_process_makes_the_same_brain() -> None:
    environ = {"OPENAI_API_KEY": "sk-brain", "OPENAI_BASE_URL": "http://127.0.0.1:1/v1", "REALTIME_RETRIES": "7"}
    values = {
        "brain": "openai/a",
        "ca_file": "/certificates.pem",
        "header": "X-Key=1",
        "max_output_tokens": "inf",
        "proxy": "none",
        "streaming": False,
        "temperature": 0.5,
        "think": "false",
        "token": "of-the-server",
    }
    settings = load_settings(values, environ=environ)
    here = TextBrain.of(settings)
    there = TextBrain.of(**json.loads(json.dumps(brain_values(settings))))
    assert (there.wishes, there.limits) == (here.wishes, here.limits)
    assert there.limits.retries == 7
    for one, other in zip(there.places, here.places, strict=True):
        assert msgspec.structs.replace(one, wire=None) == msgspec.structs.replace(other, wire=None)
    assert brain_values(load_settings({}, environ={})) is None


def test_the_servers_own_token_goes_to_no_model() -> None:
    values = {"brain": "openai/a", "base_url": "http://127.0.0.1:1/v1", "token": "of-the-server", "header": "X-Key=1"}
    (place,) = brains(load_settings(values, environ={"OPENAI_API_KEY": "sk-brain"}))
    assert place.headers == {"Authorization": "Bearer sk-brain"}


@pytest.mark.parametrize(
    ("values", "do"),
    [
        ({"url": "ws://127.0.0.1:1"}, "add --local"),
        ({"base_url": "http://h/v1"}, "add --local"),
        ({"model": "ollama/x"}, "leave out ollama/x"),
    ],
)
def test_only_the_built_in_server_takes_a_brain(values: dict[str, Any], do: str) -> None:
    with pytest.raises(UsageError, match=f"only the built-in local server takes a brain: {do}"):
        realtime_client.connect(**{"brain": "ollama/y", "record": False, **values}).open()


def test_a_session_of_ones_own_has_a_text_model_for_a_brain() -> None:
    with TextServer(answers("I am a model.")) as text:
        given = {"local": True, "brain": "openai/test", "base_url": text.url}
        with realtime_client.connect(record=False, **given) as session:
            answered = session.ask("Who are you?")
            assert (answered.text, bool(answered.audio)) == ("I am a model.", True)
