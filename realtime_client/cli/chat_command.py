"""`realtime chat`: a conversation by voice and on the line screen; piped input is one prompt."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sys
from typing import TYPE_CHECKING

import click

from realtime_client.audio.quiet import quiet_screen
from realtime_client.cli.group import Invocation
from realtime_client.cli.options import SectionedCommand, talk_options
from realtime_client.cli.screen import Screen
from realtime_client.cli.session import close_soon, command_session
from realtime_client.cli.tool_prints import tool_prints
from realtime_client.errors import RealtimeError, UsageError
from realtime_client.settings import DEFAULT, Settings
from realtime_client.settings.providers import is_text

if TYPE_CHECKING:
    from realtime_client.cli.chat import Chat
    from realtime_client.cli.interruption import Interruption
    from realtime_client.talk.assembly import LiveSound

_STUCK_S = 1.0  # by then, a screen that has not ended is stuck: the session is closed without it


@click.command("chat", cls=SectionedCommand)
@click.option("--voice", "by_voice", is_flag=True, help="talk even if standard input is not a terminal")
@click.option(
    "--continue",
    "continue_from",
    is_flag=False,
    flag_value="newest",
    metavar="[SESSION]",
    help="go on with a recorded session: its folder, its name or the beginning of that [the newest one]",
)
@talk_options
def command(
    *, settings: Settings, invocation: Invocation, by_voice: bool, by_text: bool, continue_from: str | None
) -> None:
    """Hold a conversation: speak or type; the answer is heard and streams in. .help lists what else can be typed.

    Voice needs a microphone or a speaker and a terminal; without them the conversation is in text, until one is
    plugged in. With --text, or where there can be no sound, only text is asked for. If standard input is not a
    terminal, all of it is one prompt, and the answer goes to standard output.

    With --continue the model is told what was said in a session before, which may have been with another one. It goes
    to that model's provider.

    Ctrl-C clears a half-typed line; else it stops the answer; else it cancels what tools do; else it asks for another
    one, which ends.
    """
    if by_voice and by_text:
        raise UsageError("--voice and --text exclude each other (to speak and read the answers: --modality text)")
    writes = is_text(settings)
    if by_voice and writes:
        raise UsageError(f"--voice needs a realtime model: {settings.model} takes text")
    if sys.stdin.isatty() or by_voice:
        with quiet_screen():
            speaks = by_voice or not (writes or by_text or not sys.stdout.isatty())
            _converse(settings, invocation, by_voice=speaks, continue_from=continue_from)
        return
    from realtime_client.cli.say_command import read_stdin, say

    prompt = read_stdin().strip()
    if not prompt:
        raise UsageError("standard input is empty; pipe a question in, or start from a terminal to converse")
    say(settings, invocation, prompt, continue_from=continue_from)


def _converse(settings: Settings, invocation: Invocation, *, by_voice: bool, continue_from: str | None) -> None:
    from realtime_client.cli.chat import Chat
    from realtime_client.cli.last_words import last_words

    screen = _best_screen(settings.screen_interval_s)

    def choose(settings: Settings) -> tuple[Settings, LiveSound | None]:
        sound = _sound(settings, screen) if by_voice else None
        if (sound is None or not sound.possible) and settings.rank("modality") == DEFAULT:
            settings = dataclasses.replace(settings, modality="text")  # a speaker that is plugged in asks again
        return settings, sound

    asks = sys.stdin.isatty()
    with (
        tool_prints(screen.aside) if settings.tool_files else contextlib.nullcontext(),
        command_session(settings, invocation, screen.notice, sound=choose, asks=asks, continue_from=continue_from) as (
            held,
            state,
        ),
    ):
        voice = None
        greeting = "type a line to talk, .help for more, .quit to end"
        if held.sound is not None:
            from realtime_client.cli.chat_voice import ChatVoice

            voice = ChatVoice(held.sound, screen, lambda: held.session.answering)
            greeting = voice.greeting()
            screen.add_controls(voice)
        chat = Chat(held.session, screen, held.recording, voice, asks=asks)

        def on_signal(which: signal.Signals) -> bool:
            if which == signal.SIGINT and screen.interrupt():
                return False
            if held.sound is not None:
                held.sound.drop()
            screen.stop()
            return close_soon(held.session, _STUCK_S)

        state.at_force = screen.abandon
        state.handle(on_signal)
        remove = held.session.observe(chat.observe)
        try:
            for line in () if held.carried is None else last_words(held.carried.entries):
                screen.aside(line)
            screen.notice(greeting)
            screen.run(chat.line, chat.interrupt, chat.typed, chat.goes_on)
        finally:
            remove()
        _tell_end(chat, screen, held.session.error, state)


def _tell_end(chat: Chat, screen: Screen, error: RealtimeError | None, state: Interruption) -> None:
    if screen.hung_up:
        state.end_by(signal.SIGHUP)
        return
    failure = chat.error or error
    if failure is not None:
        raise failure
    if chat.interrupted:
        state.end_by(signal.SIGINT)


def _sound(settings: Settings, screen: Screen) -> LiveSound | None:
    """Choose microphone and speaker; a line says so if there is neither. None if none can be plugged in, either."""
    from realtime_client.audio import devices
    from realtime_client.talk.assembly import LiveSound

    early: list[str] = []
    made = False

    def warn(text: str) -> None:
        if made:
            screen.notice(f"[{text}]")
        else:
            early.append(text)  # one line may say it all

    sound = LiveSound(settings, warn)
    made = True
    if sound.possible:
        for text in early:
            warn(text)
        return sound
    if devices.unavailable() is not None:
        screen.notice("[no microphone and no speaker: the session goes on in text]")
        return None
    screen.notice("[no microphone and no speaker: in text until one is plugged in]")
    return sound


def _best_screen(interval_s: float) -> Screen:
    """Return the best screen for where standard input and output lead. interval_s: between two drawings."""
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    able = os.environ.get("TERM", "") not in ("", "dumb") or sys.platform == "win32"
    if interactive and able:
        from realtime_client.cli.line_screen import LineScreen

        return LineScreen(interval_s)
    from realtime_client.cli.plain_screen import PlainScreen

    return PlainScreen()
