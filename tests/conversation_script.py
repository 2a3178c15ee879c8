"""The client's side of a conversation on a stage: a `Scene` to act on, and scripts that read like a conversation.

A script is what happens, line by line, and what must follow from it:

    user    asks instructions=one       the program acts: a method of `Scene` that begins with `user_`
    client  response.create event_1     what is sent because of it: all of it, in order
    server  created                     the server speaks: any other method of `Scene`
    told    response_started event_1    what observers are told: all of it, in order, where a step has such lines
    time    2                           seconds that pass
    plays   item_a 300                  how far playback of an item's first part has come
    result  true                        what the program's call returned
    refused "64 requests"               words of the UsageError that the step raises
    order   item_1 item_a               the items, in order
    holds   user text=hello             the history: all of it, in order
    busy    no                          whether an answer runs or is asked for; `wanted`: and nobody has cancelled it

Of a message, an update or an entry, a line names its kind and as much else as matters: `name=value` for a field, or for
one further inside (`instructions=one`, `error.code=x`), a bare word for any field's value or for a flag that is set.
Values are JSON where they can be. `nothing` stands for none. Messages are short: `item.create`, `input.commit`.
"""

from __future__ import annotations

import base64
import itertools
import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

import msgspec

from realtime_client import updates as up
from realtime_client.errors import UsageError
from realtime_client.protocol import codec, items
from realtime_client.protocol import events as ev
from realtime_client.protocol.conversation import Conversation

BUSY = "conversation_already_has_active_response"
MS = 48  # bytes of a millisecond of PCM at 24 kHz
HEARD = "conversation.item.input_audio_transcription"


USAGE = {
    "total_tokens": 100,
    "input_tokens": 70,
    "output_tokens": 30,
    "input_token_details": {
        "text_tokens": 40,
        "audio_tokens": 20,
        "image_tokens": 10,
        "cached_tokens": 35,
        "cached_tokens_details": {"text_tokens": 25, "audio_tokens": 8, "image_tokens": 2},
    },
    "output_token_details": {"text_tokens": 12, "audio_tokens": 18},
}


def only(updates: list[up.Update], kind: type[up.Update]) -> Any:
    (update,) = [u for u in updates if type(u) is kind]
    return update


