"""From settings to text models: what a session is, where its models are, and whose keys they get."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from realtime_client.chat import hints
from realtime_client.errors import UsageError
from realtime_client.settings import SPECS, Settings, load_settings
from realtime_client.settings.providers import PROVIDERS, chain, is_text, ollama_url, provider_of
from realtime_client.settings.target import endpoint, realtime_model
from realtime_client.telemetry import spans

KEYS = {
    "OPENAI_API_KEY": "k-openai", "AZURE_OPENAI_API_KEY": "k-azure", "AZURE_OPENAI_ENDPOINT": "https://r.openai.azure.com",
    "APIM_ENDPOINT": "https://g.azure-api.net/openai", "APIM_SUBSCRIPTION_KEY": "k-apim", "GOOGLE_API_KEY": "k-google",
    "ANTHROPIC_API_KEY": "k-anthropic", "AWS_REGION": "eu-central-1", "AWS_BEARER_TOKEN_BEDROCK": "k-bedrock",
}  # fmt: skip


def load(environ: dict[str, str] | None = None, **flags: Any) -> Settings:
    environ = {"REALTIME_CONFIG": "/dev/null", **(environ or {})}
    return load_settings(flags, environ=environ, folder=Path("/"))


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("gpt-realtime-2.1", None),
        ("ollama/llama3.2", "ollama"),
        ("ollama/library/llama3.2:1b", "ollama"),
        ("openai-responses/o5", "openai-responses"),
        ("realtime/ollama/x", None),
        ("someone/model", None),  # a realtime server may name its models so
        ("ollama/", None),
        ("/llama", None),
        ("ollama", None),
    ],
)
def test_one_rule_decides_what_a_session_is(model: str, provider: str | None):
    assert provider_of(model) == provider
    assert is_text(load(model=model)) == (provider is not None)


@pytest.mark.parametrize(("model", "name"), [("realtime/ollama/x", "ollama/x"), ("x", "x"), ("a/b", "a/b")])
def test_a_realtime_model_can_be_named_as_such(model: str, name: str):
    settings = load({"OPENAI_API_KEY": "k"}, model=model)
    assert realtime_model(settings) == name
    assert endpoint(settings).url.endswith(f"model={name.replace('/', '%2F')}")


@pytest.mark.parametrize(
    ("model", "base", "headers"),
    [
        ("ollama/m", "http://127.0.0.1:11434", {}),
        ("openai/m", "https://api.openai.com/v1", {"Authorization": "Bearer k-openai"}),
        ("openai-responses/m", "https://api.openai.com/v1", {"Authorization": "Bearer k-openai"}),
        ("azure/m", "https://r.openai.azure.com", {"api-key": "k-azure"}),
        ("apim/m", "https://g.azure-api.net/openai", {"Ocp-Apim-Subscription-Key": "k-apim"}),
        ("gemini/m", "https://generativelanguage.googleapis.com/v1beta", {"x-goog-api-key": "k-google"}),
        ("anthropic/m", "https://api.anthropic.com", {"x-api-key": "k-anthropic"}),
        ("bedrock/m", "https://bedrock-runtime.eu-central-1.amazonaws.com", {}),
    ],
)
def test_each_provider_gets_its_own_key_and_no_other(
    model: str, base: str, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "k-bedrock")  # read by Amazon's own library
    (place,) = chain(load(KEYS, model=model))
    assert place.base_url.startswith(base)
    assert place.headers == headers
    assert place.name == model
    assert not any(key in repr(place) for key in KEYS.values() if key.startswith("k-"))


@pytest.mark.parametrize(
    ("model", "environ", "says"),
    [
        ("openai/m", {}, "there is no key: set OPENAI_API_KEY"),
        ("azure/m", {"AZURE_OPENAI_API_KEY": "k"}, "azure needs AZURE_OPENAI_ENDPOINT"),
        ("azure/m", {"AZURE_OPENAI_ENDPOINT": "https://r.openai.azure.com"}, "set AZURE_OPENAI_API_KEY"),
        ("apim/m", {"APIM_SUBSCRIPTION_KEY": "k"}, "apim needs APIM_ENDPOINT"),
        ("apim/m", {"APIM_ENDPOINT": "https://g.azure-api.net"}, "set APIM_SUBSCRIPTION_KEY"),
        ("gemini/m", {}, "set GOOGLE_API_KEY or GEMINI_API_KEY"),
        ("anthropic/m", {}, "set ANTHROPIC_API_KEY"),
        ("ollama/m", {"OLLAMA_HOST": "x:99999"}, "not a port"),
        ("ollama/m", {"OLLAMA_HOST": "ftp://x"}, "not a URL"),
        ("openai/m", {"OPENAI_BASE_URL": "nonsense"}, "not a URL"),
    ],
)
def test_what_is_missing_is_named_before_anything_is_asked(model: str, environ: dict[str, str], says: str):
    with pytest.raises(UsageError, match=says):
        chain(load(environ, model=model))


@pytest.mark.parametrize("model", ["openai/m", "anthropic/m", "gemini/m", "apim/m"])
def test_a_server_of_ones_own_needs_no_key(model: str):
    environ = {"APIM_ENDPOINT": "https://g.azure-api.net"}
    (place,) = chain(load(environ, model=model, url="http://127.0.0.1:8000/v1"))
    assert place.host == "127.0.0.1:8000"
    assert (place.headers, place.proxy) == ({}, None)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        (None, "http://127.0.0.1:11434"),
        ("", "http://127.0.0.1:11434"),
        ("box", "http://box:11434"),
        ("box:8080", "http://box:8080"),
        (":8080", "http://127.0.0.1:8080"),
        ("box/path", "http://box:11434/path"),
        ("http://box", "http://box:80"),
        ("https://box", "https://box:443"),
        ("http://box:1/", "http://box:1"),
        ("https://box:1/a/b/", "https://box:1/a/b"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:8080", "http://127.0.0.1:8080"),
        ("::", "http://[::1]:11434"),
        ("::1", "http://[::1]:11434"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("fe80::1", "http://[fe80::1]:11434"),
        ("ollama.com", "https://ollama.com:443"),
    ],
)
def test_where_ollama_is(host: str | None, url: str):
    assert ollama_url(host) == url


def test_the_chain_is_the_model_and_those_that_stand_in():
    settings = load(KEYS, model="openai/a", fallback="anthropic/b, openai/a ,ollama/c,")
    assert [place.name for place in chain(settings)] == ["openai/a", "anthropic/b", "ollama/c"]
    assert [
        place.name for place in chain(load(KEYS, model="openai/a", fallback="ollama/c", fallback_on_error=False))
    ] == ["openai/a"]
    realtime = load(KEYS, fallback="ollama/c")
    assert [place.name for place in chain(realtime)] == ["ollama/c"]
    assert not is_text(realtime)
    with pytest.raises(UsageError, match=r"flag --fallback: gpt-x: not a text model: .* bedrock/"):
        chain(load(KEYS, model="openai/a", fallback="gpt-x"))


def test_a_url_is_meant_for_the_model_and_not_for_those_that_stand_in():
    given = {"model": "openai/a", "url": "http://127.0.0.1:1/v1", "fallback": "anthropic/b"}
    first, second = chain(load(KEYS, token="t", header="X-Pass=p", **given))
    assert (first.base_url, first.headers) == ("http://127.0.0.1:1/v1", {"Authorization": "Bearer t", "X-Pass": "p"})
    assert second.headers == {"x-api-key": "k-anthropic"}
    first, _ = chain(load({**KEYS, "REALTIME_TOKEN": "e"}, **given))
    assert first.headers == {"Authorization": "Bearer e"}
    first, _ = chain(load({**KEYS, "REALTIME_TOKEN": "e"}, model="openai/a", fallback="anthropic/b"))
    assert first.headers == {"Authorization": "Bearer k-openai"}, "that token is another server's"
    with pytest.raises(UsageError, match="set ANTHROPIC_API_KEY"):
        chain(load(**given))


def test_what_is_missing_for_a_model_that_stands_in_is_named_with_it():
    with pytest.raises(UsageError, match="flag --fallback: anthropic/b: there is no key: set ANTHROPIC_API_KEY"):
        chain(load(model="openai/a", url="http://127.0.0.1:1/v1", header="X-Key=1", fallback="anthropic/b"))


@pytest.mark.parametrize(
    ("model", "headers"),
    [
        ("ollama/m", {"Authorization": "Bearer t"}),
        ("openai/m", {"Authorization": "Bearer t"}),
        ("openai-responses/m", {"Authorization": "Bearer t"}),
        ("azure/m", {"Authorization": "Bearer t"}),
        ("apim/m", {"Ocp-Apim-Subscription-Key": "t"}),
        ("gemini/m", {"x-goog-api-key": "t"}),
        ("anthropic/m", {"x-api-key": "t"}),
        ("bedrock/m", {"Authorization": "Bearer t"}),
    ],
)
def test_a_token_goes_where_the_provider_has_its_key(model: str, headers: dict[str, str]):
    (place,) = chain(load(KEYS, model=model, token="t"))
    assert (place.headers, place.sign) == (headers, None)


@pytest.mark.parametrize(
    ("model", "url", "base"),
    [
        ("openai/m", "http://h/v1/", "http://h/v1"),
        ("ollama/m", "http://h:1/v1/", "http://h:1"),
        ("ollama/m", "http://h:1/api", "http://h:1"),
        ("azure/m", "https://r.openai.azure.com/openai/v1", "https://r.openai.azure.com"),
        ("apim/m", "https://g.azure-api.net/openai/deployments/m/chat/completions", "https://g.azure-api.net/openai"),
        ("gemini/m", "http://h", "http://h/v1beta"),
        ("gemini/m", "http://h/v1", "http://h/v1"),
        ("gemini/m", "http://h/v1alpha/", "http://h/v1alpha"),
        ("anthropic/m", "http://h/v1", "http://h"),
        ("anthropic/m", "http://h/anthropic", "http://h/anthropic"),
    ],
)
def test_urls_as_people_copy_them(model: str, url: str, base: str):
    assert chain(load(KEYS, model=model, url=url))[0].base_url == base
    variable = {"gemini": "GOOGLE_GEMINI_BASE_URL", "anthropic": "ANTHROPIC_BASE_URL"}.get(model.partition("/")[0])
    if variable:
        assert chain(load({**KEYS, variable: url}, model=model))[0].base_url == base


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("antropic/m", "there is no provider 'antropic'; did you mean anthropic/m"),
        ("openapi/m", "did you mean openai/m"),
        ("ollama/", "names no model"),
    ],
)
def test_what_is_nearly_a_text_model_is_not_taken_for_a_realtime_model(model: str, says: str):
    with pytest.raises(UsageError, match=f"flag --model: .*{says}"):
        chain(load(KEYS, model=model))
    assert chain(load(KEYS, model=f"realtime/{model}")) == []


def test_headers_of_ones_own_are_for_the_own_server_and_no_other():
    settings = {"model": "apim/a", "header": "X-Pass=p4ssword", "fallback": "apim/b,openai/c"}
    own, same, other = chain(load(KEYS | {"APIM_SUBSCRIPTION_KEY": ""}, **settings))
    assert own.headers == same.headers == {"X-Pass": "p4ssword"}
    assert other.headers == {"Authorization": "Bearer k-openai"}
    for url, goes in ((None, True), ("wss://elsewhere/v1/realtime", False)):
        (standby,) = chain(load(KEYS, header="X-Pass=p4ssword", fallback="openai/c", url=url))
        assert ("X-Pass" in standby.headers) is goes


def test_headers_of_ones_own_go_along_and_are_secrets():
    settings = load(KEYS, model="openai/a", header="X-Team=blue\nX-Pass=p4ssword")
    (place,) = chain(settings)
    assert place.headers == {"Authorization": "Bearer k-openai", "X-Team": "blue", "X-Pass": "p4ssword"}
    assert {"blue", "p4ssword"} <= set(settings.secrets())
    assert "p4ssword" not in repr(settings)
    assert "p4ssword" not in repr(place)


@pytest.mark.parametrize("header", ["X", "X Y=1", "=1", "Host=x", "Content-Length=3", "X=\x07", "X=ü", "X\r=1"])
def test_what_is_no_header(header: str):
    with pytest.raises(UsageError, match="--header"):
        load(header=header)


def test_what_is_told_of_a_provider_elsewhere_knows_all_of_them():
    assert set(PROVIDERS) == set(hints.KEYS) == set(spans._PROVIDERS)
    assert all(key in SPECS for provider in PROVIDERS.values() for key in provider.keys)


def test_the_providers_are_all_there():
    assert list(PROVIDERS) == [
        "ollama", "openai", "openai-responses", "azure", "apim", "gemini", "anthropic", "bedrock"
    ]  # fmt: skip
