"""Odd names, addresses and keys of text models: one line says what is wrong, and no password is in it or kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from realtime_client.chat.place import Place
from realtime_client.chat.wires.ask import HttpRequest
from realtime_client.chat.wires.openai_chat import OpenAIChat
from realtime_client.cli.images import read_image
from realtime_client.errors import UsageError
from realtime_client.session.arguments import check_said
from realtime_client.settings import Settings, load_settings
from realtime_client.settings.providers import chain, ollama_url, place
from realtime_client.updates import Facts


def settings(environ: dict[str, str] | None = None, **flags: Any) -> Settings:
    return load_settings(flags, environ=environ or {})


@pytest.mark.parametrize("model", ["openai//", "anthropic///"])
def test_a_provider_alone_is_no_model(model: str):
    given = settings({"OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "k"}, model=model)
    with pytest.raises(UsageError, match="names a provider and no model"):
        chain(given)


@pytest.mark.parametrize("host", ["host:²", "host:99999999999999999999999", "host:sekret-sekret-sekret-sekret"])
def test_what_is_no_port(host: str):
    with pytest.raises(UsageError, match="is not a port") as caught:
        ollama_url(host)
    assert len(str(caught.value)) < 60


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("user:pass@host", "http://user:pass@host:11434"),
        ("user:pass@host:1", "http://user:pass@host:1"),
        ("https://user:pass@host/ollama", "https://user:pass@host:443/ollama"),
        ("user@[::1]:5", "http://user@[::1]:5"),
    ],
)
def test_ollama_behind_a_password(host: str, url: str):
    assert ollama_url(host) == url


@pytest.mark.parametrize("environ", [{"OLLAMA_HOST": "user:p%40ssword@host:1"}, {}])
def test_the_password_of_a_url_is_sent_as_a_header_and_shown_nowhere(environ: dict[str, str]):
    url = None if environ else "http://user:p%40ssword@host:1"
    given = settings(environ, model="ollama/x", **({} if url is None else {"url": url}))
    where = place(given, "ollama/x")
    assert (where.base_url, where.host) == ("http://host:1", "host:1")
    assert where.headers["Authorization"] == "Basic dXNlcjpwQHNzd29yZA=="
    assert {"dXNlcjpwQHNzd29yZA==", "p@ssword"} <= set(given.secrets()), "it is masked where a server says it back"


def test_a_header_of_ones_own_replaces_the_one_of_its_name():
    given = settings({"OPENAI_API_KEY": "sk-1"}, model="openai/x", header=["authorization=Own 2"])
    assert place(given, "openai/x").headers == {"authorization": "Own 2"}


@pytest.mark.parametrize(
    ("base", "path", "url"),
    [
        ("http://h/v1?api-version=3", "/chat", "http://h/v1/chat?api-version=3"),
        ("http://h/v1?a=1", "/chat?b=2", "http://h/v1/chat?a=1&b=2"),
        ("http://h/v1", "/chat?b=2", "http://h/v1/chat?b=2"),
        ("http://h/v1/", "/chat", "http://h/v1/chat"),
    ],
)
def test_the_query_of_a_base_url_goes_with_each_request(base: str, path: str, url: str):
    where = Place(provider="openai", model="x", base_url=base, wire=OpenAIChat())
    assert where.url(HttpRequest(path=path)) == url


def test_what_amazon_calls_a_key_is_never_recorded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-amazon-1")
    assert "of-amazon-1" in settings().secrets()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are a thing of Unix")
def test_a_pipe_that_nobody_writes_into_is_no_image(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="is not an image"):
        read_image(tmp_path / "pipe")


@pytest.mark.parametrize("images", [None, 5, "http://h/a.png", [5], ["junk"], ["file:///etc/passwd"], ["data:,"], [""]])
def test_what_is_no_image_is_refused_in_the_call(images: Any):
    with pytest.raises(UsageError, match="image"):
        check_said("What is this?", images, Facts(model="x"))
