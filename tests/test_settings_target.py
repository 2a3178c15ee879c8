"""Which server the settings mean, with which URL and headers, and which session they ask for."""

from __future__ import annotations

import pytest

from realtime_client.errors import UsageError
from realtime_client.secret import shown_url
from realtime_client.settings import load_settings
from realtime_client.settings.target import endpoint, session_config, target

KEY = "sk-abcdefghijklmnop-1234"


def settings(environ=None, **flags):
    return load_settings(flags, environ=environ or {})


def test_nothing_set_means_the_local_server():
    place = endpoint(settings(), local_url="ws://127.0.0.1:5/v1/realtime", local_token="t0k")
    assert target(settings()) == "local"
    assert place.url == "ws://127.0.0.1:5/v1/realtime?model=gpt-realtime-2.1"
    assert place.headers == {"Authorization": "Bearer t0k"}
    assert place.proxy is None


def test_a_key_means_openai():
    found = settings({"OPENAI_API_KEY": KEY, "OPENAI_ORG_ID": "org", "OPENAI_PROJECT_ID": "proj"}, model="a b&c")
    place = endpoint(found)
    assert target(found) == "openai"
    assert place.url == "wss://api.openai.com/v1/realtime?model=a+b%26c"
    assert place.headers == {
        "Authorization": f"Bearer {KEY}",
        "OpenAI-Organization": "org",
        "OpenAI-Project": "proj",
    }
    assert place.name == "api.openai.com"
    assert KEY not in repr(place)


@pytest.mark.parametrize(
    ("root", "url"),
    [
        ("http://127.0.0.1:8000/v1", "ws://127.0.0.1:8000/v1/realtime?model=m"),
        ("https://eu.api.openai.com/v1/", "wss://eu.api.openai.com/v1/realtime?model=m"),
        ("https://gw.example/api?team=a", "wss://gw.example/api/realtime?team=a&model=m"),
        ("wss://gw.example", "wss://gw.example/realtime?model=m"),
        ("https://[::1]:9/v1", "wss://[::1]:9/v1/realtime?model=m"),
    ],
)
def test_a_base_url_becomes_a_websocket_url(root, url):
    assert endpoint(settings({"OPENAI_BASE_URL": root}, model="m")).url == url


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("ws://h:1", "ws://h:1/v1/realtime?model=gpt-realtime-2.1"),
        ("wss://h/x?model=own", "wss://h/x?model=own"),
        ("wss://h/x?call_id=rtc_1", "wss://h/x?call_id=rtc_1"),
        ("https://h/v1/realtime?intent=transcription", "wss://h/v1/realtime?intent=transcription"),
        ("wss://h/x#part", "wss://h/x?model=gpt-realtime-2.1"),
    ],
)
def test_a_full_url_is_taken_as_it_is(given, url):
    assert endpoint(settings(url=given)).url == url


def test_a_model_flag_beats_the_models_name_in_the_url():
    assert endpoint(settings(url="wss://h/x?model=own", model="flag")).url == "wss://h/x?model=flag"
    assert endpoint(settings({"REALTIME_MODEL": "e"}, url="wss://h/x?model=own")).url == "wss://h/x?model=own"


def test_the_token_is_for_other_servers_only():
    environ = {"OPENAI_API_KEY": KEY, "REALTIME_TOKEN": "other"}
    assert endpoint(settings(environ, url="wss://h/x")).headers["Authorization"] == "Bearer other"
    assert endpoint(settings(environ)).headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("root", ["https://res.openai.azure.com", "https://res.openai.azure.com/openai/v1/"])
def test_azure_has_its_general_shape(root):
    environ = {"AZURE_OPENAI_ENDPOINT": root, "AZURE_OPENAI_API_KEY": KEY}
    place = endpoint(settings(environ, model="deployed"))
    assert place.url == "wss://res.openai.azure.com/openai/v1/realtime?model=deployed"
    assert place.headers == {"api-key": KEY}
    del environ["AZURE_OPENAI_API_KEY"]
    assert endpoint(settings(environ | {"AZURE_OPENAI_AD_TOKEN": "tok"})).headers == {"Authorization": "Bearer tok"}
    with pytest.raises(UsageError, match="AZURE_OPENAI_API_KEY"):
        endpoint(settings(environ))