class Scene:
    """A conversation with counted ids on a clock set by hand, and the server's messages in few words."""

    def __init__(self, *, plays: bool = True, **options: Any) -> None:
        ids = itertools.count(1)
        self.now_s = 100.0
        self.heard: dict[tuple[str, int], int] | None = None
        self.told: list[items.Item] = []
        self.it = Conversation(
            new_id=lambda prefix: f"{prefix}_{next(ids)}",
            heard_ms=self._heard_ms if plays else None,
            now_s=lambda: self.now_s,
            **options,
        )

    def _heard_ms(self, item_id: str, content_index: int) -> int | None:
        return None if self.heard is None else self.heard.get((item_id, content_index), 0)

    def get(self, kind: str, **fields: Any) -> list[up.Update]:
        """One message, through the codec as from the wire."""
        event = codec.decode_server(json.dumps({"type": kind, "event_id": "e", **fields}))
        assert isinstance(event, ev.ServerEvent), event
        return self.it.receive(event)

    def sent(self) -> list[ev.ClientEvent]:
        commands = self.it.take_commands()
        for command in commands:
            self.it.left(command)
        return commands

    def kinds(self) -> list[str]:
        return [event.type for event in self.sent()]

    def later(self, seconds: float) -> list[up.Update]:
        self.now_s += seconds
        return self.it.tick()

    # --- the server

    def settings(self, **session: Any) -> list[up.Update]:
        return self.get("session.updated", session={"type": "realtime", **session})

    def created(self, response: str = "resp_1", **more: Any) -> list[up.Update]:
        return self.get("response.created", response={"id": response, "status": "in_progress", **more})

    def done(self, response: str = "resp_1", status: str = "completed", **more: Any) -> list[up.Update]:
        return self.get("response.done", response={"id": response, "status": status, "output": [], **more})

    def part(
        self, kind: str, response: str = "resp_1", item: str = "item_a", output: int = 0, part: int = 0, **more: Any
    ) -> list[up.Update]:
        where = {"response_id": response, "item_id": item, "output_index": output, "content_index": part}
        return self.get(f"response.{kind}", **where, **more)

    def text(self, delta: str, **where: Any) -> list[up.Update]:
        return self.part("output_text.delta", delta=delta, **where)

    def spoken(self, delta: str, **where: Any) -> list[up.Update]:
        return self.part("output_audio_transcript.delta", delta=delta, **where)

    def text_done(self, text: str, **where: Any) -> list[up.Update]:
        return self.part("output_text.done", text=text, **where)

    def spoken_done(self, text: str, **where: Any) -> list[up.Update]:
        return self.part("output_audio_transcript.done", transcript=text, **where)

    def audio(self, ms: float, **where: Any) -> list[up.Update]:
        return self.part("output_audio.delta", delta=base64.b64encode(bytes(int(ms * MS))).decode(), **where)

    def call(
        self, call_id: str, *, response: str = "resp_1", status: str | None = "completed", **more: Any
    ) -> list[up.Update]:
        item = {"id": f"item_{call_id}", "type": "function_call", "status": status, "call_id": call_id, "name": "add"}
        item |= {"arguments": "{}", **more}
        return self.get("response.output_item.done", response_id=response, output_index=0, item=item)

    def remote_call(self, item: str, *, response: str = "resp_1") -> list[up.Update]:
        wire = {"id": item, "type": "mcp_call", "server_label": "s", "name": "t", "arguments": "{}"}
        return self.get("response.output_item.added", response_id=response, output_index=0, item=wire)

    def remote_done(self, item: str, end: str = "completed") -> list[up.Update]:
        return self.get(f"response.mcp_call.{end}", item_id=item, output_index=0)

    def starts(self, item: str, *, response: str = "resp_1", output: int = 0) -> list[up.Update]:
        """An answer gets an item."""
        wire = {"id": item, "type": "message", "role": "assistant", "content": []}
        return self.get("response.output_item.added", response_id=response, output_index=output, item=wire)

    def added(self, item: str, *, after: str | None = None, **more: Any) -> list[up.Update]:
        wire = {"id": item, "type": "message", "role": "user", **more}
        return self.get("conversation.item.added", item=wire, previous_item_id=after)

    def complete(self, item: str, *, after: str | None = None, **more: Any) -> list[up.Update]:
        wire = {"id": item, "type": "message", "role": "user", **more}
        return self.get("conversation.item.done", item=wire, previous_item_id=after)

    def deleted(self, item: str) -> list[up.Update]:
        return self.get("conversation.item.deleted", item_id=item)

    def speech(self, item: str = "item_u", at_ms: int = 0) -> list[up.Update]:
        return self.get("input_audio_buffer.speech_started", item_id=item, audio_start_ms=at_ms)

    def silence(self, item: str = "item_u", at_ms: int = 0) -> list[up.Update]:
        return self.get("input_audio_buffer.speech_stopped", item_id=item, audio_end_ms=at_ms)

    def committed(self, item: str = "item_u", after: str | None = None) -> list[up.Update]:
        return self.get("input_audio_buffer.committed", item_id=item, previous_item_id=after)

    def understood(self, text: str, item: str = "item_u", part: int = 0) -> list[up.Update]:
        return self.get(f"{HEARD}.completed", item_id=item, content_index=part, transcript=text)

    def errors(self, code: str | None = None, about: str | None = None, message: str = "no") -> list[up.Update]:
        error = {"type": "invalid_request_error", "code": code, "message": message, "event_id": about}
        return self.get("error", error=error)

    def error(self, code: str | None, about: str | None = None, message: str = "no") -> up.Failure:
        (failure,) = (u for u in self.errors(code, about, message) if isinstance(u, up.Failure))
        return failure

    # --- the program: what it does, (what the call returned, updates)

    def user_says(self, text: str, *, respond: bool = True, role: str = "user") -> tuple[Any, list[up.Update]]:
        return self.it.say(text, respond=respond, role=role)

    def user_asks(self, **response: Any) -> tuple[Any, list[up.Update]]:
        return self.it.ask(response or None), []

    def user_cancels(self) -> tuple[Any, list[up.Update]]:
        return self.it.cancel()

    def user_withdraws(self, answer_id: str) -> tuple[Any, list[up.Update]]:
        return self.it.withdraw(answer_id)

    def user_moves(self) -> tuple[Any, list[up.Update]]:
        """The session goes on with another server."""
        return None, self.it.moved()

    def user_is_cut_off(self, silent_s: float = 0.0) -> tuple[Any, list[up.Update]]:
        """The connection is lost, and another one is tried."""
        return None, self.it.lost(silent_s=silent_s)

    def user_is_back(self, reason: str = "lost", **session: Any) -> tuple[Any, list[up.Update]]:
        """A new session knows what was said; what it was told is in `told`."""
        by = self.it.restoration(None, most_tokens=10_000)
        settings = self.it.settings or {"type": "realtime", "audio": {"input": {"turn_detection": None}}}
        by.receive(ev.SessionCreated(event_id="e", session={**settings, "id": "sess_new", **session}))
        self.told = [event.item for event in by.commands if isinstance(event, ev.ConversationItemCreate)]
        for item in self.told:
            by.receive(ev.ConversationItemAdded(event_id="e", item=item))
        assert by.ready
        return None, self.it.restored(by, reason=reason, away_ms=5, where="there")

    def user_interrupts(self, cause: str) -> tuple[Any, list[up.Update]]:
        return self.it.interrupt(cause)

    def user_answers(self, call_id: str, output: str, *, respond: bool = True) -> tuple[Any, list[up.Update]]:
        return self.it.tool_result(call_id, str(output), respond=respond)

    def user_records(self, ms: float) -> tuple[Any, list[up.Update]]:
        self.it.appended(int(ms * MS))
        self.it.keep(bytes(int(ms * MS)))
        return None, []

    def user_commits(self) -> tuple[Any, list[up.Update]]:
        return self.it.commit(), []

    def user_clears(self) -> tuple[Any, list[up.Update]]:
        return self.it.clear_input(), []

    def user_adds(self, role: str, text: str) -> tuple[Any, list[up.Update]]:
        return self.it.add_item(items.system_text(text) if role == "system" else items.user_text(text)), []

    def user_hangs_up(self) -> tuple[Any, list[up.Update]]:
        return None, self.it.end()


