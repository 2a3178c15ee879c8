"""Where settings come from, what is refused, and that secrets do not show."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import pytest

from realtime_client.errors import UsageError
from realtime_client.secret import Secret
from realtime_client.settings import SPECS, Settings, config_path, load_settings, recordings_folder

KEY = "sk-abcdefghijklmnop-1234"


def write_config(text: str) -> Path:
    path = config_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_each_source_beats_the_next(monkeypatch):
    assert load_settings().model == "gpt-realtime-2.1"
    path = write_config('model = "from-config"')
    assert load_settings().model == "from-config"
    assert load_settings().source("model") == f"config file {path}: model"
    Path(".env").write_text("REALTIME_MODEL=from-dotenv\n")
    assert load_settings().source("model") == ".env REALTIME_MODEL"
    monkeypatch.setenv("REALTIME_MODEL", "from-environment")
    assert load_settings().source("model") == "environment REALTIME_MODEL"
    settings = load_settings({"model": "from-flag"})
    assert (settings.model, settings.source("model")) == ("from-flag", "flag --model")
    assert settings.source("voice") == "default"


def test_an_empty_variable_counts_as_not_set(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "")
    Path(".env").write_text(f"OPENAI_API_KEY={KEY}\n")
    assert load_settings().source("api_key") == ".env OPENAI_API_KEY"


def test_every_setting_can_be_given_as_text_in_the_environment():
    environ = {}
    for spec in SPECS.values():
        text = spec.choices[-1] if spec.choices else ("1" if spec.is_switch else "7")
        environ[spec.env] = KEY if spec.is_secret else text
    environ["REALTIME_HEADER"], environ["REALTIME_TEMPERATURE"] = "X-Trace=7", "0.7"
    environ["REALTIME_MCP_ENV"], environ["REALTIME_APPROVE"] = "HOME,LANG", "time/*=always, never"
    environ["REALTIME_SPEED"], environ["REALTIME_VOLUME"] = "1.5", "0.5"
    environ["REALTIME_SERVER_MCP"] = "wiki=https://wiki.example/mcp"
    environ["REALTIME_SCREEN_INTERVAL_S"], environ["REALTIME_LOG_LEVEL"] = "1.5", "info,chat=debug"
    settings = load_settings(environ=environ)
    assert all(settings.source(name) == f"environment {spec.env}" for name, spec in SPECS.items())
    assert settings.limits.open_timeout_s == 7.0
    assert settings.limits.inbound_queue == 7
    assert settings.speed == 1.5
    assert (settings.mic, settings.speaker, settings.echo, settings.volume) == ("7", "7", "half-duplex", 0.5)


def test_config_file_takes_native_types():
    write_config("speed = 1.25\nrecord = false\nmax_output_tokens = 100\npong_timeout_s = 3")
    settings = load_settings()
    assert (settings.speed, settings.record, settings.max_output_tokens) == (1.25, False, 100)
    assert settings.limits.pong_timeout_s == 3.0


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("REALTIME_SPEED", "9", "environment REALTIME_SPEED: the value '9' must be from 0.25 to 1.5"),
        ("REALTIME_SPEED", "nan", "must be from"),
        ("REALTIME_SPEED", "fast", "must be a number"),
        ("REALTIME_MODALITY", "video", "must be one of audio, text"),
        ("REALTIME_RECORD", "maybe", "must be true or false"),
        ("REALTIME_MAX_OUTPUT_TOKENS", "many", "or inf"),
        ("REALTIME_MAX_OUTPUT_TOKENS", "0", "or inf"),
        ("REALTIME_OUTBOX_QUEUE", "1.5", "must be a whole number"),
        ("REALTIME_OPEN_TIMEOUT_S", "0", "must be from 0.001"),
        ("REALTIME_MODEL", "a\nb", "line break"),
        ("OPENAI_ORG_ID", "org\r\nX-Evil: 1", "line break"),
    ],
)
def test_a_bad_value_is_refused_with_its_source(monkeypatch, name, value, says):
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="(?s)" + says.replace(".", r"\.")) as caught:
        load_settings()
    assert name in str(caught.value)


@pytest.mark.parametrize(
    "bad", ["sk-hidden\nX: y", "sk-hidden y", "sk-hidden\x00", "sk-hidden\N{EM DASH}", " sk-hidden"]
)
def test_a_key_that_could_break_a_header_is_refused_without_being_shown(bad):
    with pytest.raises(UsageError) as caught:
        load_settings(environ={"OPENAI_API_KEY": bad})
    assert "hidden" not in str(caught.value)
    assert "OPENAI_API_KEY" in str(caught.value)


def test_a_device_is_named_by_its_number_or_by_text():
    write_config('mic = 3\nspeaker = "USB Headset"\nvolume = 0\n')
    found = load_settings(environ={})
    assert (found.mic, found.speaker, found.volume) == ("3", "USB Headset", 0.0)


def test_unknown_names_and_broken_files_are_named():
    write_config('modle = "x"')
    with pytest.raises(UsageError, match=r"no setting 'modle'; did you mean model\?"):
        load_settings()
    path = write_config("model = ")
    with pytest.raises(UsageError, match="cannot be read"):
        load_settings()
    path.unlink()
    Path(".env").write_bytes(b"\xff\xfe=\xff")
    with pytest.raises(UsageError, match=r"\.env cannot be read"):
        load_settings()


def test_secrets_never_show(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    settings = load_settings({"token": "short"})
    for text in (repr(settings), str(settings), f"{settings.api_key}", f"{settings.api_key!r}"):
        assert KEY not in text
        assert "abcdefg" not in text
    assert str(settings.api_key) == "set (...1234)"
    assert str(settings.token) == "set"
    assert settings.api_key is not None
    assert settings.api_key.reveal() == KEY
    with pytest.raises(TypeError):
        pickle.dumps(settings.api_key)
    assert Secret("a") == Secret("a") != Secret("b")


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().model = "x"  # type: ignore[misc]


def test_recordings_go_to_the_project_or_the_users_own_folder(tmp_path):
    assert recordings_folder(Settings(record_dir=tmp_path)) == tmp_path
    assert recordings_folder(Settings(), tmp_path).name == "recordings"
    assert "realtime-client" in str(recordings_folder(Settings(), tmp_path))
    (tmp_path / "recordings").mkdir()
    assert recordings_folder(Settings(), tmp_path) == tmp_path / "recordings"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("REALTIME_SPED", "REALTIME_SPED: there is no such setting; did you mean REALTIME_SPEED?"),
        ("REALTIME_RECORDDIR", "did you mean REALTIME_RECORD_DIR?"),
        ("REALTIME_API_KEY", "there is no such setting"),
        ("REALTIME_XYZZY", "`realtime settings` lists all names"),
    ],
)
def test_a_mistyped_variable_is_told_with_the_nearest_name(monkeypatch, name, says):
    monkeypatch.setenv(name, "sk-something-secret")
    (warning,) = load_settings().warnings
    assert warning.startswith("environment ")
    assert says in warning
    assert "sk-something" not in warning
    monkeypatch.delenv(name)
    Path(".env").write_text(f"{name}=1\nOTHER_PROGRAM=1\n")
    (warning,) = load_settings().warnings
    assert warning.startswith(".env ")
    assert says in warning


def test_no_variable_of_ours_is_taken_for_a_mistake(monkeypatch, tmp_path):
    config = tmp_path / "config.toml"
    config.touch()
    for name in ("REALTIME_PYTHON", "REALTIME_TEST_EXAMPLES"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("REALTIME_CONFIG", str(config))
    environ = {spec.env: "" for spec in SPECS.values() if spec.env}
    assert load_settings(environ=environ | {"REALTIME_CONFIG": str(config)}).warnings == ()
    assert load_settings().warnings == ()


def test_paths_mean_the_folder_that_was_current_when_they_were_given(monkeypatch, tmp_path):
    before = Path.cwd()
    (before / "recordings").mkdir()
    monkeypatch.setenv("REALTIME_LOG_FILE", "log")
    write_config('ca_file = "ca.pem"')
    settings = load_settings({"record_dir": "rec"})
    direct = Settings(record_dir=Path("rec"))
    here = recordings_folder(Settings())
    monkeypatch.chdir(tmp_path)
    assert (settings.record_dir, settings.log_file, settings.ca_file) == (
        before / "rec",
        before / "log",
        before / "ca.pem",
    )
    assert direct.record_dir == dataclasses.replace(direct, model="m").record_dir == before / "rec"
    assert here == before / "recordings"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_settings({"record_dir": "~/rec"}).record_dir == tmp_path / "rec"


@pytest.mark.parametrize("name", [spec.name for spec in SPECS.values() if not spec.is_switch and not spec.choices])
def test_no_setting_takes_half_characters(name):
    with pytest.raises(UsageError, match=r"is not text in UTF-8|must be a") as caught:
        load_settings({name: "caf\udce9"})
    str(caught.value).encode()


def test_a_config_file_in_a_home_that_is_no_folder_is_none(monkeypatch):
    monkeypatch.setenv("HOME", "/dev/null")
    monkeypatch.delenv("XDG_CONFIG_HOME")
    assert load_settings().model == "gpt-realtime-2.1"
    monkeypatch.setenv("REALTIME_CONFIG", "nowhere.toml")
    with pytest.raises(UsageError, match=r"REALTIME_CONFIG: .*nowhere\.toml cannot be read \(No such file"):
        load_settings()
