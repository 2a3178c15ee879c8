"""Putting a session together from settings: server if need be, recorder, client; and taking it apart again."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, Unpack

from realtime_client.changes import ToolSpec
from realtime_client.chat.place import Place
from realtime_client.client.client import RealtimeClient
from realtime_client.client.endpoint import Endpoint
from realtime_client.errors import ConnectError, RealtimeError, UsageError
from realtime_client.logs import Log
from realtime_client.protocol.conversation import HeardMs
from realtime_client.session.arguments import check_kind
from realtime_client.session.session import Session
from realtime_client.settings import FLAG, SPECS, Settings, load_settings
from realtime_client.settings.keywords import Keywords
from realtime_client.settings.providers import PROVIDERS, brains, chain, is_text
from realtime_client.settings.remote_settings import remote_specs
from realtime_client.settings.target import endpoint, realtime_model, session_config, target
from realtime_client.telemetry.session_log import SessionLog
from realtime_client.toolset import no_tools, run_tools, toolbox_of
from realtime_client.updates import Notice

if TYPE_CHECKING:
    import asyncio

    from realtime_client.chat.hooks import MakeFilter
    from realtime_client.chat.orders import Wishes
    from realtime_client.chat.session import ChatSession
    from realtime_client.recording.carried import Carried
    from realtime_client.recording.recorder import Recorder
    from realtime_client.talk.assembly import LiveSound
    from realtime_client.tools.approval import Policy
    from realtime_client.tools.toolbox import Toolbox
    from realtime_client.toolset import Offered

_log = Log("settings")
Prepared = Callable[[Session], object]
S = TypeVar("S", bound=Session)


@dataclass(frozen=True)
class Opened:
    """An open session.

    greeting: one line that says whom it talks to and why, and where it records. recording: the session's folder, None
    if nothing is recorded. local: it talks to the built-in server. sound: microphone and speaker in use. server_date:
    the date that the server named when it let us in, as it came; '' for none.
    carried: what was said before, in the recorded session with which it goes on.
    """

    session: Session
    greeting: str
    recording: Path | None
    local: bool
    sound: LiveSound | None = None
    server_date: str = ""
    carried: Carried | None = None


def connect(
    settings: Settings | None = None,
    *,
    tools: Sequence[Offered] = (),
    asks: bool = False,
    continue_from: str | Path | None = None,
    **values: Unpack[Keywords],
) -> Connecting[RealtimeClient]:
    """Open a session, and close it with everything that belongs to it at the end of the block.

    settings: default those of the environment, `.env` and the config file. values: settings by name, stronger than
    all of these: `connect(model="gpt-realtime-2.1", local=True, record=False)`. Without a server and a key among
    them, the built-in local server is started. A model with a provider's prefix (`ollama/llama3.2`) is a text model:
    then the session is a `ChatSession`; `connect_text` is typed so. Sessions are recorded unless `record` is false.
    tools: functions that the model may call, or `Tool`s; they run beside the talk, and nobody is asked. Those of the
    settings (`tool_files`, `mcp`) are run, too, as far as `approve`, or what the user had remembered, allows it; so it
    is with calls of `server_mcp`.
    asks: this program answers `ApprovalRequested` by `Session.approve`; else what would be asked about is refused.
    continue_from: a recorded session, of any model, to go on with: its folder, its name, the beginning of that, or
    `newest`. What was said there is told to the model, which may be another provider's.
    Errors: UsageError; RecordingError when the recording cannot be written; ConnectError and its kinds.
    """
    return Connecting(_source(settings, values), tools, asks=asks, continue_from=continue_from)


def connect_text(
    settings: Settings | None = None,
    *,
    tools: Sequence[Offered] = (),
    asks: bool = False,
    continue_from: str | Path | None = None,
    **values: Unpack[Keywords],
) -> Connecting[ChatSession]:
    """Do as `connect` for a text model, so that type checkers know what only a `ChatSession` has.

    Errors: those of `connect`; UsageError for a realtime model.
    """
    return Connecting(_source(settings, values), tools, asks=asks, continue_from=continue_from, text=True)


def _source(settings: Settings | None, values: Mapping[str, Any]) -> Callable[[], Settings]:
    """Return what gives the settings, once they are needed. Errors: UsageError."""
    check_kind(settings, Settings | None, "settings (realtime_client.Settings; a URL is connect(url=...))")
    for name in values:
        if name not in SPECS:
            raise UsageError(f"there is no setting {name!r}; `realtime settings` lists all names")
    if settings is not None and values:
        raise UsageError("give connect() either settings or single values")
    return lambda: settings or load_settings(values, arguments=True)


class Connecting(Generic[S]):
    """A session that `with` opens: until then, there is nobody to talk to.

    text: it has to be one with a text model. loop: the program's event loop; its tools that are coroutines run there.
    """

    def __init__(
        self,
        source: Callable[[], Settings],
        tools: Sequence[Offered] = (),
        *,
        asks: bool = False,
        continue_from: str | Path | None = None,
        text: bool = False,
    ) -> None:
        check_kind(tools, list | tuple, "tools=[...], a list of functions; those of a file are tool_files=[FILE]")
        check_kind(asks, bool, "asks=True or asks=False")
        check_kind(continue_from, str | Path | None, "continue_from=FOLDER, a name, or 'newest'")
        self.loop: asyncio.AbstractEventLoop | None = None
        self._source = source
        self._tools = tools
        self._asks = asks
        self._continue_from = continue_from
        self._text = text
        self._held: AbstractContextManager[Opened] | None = None

    def __enter__(self) -> S:
        return self.open()

    def open(self, prepared: Prepared | None = None) -> S:
        """What `with` does first. prepared: see `opened`."""
        settings = self._source()
        if self._text and not is_text(settings):
            raise UsageError(f"{settings.model} is no text model; their names begin with {', '.join(PROVIDERS)} and /")
        for warning in settings.warnings:
            _log.warning(warning)
        more: dict[str, Any] = {"asks": self._asks, "continue_from": self._continue_from, "loop": self.loop}
        self._held = opened(settings, prepared=prepared, tools=self._tools, **more)
        return self._held.__enter__().session  # type: ignore[return-value]  # of `connect`, too, as its settings say

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        assert self._held is not None
        return self._held.__exit__(kind, error, trace)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what Python itself asks for
            raise AttributeError(name)
        raise UsageError("connect() opens the session by `with`: `with realtime_client.connect() as session:`")


@contextmanager
def opened(
    settings: Settings,
    *,
    prepared: Prepared | None = None,
    sound: LiveSound | None = None,
    heard_ms: HeardMs | None = None,
    tools: Sequence[Offered] = (),
    toolbox: Toolbox | None = None,
    policy: Policy | None = None,
    asks: bool = False,
    continue_from: str | Path | None = None,
    tell: Callable[[str], object] = bool,
    starting: Callable[[Callable[[], object]], object] = bool,
    loop: asyncio.AbstractEventLoop | None = None,
) -> Iterator[Opened]:
    """Hold a session open. prepared: gets the session before it connects, for example to close it.

    sound: microphone and speaker to use; they are opened with the session and closed with it. heard_ms: where playback
    is, for those who listen in another way. tools: what the model may call; they are run. toolbox: in place of
    those and of the settings' own, for callers that fill it. policy: decides which calls may run; default: as the
    settings say. asks: somebody can be asked whether a call is allowed. continue_from: see `connect`. tell: takes a
    line for people about what takes its time. starting: gets what ends the wait for servers of tools, before they are
    started. loop: as that of `Connecting`.
    """
    with ExitStack() as stack:
        carried = None
        if continue_from is not None:
            from realtime_client.recording.as_set import to_go_on

            settings, carried = to_go_on(settings, continue_from)
        as_set = toolbox is None
        if toolbox is None:
            toolbox = toolbox_of(settings, tools, stack, tell=tell, starting=starting)
        if toolbox is None and (asks or settings.approve or settings.server_mcp):
            toolbox = no_tools()
        specs = () if toolbox is None else toolbox.specs
        session, recorder, whom = _session(settings, stack, sound, heard_ms, specs, carried=carried)
        session.observe(SessionLog(session).observe)
        if settings.metrics_port or settings.otel:
            _observe(session, settings, sound, stack)
        if prepared is not None:
            prepared(session)
        end_tools = stack.callback(run_tools(settings, session, toolbox, policy, asks=asks, loop=loop))
        if sound is not None:
            stack.callback(sound.close)
        with _without_trace(session, recorder):
            stack.enter_context(session)
        stack.callback(end_tools)  # before the session does
        if as_set and (tools or settings.tool_files or settings.mcp) and not session.facts.abilities.tools:
            raise UsageError(
                f"{session.model or 'this model'} calls no tools in this session: leave out --tools and --mcp"
            )
        if sound is not None:
            stack.enter_context(sound.attached(session))
        folder = None if recorder is None else recorder.folder
        local = not is_text(settings) and target(settings) == "local"
        greeting = f"{whom(session)}; " + ("nothing is recorded" if folder is None else f"recording into {folder}")
        if carried is not None:
            greeting = f"continuing {carried.told} with {session.model or 'this model'}; {greeting}"
        date = session.server_date if isinstance(session, RealtimeClient) else ""
        yield Opened(session, greeting, folder, local, sound, date, carried)


def _session(
    settings: Settings,
    stack: ExitStack,
    sound: LiveSound | None,
    heard_ms: HeardMs | None,
    tools: Sequence[ToolSpec],
    *,
    carried: Carried | None,
) -> tuple[Session, Recorder | None, Callable[[Session], str]]:
    """Make the session that the settings ask for; returns it, its recorder, and what says whom it talks to."""
    if settings.rank("brain") == FLAG and (is_text(settings) or target(settings) != "local"):
        do = f"leave out {settings.model}" if is_text(settings) else "add --local"
        raise UsageError(f"{settings.source('brain')}: only the built-in local server takes a brain: {do}")
    if settings.rank("server_mcp") == FLAG and is_text(settings) and remote_specs(settings.server_mcp):
        what = settings.source("server_mcp")
        raise UsageError(f"{what}: only servers of realtime models call tools: use --mcp with {settings.model}")
    if is_text(settings):
        places = chain(settings)
        endpoints = [(place.base_url, place.headers) for place in places]
        recorder = _recorder(settings, endpoints, carried)
        return _chat(settings, places, recorder, tools, carried), recorder, lambda session: _models(session, places)
    standby = chain(settings)  # judged before anything is sent
    if settings.filter is not None and not standby:
        raise UsageError(f"{settings.source('filter')}: only the answers of text models are filtered")
    aside = _Aside()
    place = _place(settings, stack, live=sound is not None, tell=aside)
    endpoints = [(place.url, place.headers), *((each.base_url, each.headers) for each in standby)]
    recorder = _recorder(settings, endpoints, carried)
    common: dict[str, Any] = {
        "session": session_config(settings, tools),
        "limits": settings.limits,
        "recovery": settings.recovery,
        "recorder": recorder,
        "heard_ms": heard_ms if sound is None else sound.voice.heard_ms,
    }
    if carried is not None:
        common["told"] = carried.entries
    client = RealtimeClient(place, **common) if not standby else _standby(settings, place, standby, tools, common)
    aside.session = client
    return client, recorder, lambda session: _whom(settings, place, session)


class _Aside:
    """Passes on what the built-in server tells of its brain: no message of the protocol can say it."""

    session: Session | None = None

    def __call__(self, message: str) -> None:
        if self.session is not None:
            with suppress(RealtimeError):  # it is not open, or is over
                self.session.tell(Notice(message=message))


def _standby(
    settings: Settings, place: Endpoint, places: list[Place], tools: Sequence[ToolSpec], common: dict[str, Any]
) -> RealtimeClient:
    """Make a realtime session for which text models stand by."""
    from realtime_client.handover import StandbyClient

    wishes = _wishes(settings, tools)
    client = StandbyClient(
        place, places=places, wishes=wishes, chat_limits=settings.chat, after_s=settings.fallback_after_s, **common
    )
    _filter(settings, client.add_filter)
    return client


def _chat(
    settings: Settings,
    places: list[Place],
    recorder: Recorder | None,
    tools: Sequence[ToolSpec],
    carried: Carried | None,
) -> Session:
    """Make a session with text models."""
    from realtime_client.chat.session import ChatSession

    wishes = _wishes(settings, tools)
    session = ChatSession(
        places,
        wishes=wishes,
        limits=settings.limits,
        chat_limits=settings.chat,
        recorder=recorder,
        told=() if carried is None else carried.entries,
    )
    _filter(settings, session.add_filter)
    return session


def _filter(settings: Settings, add: Callable[[MakeFilter], object]) -> None:
    if settings.filter is not None:
        from realtime_client.chat.hooks import filter_file

        add(filter_file(settings.filter))


def _wishes(settings: Settings, tools: Sequence[ToolSpec]) -> Wishes:
    from realtime_client.chat.orders import Wishes

    most = settings.max_output_tokens
    think = {"true": True, "false": False}.get(settings.think or "", settings.think)
    return Wishes(
        instructions=settings.instructions or "",
        tools=tuple(tools),
        max_tokens=most if isinstance(most, int) else None,
        temperature=settings.temperature,
        think=think,
        streaming=settings.streaming,
        fallback=settings.fallback_on_error,
    )


def _models(session: Session, places: list[Place]) -> str:
    others = f", or {', '.join(place.name for place in places[1:])}" if len(places) > 1 else ""
    context = f" with {places[0].context} tokens of context" if places[0].context else ""
    return f"talking to {session.model} at {places[0].host}{context}{others}"


def _observe(session: Session, settings: Settings, sound: LiveSound | None, stack: ExitStack) -> None:
    """Serve the session's metrics, and make spans of it, as far as the settings say so."""
    if settings.metrics_port:
        from realtime_client.telemetry.endpoint import metrics_endpoint
        from realtime_client.telemetry.session import SessionMetrics

        metrics = SessionMetrics(session, None if sound is None else lambda: sound.voice.underruns)
        session.observe(metrics.observe)
        stack.enter_context(metrics_endpoint(settings.metrics_port, metrics.render))
    if settings.otel:
        from realtime_client.telemetry.spans import SessionSpans, tracer

        spans = SessionSpans(tracer(), {"server.address": session.where})
        session.observe(spans.observe)
        stack.callback(spans.close)