# --- scripts ----------------------------------------------------------------------------------------------------------

_LOOKS = {"order", "holds", "busy", "wanted"}
_OUTCOMES = {"client", "told", "result", "refused", *_LOOKS}
_ASSIGNED = re.compile(r"([a-z_][a-z0-9_.]*)=(.*)", re.DOTALL)


def play(script: str, scene: Scene | None = None, **options: Any) -> Scene:
    """Play a script. Fails with the conversation as it went, and where it went another way."""
    __tracebackhide__ = True
    scene = scene or Scene(**options)
    went: list[str] = []
    for line, expected in _steps(script):
        went.append(f"  {line}")
        got = _act(scene, line) if line else {}
        got |= _look(scene, {who for who, _ in expected})
        for who in ("refused", "result", "client", "told", *sorted(_LOOKS)):
            wanted = [rest for each, rest in expected if each == who and rest != "nothing"]
            mentioned = any(each == who for each, _ in expected)
            actual = got.get(who, [])
            shown = [f"  {who:<7} {_shown(each)}" for each in actual]
            matches = _words_match if who == "refused" else _matches
            fits = len(wanted) == len(actual) and all(map(matches, wanted, actual))
            if (mentioned or who in {"client", "refused"}) and not fits:
                plan = [f"- {who:<7} {rest}" for rest in wanted] or [f"- {who:<7} nothing"]
                fact = [f"+{each[1:]}" for each in shown] or [f"+ {who:<7} nothing"]
                raise AssertionError("\n".join(["not as the script has it:", *went, *plan, *fact]))
            went += shown if who in {"client", "told"} else []
    return scene


