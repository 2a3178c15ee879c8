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
    from realtime_client.local import Faults, LocalServer

_GRACE_S = 30.0
_GRAMMAR = """
\b
WHAT goes wrong, with --faults:
  close[:CODE][,reason=TEXT]  rst  eof  expire  error:CODE[,message=TEXT]
  half-open  stall-reads  no-pongs  late-pongs:SECONDS        [,for=SECONDS]
  delay:SECONDS[,jitter=SECONDS]  bandwidth:BYTES  drip:BYTES[,every=SECONDS]
  drop  duplicate  reorder  split:BYTES  corrupt[:json|utf8|surrogate]
  refuse[:STATUS][,HEADER=VALUE]  no-answer                     (handshakes)

\b
@WHEN (all that are given must hold):
  EVENT[#N|#N-M]  client  server  p=PROBABILITY  3s  sent=BYTES  received=BYTES
  connections=N[-M]  times=N                on its own: seed=N, for chance

\b
Examples:
  realtime serve --faults 'close:1011@response.output_audio.delta#5@times=1'
  realtime serve --faults 'refuse:503,retry-after=2@connections=1-3; rst@30s'
"""


@click.command("serve", cls=SectionedCommand, epilog=_GRAMMAR)
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
@click.option(
    "--faults",
    multiple=True,
    metavar="SPEC|FILE.yaml",
    help="let things go wrong, to test a client: WHAT[:VALUE][,NAME=VALUE][@WHEN...], several with `;`; see the end",
)
@server_options
def command(
    *,
    settings: Settings,
    invocation: Invocation,
    host: str,
    port: int,
    beta: bool,
    processes: int,
    faults: tuple[str, ...],
) -> None:
    """Run the local server; its URL is the one line on standard output. Ctrl-C or SIGTERM ends it.

    Any Realtime client can use it, for example with `realtime chat --url URL`. With --brain a text model answers: it
    gets a voice, and the client's tools. Its address and key come from the variables of its provider.
    """
    from realtime_client.local.processes import Servers
    from realtime_client.local.server_process import brain_values

    if faults and processes > 1:
        raise UsageError("--faults counts connections, which one server alone can do: leave out --processes")
    wrong = _faults(faults)
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
        several() if processes > 1 else _server(settings, host, port, token=token, beta=beta, faults=wrong) as server,
    ):
        state.handle(on_signal)
        if not server.loopback:
            who = "who knows the token" if token else "(no --token is set)"
            notice(invocation, f"warning: other machines can reach {host}, and so can anyone there {who}")
        if brain is not None:
            notice(invocation, f"answers are made by {', or '.join(f'{p.name} at {p.host}' for p in brains(settings))}")
        if wrong is not None:
            notice(invocation, _about(wrong))
        click.echo(server.url)
        ended.wait()


def _faults(given: tuple[str, ...]) -> Faults | None:
    """Return what is to go wrong; None for nothing. Errors: UsageError."""
    if not given:
        return None
    from realtime_client.local.faults import read_faults

    return read_faults(given).seeded()


def _about(faults: Faults) -> str:
    number = len(faults.faults)
    by_chance = f", by chance with seed={faults.seed}" if faults.random else ""
    return f"{number} {'fault' if number == 1 else 'faults'} on demand{by_chance}; -v tells of each"


def _server(
    settings: Settings, host: str, port: int, *, token: str | None, beta: bool, faults: Faults | None
) -> LocalServer:
    from realtime_client.local import LocalServer, Parts

    if not settings.brain:
        return LocalServer(host, port, token, beta=beta, faults=faults)
    from realtime_client.local.text_brain import TextBrain

    return LocalServer(host, port, token, beta=beta, faults=faults, parts=Parts(brain=TextBrain.of(settings)))


def _token(settings: Settings) -> str | None:
    """Return what clients must present, None when no token is asked for. Errors: UsageError for an empty one."""
    given = settings.token.reveal() if settings.token is not None else os.environ.get(SPECS["token"].env)
    if given is None:
        return None
    if not given.strip():
        where = settings.source("token") if settings.token is not None else f"environment {SPECS['token'].env}"
        raise UsageError(f"{where}: the token is empty, which would let everyone in; give one, or none at all")
    return given