def _place(settings: Settings, stack: ExitStack, *, live: bool, tell: Callable[[str], object]) -> Endpoint:
    """Return where to connect; the built-in server is started if that is the place. tell: takes its lines for people.

    live: with microphone and speaker. Then the server has a process of its own: its ear holds Python's interpreter lock
    for up to half a second, and no sound device waits that long.
    """
    if target(settings) != "local":
        return endpoint(settings)
    from realtime_client.local import LocalServer, Parts
    from realtime_client.local.server_process import ServerProcess, brain_values

    token = settings.token.reveal() if settings.token else secrets.token_urlsafe(16)
    server: LocalServer | ServerProcess
    if live:
        server = ServerProcess(token=token, quiet=True, brain=brain_values(settings))
    elif settings.brain:
        from realtime_client.local.text_brain import TextBrain

        brain = TextBrain.of(settings)
        brain.tell = tell
        server = LocalServer(token=token, parts=Parts(brain=brain))
    else:
        server = LocalServer(token=token)
    stack.enter_context(server)
    return endpoint(settings, local_url=server.url, local_token=token)


def _recorder(
    settings: Settings, endpoints: Sequence[tuple[str, Mapping[str, str]]], carried: Carried | None
) -> Recorder | None:
    if not settings.record:
        return None
    from realtime_client.recording.as_set import recorder_as_set

    return recorder_as_set(settings, endpoints, carried)


@contextmanager
def _without_trace(session: Session, recorder: Recorder | None) -> Iterator[None]:
    """Remove the folder of a session that never began: one in which no message came or went."""
    try:
        yield
    except ConnectError:
        traffic = session.stats().traffic
        if recorder is not None and not (traffic.frames_in or traffic.frames_out):
            shutil.rmtree(recorder.folder, ignore_errors=True)
        raise


def _whom(settings: Settings, place: Endpoint, session: Session) -> str:
    if target(settings) == "local":
        why = "as asked" if settings.local else "no OPENAI_API_KEY"
        brain = ", or ".join(f"{place.name} at {place.host}" for place in brains(settings))
        return f"{why}: talking to the built-in local server" + (f" with {brain}" if brain else "")
    return f"talking to {session.model or realtime_model(settings)} at {place.name}"