def _steps(script: str) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Each thing that happens, and what the script says that follows."""
    line, expected = "", []
    for written in filter(None, map(str.strip, script.splitlines())):
        who, _, rest = written.partition(" ")
        if who in _OUTCOMES:
            expected.append((who, rest.strip()))
            continue
        if line or expected:
            yield line, expected
        line, expected = f"{who:<7} {rest.strip()}", []
    yield line, expected


def _act(scene: Scene, line: str) -> dict[str, list[Any]]:
    """Carry out one line; returns what came of it by kind."""
    who, *words = shlex.split(line)
    result: Any = None
    updates: list[up.Update] = []
    refused: list[str] = []
    if who == "time":
        updates = scene.later(float(words[0]))
    elif who == "plays":
        part = int(words[2]) if len(words) > 2 else 0
        scene.heard = {**(scene.heard or {}), **({(words[0], part): int(words[1])} if words[0] != "nothing" else {})}
    elif who in {"user", "server"}:
        act = getattr(scene, f"user_{words[0]}" if who == "user" else words[0])
        plain, named = _arguments(words[1:])
        try:
            outcome = act(*plain, **named)
        except UsageError as error:
            refused = [str(error)]
        else:
            result, updates = outcome if who == "user" else (None, outcome)
    else:
        raise AssertionError(f"a script has no {who!r}: {line}")
    return {"client": list(scene.sent()), "told": list(updates), "result": [result], "refused": refused}


def _arguments(words: list[str]) -> tuple[list[Any], dict[str, Any]]:
    plain: list[Any] = []
    named: dict[str, Any] = {}
    for word in words:
        assigned = _ASSIGNED.fullmatch(word)
        if assigned is None:
            plain.append(_value(word))
            continue
        *path, last = assigned[1].split(".")
        node = named
        for step in path:
            node = node.setdefault(step, {})
        node[last] = _value(assigned[2])
    return plain, named


def _value(word: str) -> Any:
    try:
        return json.loads(word)
    except ValueError:
        return word


def _look(scene: Scene, mentioned: set[str]) -> dict[str, list[Any]]:
    looks: dict[str, Any] = {
        "order": lambda: [" ".join(scene.it.items)],
        "holds": scene.it.entries,
        "busy": lambda: ["yes" if scene.it.gate.busy else "no"],
        "wanted": lambda: ["yes" if scene.it.gate.wanted else "no"],
    }
    return {who: looks[who]() for who in _LOOKS & mentioned}


def _words_match(wanted: str, said: str) -> bool:
    return " ".join(shlex.split(wanted)) in said


def _kind(thing: Any) -> str:
    if isinstance(thing, ev.ClientEvent):
        return thing.type.replace("conversation.", "").replace("input_audio_buffer.", "input.")
    return thing.kind if isinstance(thing, up.Update) else thing.role


def _fields(thing: Any) -> list[tuple[str, Any]]:
    """Every field, also inside of others, under its whole name."""
    found: list[tuple[str, Any]] = []

    def walk(name: str, node: Any) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                walk(f"{name}.{key}" if name else str(key), value)
        elif isinstance(node, list | tuple) and any(isinstance(each, dict | list | tuple) for each in node):
            for n, value in enumerate(node):
                walk(f"{name}.{n}", value)
        else:
            found.append((name, list(node) if isinstance(node, tuple) else node))

    names = sorted(thing.__struct_fields__, key=lambda each: each != "event_id")
    walk("", {each: msgspec.to_builtins(getattr(thing, each), builtin_types=(bytes,)) for each in names})
    return found


def _matches(wanted: str, thing: Any) -> bool:
    if isinstance(thing, str):
        return wanted == thing
    if not isinstance(thing, msgspec.Struct):
        return bool(_value(wanted) == thing)
    kind, *words = shlex.split(wanted)
    return kind == _kind(thing) and all(_says(word, _fields(thing)) for word in words)


def _says(word: str, fields: list[tuple[str, Any]]) -> bool:
    assigned = _ASSIGNED.fullmatch(word)
    if assigned is None:
        return any(str(value) == word or (value is True and name.split(".")[-1] == word) for name, value in fields)
    found = [value for name, value in fields if name == assigned[1] or name.endswith(f".{assigned[1]}")]
    value = _value(assigned[2])
    return any(each == value or str(each) == assigned[2] for each in found) or (value is None and not found)


def _shown(thing: Any) -> str:
    if not isinstance(thing, msgspec.Struct):
        return str(thing)
    told = [(name, value) for name, value in _fields(thing) if value not in (None, "", [], {}, False)]
    return " ".join([_kind(thing), *(f"{name}={_short(value)}" for name, value in told if name != "role")])


def _short(value: Any) -> str:
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    return shlex.quote(value) if isinstance(value, str) else json.dumps(value)
