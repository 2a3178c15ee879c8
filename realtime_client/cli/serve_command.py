"""`realtime serve`: the built-in local server on its own."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

import click

from realtime_client.cli.group import Invocation
from realtime_client.cli.interruption import interruption
from realtime_client.cli.options import SectionedCommand, server_options
from realtime_client.cli.session import logging_as_set, notice
from realtime_client.errors import UsageError
from realtime_client.settings import SPECS, Settings
from realtime_client.settings.providers import brains

if TYPE_CHECKING:
    from realtime_client.local import LocalServer

_GRACE_S = 30.0


@click.command("serve", cls=SectionedCommand)
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="address to listen on; other machines need 0.0.0.0"
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="port to listen on; 0, the default, takes a free one"
)
@click.option("--beta", is_flag=True, help="also speak the protocol's old beta shape")
@click.option(
    "--processes",
    type=click.IntRange(1, 256),
    default=1,
    metavar="N",
    help="servers that share the port, a process each; one serves some 100 sessions at a time, and uses one core [1]",
)
@server_options
def command(*, settings: Settings, invocation: Invocation, host: str, port: int, beta: bool, processes: int) -> None:
    """Run the local server; its URL is the one line on standard output. Ctrl-C or SIGTERM ends it.

    Any Realtime client can use it, for example with `realtime chat --url URL`. With --brain a text model answers: it
    gets a voice, and the client's tools. Its address and key come from the variables of its provider.
    """
    from realtime_client.local.processes import Servers
    from realtime_client.local.server_process import brain_values

    brain = brain_values(settings)
    token = _token(settings)
    ended = threading.Event()

    def on_signal(_which: signal.Signals) -> bool:
        ended.set()
        return True

    def several() -> Servers:
        log = {"level": settings.log_level, "file": str(settings.log_file or ""), "as_json": settings.log_json}
        return Servers(
            processes,
            host,
            port,
            say=lambda text: notice(invocation, text),
            on_failure=ended.set,
            token=token,
            beta=beta,
            brain=brain,
            log=log,
        )

    fine = {signal.SIGTERM}  # how a service is asked to end: that is success
    with (
        logging_as_set(settings),
        interruption(_GRACE_S, fine) as state,
        several() if processes > 1 else _server(settings, host, port, token=token, beta=beta) as server,
    ):
        state.handle(on_signal)
        if not server.loopback:
            who = "who knows the token" if token else "(no --token is set)"
            notice(invocation, f"warning: other machines can reach {host}, and so can anyone there {who}")
        if brain is not None:
            notice(invocation, f"answers are made by {', or '.join(f'{p.name} at {p.host}' for p in brains(settings))}")
        click.echo(server.url)
        ended.wait()


def _server(settings: Settings, host: str, port: int, *, token: str | None, beta: bool) -> LocalServer:
    from realtime_client.local import LocalServer, Parts

    if not settings.brain:
        return LocalServer(host, port, token, beta=beta)
    from realtime_client.local.text_brain import TextBrain

    return LocalServer(host, port, token, beta=beta, parts=Parts(brain=TextBrain.of(settings)))


def _token(settings: Settings) -> str | None:
    """Return what clients must present, None when no token is asked for. Errors: UsageError for an empty one."""
    given = settings.token.reveal() if settings.token is not None else os.environ.get(SPECS["token"].env)
    if given is None:
        return None
    if not given.strip():
        where = settings.source("token") if settings.token is not None else f"environment {SPECS['token'].env}"
        raise UsageError(f"{where}: the token is empty, which would let everyone in; give one, or none at all")
    return given