def test_azure_steps_back_behind_an_openai_key_or_base_url():
    azure = {"AZURE_OPENAI_ENDPOINT": "https://res", "AZURE_OPENAI_API_KEY": KEY}
    assert target(settings(azure)) == "azure"
    assert target(settings(azure | {"OPENAI_API_KEY": KEY})) == "openai"
    assert target(settings(azure | {"OPENAI_BASE_URL": "http://h/v1"})) == "base_url"


def test_the_stronger_source_says_where_to():
    environ = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": "http://h/v1"}
    assert target(settings(environ, local=True)) == "local"
    assert target(settings(environ | {"REALTIME_LOCAL": "1"}, url="wss://h/x")) == "url"
    assert target(settings(environ | {"REALTIME_URL": "wss://h/x"}, local=True)) == "local"
    with pytest.raises(UsageError, match="name two servers"):
        target(settings(url="wss://h/x", local=True))


@pytest.mark.parametrize(
    "bad", ["h:1/x", "ftp://h/x", "wss://", "ws:///x", "ws://h:x/y", "ws://h:99999/", "ws://[::1/x", "ws://h/a b", ""]
)
def test_what_is_no_url_is_refused(bad):
    with pytest.raises(UsageError, match=r"flag --url: not a URL of a server"):
        endpoint(settings(url=bad))


def test_plain_text_to_another_machine_is_said():
    assert endpoint(settings(url="ws://host/x")).name == "host (not encrypted)"
    assert endpoint(settings(url="ws://127.0.0.1/x")).name == "127.0.0.1"


def test_proxy_and_trust():
    assert endpoint(settings(url="wss://h/x")).proxy is True
    assert endpoint(settings(url="wss://h/x", proxy="none")).proxy is None
    assert endpoint(settings(url="wss://h/x", proxy="http://p:1")).proxy == "http://p:1"
    assert endpoint(settings({"SSL_CERT_FILE": "/ca.pem"}, url="wss://h/x")).trust == "/ca.pem"
    with pytest.raises(UsageError, match="--proxy"):
        endpoint(settings(url="wss://h/x", proxy="p:1"))


def test_a_shown_url_has_no_secrets():
    shown = shown_url("wss://user:pass@h:1/x?model=m&api-key=abc&sig=def")
    assert shown == "wss://***@h:1/x?model=m&api-key=***&sig=***"


def test_the_session_says_only_what_was_asked():
    assert session_config(settings()).to_wire() == {
        "type": "realtime",
        "output_modalities": ["audio"],
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": 24000},
                "transcription": {"model": "gpt-transcribe"},
                "turn_detection": {"type": "server_vad"},
            },
            "output": {"format": {"type": "audio/pcm", "rate": 24000}},
        },
    }


def test_the_session_says_all_that_was_asked():
    wire = session_config(
        settings(
            modality="text",
            input_format="g711_ulaw",
            output_format="g711_alaw",
            transcription="none",
            turn_detection="none",
            voice="marin",
            speed=1.2,
            instructions="Be brief.",
            max_output_tokens="inf",
        )
    ).to_wire()
    assert wire == {
        "type": "realtime",
        "output_modalities": ["text"],
        "instructions": "Be brief.",
        "max_output_tokens": "inf",
        "audio": {
            "input": {"format": {"type": "audio/pcmu"}, "transcription": None, "turn_detection": None},
            "output": {"format": {"type": "audio/pcma"}, "voice": "marin", "speed": 1.2},
        },
    }
    semantic = session_config(settings(turn_detection="semantic_vad")).to_wire()
    assert semantic["audio"]["input"]["turn_detection"] == {"type": "semantic_vad"}
    assert session_config(settings(turn_detection="ptt")).to_wire()["audio"]["input"]["turn_detection"] is None
