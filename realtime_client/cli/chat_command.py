"""`realtime chat`: a conversation on the line screen; piped input is one prompt."""

from __future__ import annotations

import signal
import sys

import click

from realtime_client.cli.group import Invocation
from realtime_client.cli.options import SectionedCommand, talk_options
from realtime_client.cli.session import command_session
from realtime_client.errors import UsageError
from realtime_client.settings import Settings


@click.command("chat", cls=SectionedCommand)
@talk_options
def command(*, settings: Settings, invocation: Invocation) -> None:
    """Hold a conversation: type, and the answer streams in. .help lists what else can be typed.

    If standard input is not a terminal, all of it is one prompt, and the answer goes to standard output.
    """
    if sys.stdin.isatty():
        _converse(settings, invocation)
        return
    from realtime_client.cli.say_command import read_stdin, say

    prompt = read_stdin().strip()
    if not prompt:
        raise UsageError("standard input is empty; pipe a question in, or start from a terminal to converse")
    say(settings, invocation, prompt)


def _converse(settings: Settings, invocation: Invocation) -> None:
    from realtime_client.cli.chat import Chat
    from realtime_client.cli.screen import make_screen

    screen = make_screen()
    with command_session(settings, invocation, screen.notice) as (session, state):
        chat = Chat(session.client, screen, session.recording)

        def on_signal(which: signal.Signals) -> bool:
            if which == signal.SIGINT:
                chat.interrupt()
                return chat.interrupted
            screen.stop()
            return True

        state.handle(on_signal)
        remove = session.client.observe(chat.observe)
        try:
            screen.notice("type a line to talk, .help for more, .quit to end")
            screen.run(chat.line, chat.interrupt)
        finally:
            remove()
        failure = chat.error or session.client.error
        if failure is not None:
            raise failure
        if chat.interrupted:
            state.end_by(signal.SIGINT)
