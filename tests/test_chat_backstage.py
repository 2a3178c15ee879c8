"""What a provider is asked beside the conversation: its models, what a model can do, whether it is in memory."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from cli_helpers import realtime
from text_server import Request, TextServer, by_path, refuses, silent, stream

from realtime_client import updates as up
from realtime_client.chat.backstage import RefusedError, offered
from realtime_client.chat.breaker import MemoryStore
from realtime_client.chat.place import Place
from realtime_client.chat.session import ChatSession
from realtime_client.chat.wires.ask import Wire
from realtime_client.chat.wires.bedrock import Bedrock
from realtime_client.chat.wires.ollama import Ollama
from realtime_client.chat.wires.openai_chat import OpenAIChat
from realtime_client.errors import UsageError

WAIT_S = 10.0
SHOWN = {"model_info": {"llama.context_length": 2048}, "capabilities": ["completion", "tools"]}


def whole(body: Any) -> Any:
    return lambda request: request.answer(json.dumps(body).encode())


def place(server: TextServer, provider: str, wire: Wire, base: str = "") -> Place:
    url = base or server.url.removesuffix("/v1")
    return Place(provider=provider, model="llama3.2", base_url=url, wire=wire, context=8192)


def line(content: str, *, done: bool = False) -> bytes:
    end = {"done_reason": "stop"} if done else {}
    return json.dumps({"message": {"role": "assistant", "content": content}, "done": done, **end}).encode() + b"\n"


TALK = stream(line("Hello."), line("", done=True), content_type="application/x-ndjson")


def test_the_list_of_models():
    with TextServer(by_path(models=whole({"data": [{"id": "one", "owned_by": "me"}, {"id": "two"}]}))) as server:
        found = offered(place(server, "openai", OpenAIChat(), server.url))
        assert [(each.name, each.about) for each in found] == [("one", "me"), ("two", "")]


@pytest.mark.parametrize(
    ("script", "limit_s", "says"),
    [
        (refuses(401, {"error": {"message": "no key"}}), 5.0, "no key"),
        (whole(["what"]), 5.0, "no list of models"),
        (whole({"data": 3}), 5.0, "no list of models"),
        (silent, 0.1, "does not answer within 0.1 s"),
    ],
    ids=["refused", "another shape", "another kind", "silent"],
)
def test_what_is_no_list(script: Any, limit_s: float, says: str):
    with TextServer(script) as server:
        with pytest.raises(RefusedError, match=says):
            offered(place(server, "openai", OpenAIChat(), server.url), limit_s)


def test_a_provider_without_a_list():
    with TextServer(silent) as server, pytest.raises(UsageError, match="has no list"):
        offered(place(server, "bedrock", Bedrock()))


def test_the_command_lists_them(tmp_path: Any):
    script = by_path(
        tags=whole({"models": [{"name": "llama3.2:latest", "size": 1, "details": {"parameter_size": "3B"}}]})
    )
    with TextServer(script) as server:
        found = realtime("models", "ollama", OLLAMA_HOST=server.host)
        assert found.returncode == 0
        assert found.stdout.startswith("ollama/llama3.2:latest")
        assert server.host in found.stderr
        found = realtime("models", "ollama", "--json", OLLAMA_HOST=server.host)
        assert json.loads(found.stdout)["models"][0]["name"] == "llama3.2:latest"
    found = realtime("models", "ollama", OLLAMA_HOST="127.0.0.1:9")
    assert found.returncode == 3
    assert "is Ollama running?" in found.stderr


def test_what_a_local_model_can_do_is_found_out():
    held = threading.Event()

    def shows(request: Request) -> None:
        request.wait(held)
        whole(SHOWN)(request)

    with TextServer(by_path(show=shows, chat=TALK)) as server:
        with ChatSession([place(server, "ollama", Ollama())], breakers=MemoryStore()) as client:
            assert client.facts.abilities.images_in, "nobody knows yet"
            with client.updates(timeout_s=WAIT_S) as updates:
                held.set()
                changed = next(update for update in updates if isinstance(update, up.SessionChanged))
            assert changed.settings["context_of_model"] == 2048
            assert not changed.facts.abilities.images_in, "it has no vision"
            with pytest.raises(UsageError, match="takes no images"):
                client.send_text("Look.", images=["data:image/png;base64,AAAA"])
            assert client.ask("Hi?", timeout_s=WAIT_S).text == "Hello."


PICTURE = "data:image/png;base64,AAAA"


def test_an_image_waits_until_it_is_known_whether_the_model_sees():
    with TextServer(by_path(show=whole(SHOWN), chat=TALK)) as server:
        for _ in range(5):
            with ChatSession([place(server, "ollama", Ollama())], breakers=MemoryStore()) as client:
                with pytest.raises(UsageError, match="takes no images"):
                    client.send_text("Look.", images=[PICTURE])
    assert not [request for request in server.requests if request.path == "/api/chat"]


@pytest.mark.parametrize("shown", [whole({}), refuses(404)])
def test_an_image_goes_to_a_model_of_which_nothing_is_known(shown: Any):
    with TextServer(by_path(show=shown, chat=TALK)) as server:
        with ChatSession([place(server, "ollama", Ollama())], breakers=MemoryStore()) as client:
            assert client.ask("Look.", images=[PICTURE], timeout_s=WAIT_S).text == "Hello."
            assert client.facts.abilities.images_in


def test_why_nothing_comes_is_told():
    held = threading.Event()

    def slow(request: Request) -> None:
        request.wait(held)
        TALK(request)

    script = by_path(show=refuses(404), ps=whole({"models": []}), chat=slow)
    with TextServer(script) as server:
        with ChatSession([place(server, "ollama", Ollama())], breakers=MemoryStore()) as client:
            with client.updates(timeout_s=WAIT_S) as updates:
                client.send_text("Hi?")
                told = next(update for update in updates if isinstance(update, up.Progress))
                held.set()
                then = next(update for update in updates if isinstance(update, up.Progress))
                done = next(update for update in updates if isinstance(update, up.ResponseDone))
        assert (told.what, told.text, done.text) == ("loading", "llama3.2", "Hello.")
        assert then.what == "generating"


def test_what_is_too_long_is_sent_shortened_once():
    error = {"error": {"code": 400, "type": "exceed_context_size_error", "message": "too long", "n_ctx": 1024}}

    def script(request: Request) -> None:
        if len(request.json["messages"]) > 4:
            refuses(400, error)(request)
        else:
            TALK(request)

    with TextServer(by_path(show=refuses(404), chat=script)) as server:
        with ChatSession([place(server, "ollama", Ollama())], breakers=MemoryStore()) as client:
            with client.updates(timeout_s=WAIT_S) as updates:
                for n in range(3):
                    assert client.ask(f"{n} " + "word " * 100, timeout_s=WAIT_S).text == "Hello."
                told = next(update for update in updates if isinstance(update, up.Notice))
        assert "its beginning is left out" in told.message
        sizes = [len(request.json["messages"]) for request in server.requests if request.path.endswith("chat")]
        assert sizes[:3] == [1, 3, 5]
        assert sizes[3] < 5


def test_it_closes_while_it_asks():
    with TextServer(silent) as server:
        with ChatSession([place(server, "ollama", Ollama())], breakers=MemoryStore()):
            server.request(0)
        assert server.request(0).gone.wait(WAIT_S)
