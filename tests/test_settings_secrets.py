"""Keys in URLs and proxies: shown nowhere, sent once, left at home by a plan that travels."""

from __future__ import annotations

import base64
import pickle
import traceback
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cli_helpers import realtime
from rich.pretty import pretty_repr
from scripted_server import Peer, ScriptedServer
from talking_server import TalkingServer

from realtime_client.batch.plan import Plan, give_secrets
from realtime_client.client.client import RealtimeClient
from realtime_client.client.endpoint import Endpoint
from realtime_client.errors import HostUnreachableError, RealtimeError, UsageError
from realtime_client.secret import shown_text, shown_url, url_secrets
from realtime_client.settings import Settings, load_settings
from realtime_client.settings.target import endpoint, key_setting

KEY = "sk-abcdefghijklmnop-1234"
PASSWORD = "hush-hush-91"
PROXY = f"http://user:{PASSWORD}@proxy.example:3128"
URL = f"wss://user:{PASSWORD}@gw.example/v1/realtime?model=m&code={PASSWORD}"


def basic(pair: str) -> str:
    return "Basic " + base64.b64encode(pair.encode()).decode()


# --- what is shown ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("wss://h:1/x?model=m&api-version=1&deployment=d&intent=i&call_id=c", None),
        ("WSS://Host/x?MODEL=m&&flag=", None),
        ("wss://h/x?model=google/m@001", None),
        ("none", None),
        ("", None),
        ("wss://user:pass@h:1/x?model=m", "wss://***@h:1/x?model=m"),
        ("wss://token@h", "wss://***@h"),
        ("wss://:pass@[::1]:9/x", "wss://***@[::1]:9/x"),
        ("wss://h/x?team=a&Api-Key=b&model=m", "wss://h/x?team=***&Api-Key=***&model=m"),
        ("wss://h/x?sk-alone&model=m", "wss://h/x?***&model=m"),
        ("wss://h/x?model=m;key=b", "wss://h/x?model=***"),
        ("wss://h/x#token", "wss://h/x#***"),
        ("user:pass@h:80", "***@h:80"),
        ("http://u:pa/ss@h", "***@h"),
        ("http://u:pa?ss@h", "***@h"),
        ("ws://u:pass@[::1/x?k=v", "***@[::1/x?***"),
    ],
)
def test_a_url_is_shown_without_what_may_be_secret(url, shown):
    assert shown_url(url) == (url if shown is None else shown)
    assert shown_text(f"it is '{url}', you see") == f"it is '{shown_url(url)}', you see" or "://" not in url


def test_what_is_masked_is_what_is_looked_for_elsewhere():
    url = "wss://me:p%40ss@h/x?model=harmless-model&code=12345678%2B&v=2&alone-and-long"
    assert url_secrets(url) == ("p%40ss", "p@ss", "12345678%2B", "12345678+", "alone-and-long")
    assert url_secrets("https://sk_live_1:@h") == url_secrets("https://sk_live_1@h") == ("sk_live_1",)
    settings = load_settings({"url": URL, "proxy": PROXY.replace(PASSWORD, "other-91"), "token": KEY}, environ={})
    assert settings.secrets()[:3] == (KEY, PASSWORD, "other-91")
    assert len(settings.secrets()) == 5, "and what the two URLs become in a header"


@pytest.mark.parametrize("name", ["url", "base_url", "azure_endpoint", "proxy"])
def test_no_repr_holds_a_secret(name):
    settings = Settings(**{name: URL})
    plan = Plan(settings=settings)
    for text in (repr(settings), str(settings), repr(plan), f"{plan}", pretty_repr(settings), pretty_repr(plan)):
        assert "gw.example" in text
        assert PASSWORD not in text
        assert "user" not in text.replace("user_", "")
    assert settings.shown(name) == "wss://***@gw.example/v1/realtime?model=m&code=***"


def test_an_endpoint_shows_neither_keys_nor_what_stands_in_its_url():
    place = Endpoint(url=URL, headers={"api-key": KEY})
    for text in (repr(place), str(place), pretty_repr(place), place.label):
        assert "gw.example" in text
        assert PASSWORD not in text
        assert KEY not in text


@pytest.mark.parametrize("name", ["url", "base_url", "azure_endpoint", "proxy", "token"])
def test_a_refused_value_is_told_without_its_secret(name):
    with pytest.raises(UsageError) as caught:
        endpoint(load_settings({name: URL.replace("wss:", "ftp:") + "\n"}, environ={"AZURE_OPENAI_API_KEY": KEY}))
    assert PASSWORD not in str(caught.value)


# --- what is sent -----------------------------------------------------------------------------------------------------


def authorizations(place: Endpoint) -> list[str]:
    """What a real server gets as Authorization. place: at 127.0.0.1:1, whose part the server plays."""
    seen: list[str] = []

    def note(peer: Peer) -> None:
        seen.extend(peer.websocket.request.headers.get_all("Authorization"))
        peer.greet()
        peer.read_all()

    with ScriptedServer(note) as server:
        url = place.url.replace("127.0.0.1:1", urlsplit(server.url).netloc)
        with RealtimeClient(Endpoint(url=url, headers=place.headers, proxy=None)):
            pass
    return seen


@pytest.mark.parametrize(
    ("flags", "environ", "sent", "key"),
    [
        ({"url": "ws://u:p@127.0.0.1:1/x"}, {}, basic("u:p"), "url"),
        ({"url": "ws://u:p%40ss@127.0.0.1:1/x"}, {}, basic("u:p@ss"), "url"),
        ({"url": "ws://tok@127.0.0.1:1/x"}, {}, basic("tok:"), "url"),
        ({"url": "ws://u:p@127.0.0.1:1/x"}, {"OPENAI_API_KEY": KEY}, basic("u:p"), "url"),
        ({"url": "ws://u:p@127.0.0.1:1/x"}, {"REALTIME_TOKEN": KEY}, basic("u:p"), "url"),
        ({"token": KEY}, {"REALTIME_URL": "ws://u:p@127.0.0.1:1/x"}, f"Bearer {KEY}", "token"),
        ({"token": KEY}, {"OPENAI_BASE_URL": "http://u:p@127.0.0.1:1/v1"}, f"Bearer {KEY}", "token"),
        ({}, {"OPENAI_BASE_URL": "http://u:p@127.0.0.1:1/v1"}, basic("u:p"), "base_url"),
    ],
)
def test_one_authorization_is_sent(flags, environ, sent, key):
    settings = load_settings(flags, environ=environ)
    assert key_setting(settings) == key
    assert authorizations(endpoint(settings)) == [sent]


@pytest.mark.parametrize(
    ("flags", "environ", "says"),
    [
        ({"url": "ws://u:p@h", "token": KEY}, {}, "flag --url holds a user name, and flag --token a key"),
        ({}, {"REALTIME_URL": "ws://u:p@h", "OPENAI_API_KEY": KEY}, "environment REALTIME_URL holds a user name"),
        ({}, {"OPENAI_BASE_URL": "http://u:p@h", "OPENAI_API_KEY": KEY}, "OPENAI_API_KEY a key"),
        ({}, {"AZURE_OPENAI_ENDPOINT": "https://u:p@h", "AZURE_OPENAI_API_KEY": KEY}, "Azure takes no user name"),
    ],
)
def test_two_keys_from_one_source_are_told(flags, environ, says):
    with pytest.raises(UsageError, match=says):
        endpoint(load_settings(flags, environ=environ))


def test_an_endpoint_takes_one_authorization():
    assert authorizations(Endpoint(url="ws://me:you@127.0.0.1:1/")) == [basic("me:you")]
    with pytest.raises(UsageError, match="holds a user name, and headers a key; leave one out") as caught:
        Endpoint(url="ws://me:you@h/", headers={"authorization": "Bearer x"})
    assert "you" not in str(caught.value)
    with pytest.raises(UsageError, match="Authorization and authorization are one header"):
        Endpoint(url="ws://h/", headers={"Authorization": "a", "authorization": "b"})


def test_a_token_given_as_a_flag_beats_the_environment_everywhere():
    azure = {"AZURE_OPENAI_ENDPOINT": "https://res", "AZURE_OPENAI_API_KEY": KEY}
    for environ in (azure, {"OPENAI_API_KEY": KEY}, {"OPENAI_BASE_URL": "http://h/v1", "OPENAI_API_KEY": KEY}):
        assert endpoint(load_settings({"token": "mine"}, environ=environ)).headers == {"Authorization": "Bearer mine"}
    environ = azure | {"REALTIME_TOKEN": "of-another-server"}
    assert endpoint(load_settings({}, environ=environ)).headers == {"api-key": KEY}
    own_key = load_settings({"api_key": KEY, "url": "ws://h"}, environ={"REALTIME_TOKEN": "other"})
    assert endpoint(own_key).headers == {"Authorization": f"Bearer {KEY}"}
    Path(".env").write_text(f"AZURE_OPENAI_API_KEY={KEY}\n")
    stronger = load_settings(environ={"AZURE_OPENAI_ENDPOINT": "https://res", "AZURE_OPENAI_AD_TOKEN": "entra"})
    assert endpoint(stronger).headers == {"Authorization": "Bearer entra"}


# --- what travels -----------------------------------------------------------------------------------------------------


@pytest.fixture
def _no_given_secrets(monkeypatch):
    monkeypatch.setattr("realtime_client.batch.plan._GIVEN", {})


def travelled(**flags: object) -> Plan:
    plan = Plan(settings=load_settings(flags, environ={}))
    data = pickle.dumps(plan)
    assert PASSWORD.encode() not in data
    back = pickle.loads(data)
    assert isinstance(back, Plan)
    return back


@pytest.mark.usefixtures("_no_given_secrets")
@pytest.mark.parametrize(("name", "variable"), [("url", "REALTIME_URL"), ("proxy", "REALTIME_PROXY")])
def test_a_url_with_a_secret_does_not_travel_and_comes_from_there(monkeypatch, name, variable):
    value = {"url": URL, "proxy": PROXY}[name]
    back = travelled(**{name: value})
    assert back.missing == (name,)
    with pytest.raises(UsageError, match=f"set {variable} in its environment") as caught:
        back.check()
    assert f"{variable} as {shown_url(value)}" in str(caught.value)
    assert PASSWORD not in str(caught.value)
    monkeypatch.setenv(variable, value.replace("example", "elsewhere"))
    assert travelled(**{name: value}).missing == (name,), "that one leads to another place"
    monkeypatch.setenv(variable, value.replace(PASSWORD, "of-the-worker"))
    back = travelled(**{name: value})
    back.check()
    assert back.settings.value(name) == value.replace(PASSWORD, "of-the-worker")


@pytest.mark.usefixtures("_no_given_secrets")
def test_worker_processes_of_this_machine_are_given_it():
    plan = Plan(settings=load_settings({"url": URL, "proxy": PROXY, "token": KEY}, environ={}))
    give_secrets(plan.secrets())
    back = pickle.loads(pickle.dumps(plan))
    back.check()
    assert back.settings == plan.settings


@pytest.mark.usefixtures("_no_given_secrets")
def test_a_harmless_url_travels_as_it_is():
    back = travelled(url="wss://h/x?model=m", proxy="http://proxy.example:3128")
    back.check()
    assert back.settings.url == "wss://h/x?model=m"


# --- on the command line ----------------------------------------------------------------------------------------------


def test_no_secret_of_a_url_is_in_output_log_or_recording(tmp_path):
    with TalkingServer("Fine.") as server:
        url = server.url.replace("ws://", f"ws://user:{PASSWORD}@") + f"&code={PASSWORD}"
        log = tmp_path / "log"
        arguments = [
            "--url",
            url,
            "--record-dir",
            str(tmp_path / "rec"),
            "--log-level",
            "debug",
            "--log-file",
            str(log),
        ]
        done = realtime("say", "hello", *arguments)
    assert (done.returncode, done.stdout) == (0, "Fine.\n"), done.stderr
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for secret in (PASSWORD, basic(f"user:{PASSWORD}").removeprefix("Basic ")):
        assert secret.encode() not in written + done.stderr.encode()
    assert b'"url": "ws://***@127.0.0.1' in written.replace(b'":"', b'": "')


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        (0, ["settings"]),
        (0, ["settings", "--json"]),
        (3, ["say", "hi", "--no-record"]),
        (3, ["doctor", "--no-record"]),
        (2, ["say", "hi", "--no-record", "--proxy", f"http://u:{PASSWORD}@h:port"]),
        (2, ["say", "hi", "--no-record", "--proxy", f"http://u:{PASSWORD}/1@h:1"]),
        (3, ["say", "hi", "--no-record", "--proxy", f"socks5://u:{PASSWORD}@127.0.0.1:1"]),
        (2, ["chat", f"ws://u:{PASSWORD}@h"]),
    ],
)
def test_no_line_of_a_command_holds_a_secret(code, arguments):
    done = realtime(*arguments, REALTIME_URL=f"ws://user:{PASSWORD}@127.0.0.1:9/x?code={PASSWORD}")
    assert done.returncode == code, done.stderr
    assert PASSWORD not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "proxy", [f"http://u:{PASSWORD}@", f"http://u:{PASSWORD}/1@h:1", f"http://u:{PASSWORD}@h:port"]
)
def test_a_bad_proxy_of_the_environment_is_told_without_its_password(proxy):
    done = realtime("say", "hi", "--no-record", "--url", "wss://nowhere.invalid", HTTPS_PROXY=proxy, https_proxy=proxy)
    assert done.returncode in (2, 3)
    assert done.stderr.startswith("realtime: ")
    assert PASSWORD not in done.stderr


@pytest.mark.parametrize(
    "options",
    [
        {"url": f"wss://h/x?code={PASSWORD}", "proxy": f"http://u:{PASSWORD}@"},
        {"url": f"wss://h/x?code={PASSWORD}", "proxy": f"http://u:{PASSWORD}/1@h:1"},
        {"url": f"wss://h/x?code={PASSWORD}", "proxy": f"http://u:{PASSWORD}@h:1/path"},
        {"url": f"http://h/x?code={PASSWORD}", "proxy": None},
        {"url": f"ws://u:{PASSWORD}/1@h/x", "proxy": None},
    ],
)
def test_a_traceback_with_its_causes_holds_no_secret(options):
    with pytest.raises(RealtimeError) as caught, RealtimeClient(Endpoint(**options)):
        pass
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))


def test_who_cannot_be_reached_is_the_proxy():
    with pytest.raises(HostUnreachableError, match=r"^h: the proxy http://\*\*\*@127.0.0.1:9: connection refused"):
        RealtimeClient(Endpoint(url="wss://h/x", name="h", proxy=f"http://u:{PASSWORD}@127.0.0.1:9")).open()


def test_settings_tells_where_the_key_comes_from():
    done = realtime("settings", "--url", "ws://u:p@127.0.0.1:9/x", OPENAI_API_KEY=KEY)
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["talks", "to", "ws://127.0.0.1:9/x?model=gpt-realtime-2.1", "(with", "Authorization)"]
    assert lines[1].split() == ["key", "flag", "--url"]
