"""What must be true of a scenario besides its shape: every mistake. Pure but for the audio files that it examines.

Works on the shaped scenario (`shape.py`), in which BAD stands for what is known to be wrong.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping

from realtime_client.batch.judging.words import normal, plain_words
from realtime_client.batch.scenario import STEP_KINDS, seconds
from realtime_client.session.stats import LATENCIES as ANSWER_LATENCIES
from realtime_client.settings.providers import provider_of

from .languages import LANGUAGE_CODES
from .parts import Part, dict_of, dicts_of, each_part, each_text, pattern_problem, text_of
from .problem import BAD, Mark, Problems, near
from .session_rules import setting_problem
from .tool_rules import call_problems, tool_names, tool_problems

LATENCIES = (*ANSWER_LATENCIES, "interruption")
SPOKEN = ("speak", "audio")
SOUNDING = (*SPOKEN, "dtmf", "silence")
_ANSWERED = ("text", "speak", "audio")
_WITHOUT_ANSWER = ("event", "no_event", "wer")  # what can be expected of a turn whose answer is not waited for
_WITH_SOUND = ("first_audio", "speech_to_audio")
_NAME = re.compile(r"[^\W_](?:[^/\\\[\]#<>\"|:*?\x00-\x1f\x7f]{0,98}[^\s/\\\[\]#<>\"|:*?\x00-\x1f\x7f])?")
_BY_HAND = ("none", "ptt")
_OF_DEVICES = ("device_changed", "speaker_attached", "audible", "captured")  # a run has no sound devices
_LONGEST_S = 86_400.0


def name_problem(name: str) -> str:
    """Return what is wrong with a scenario's name, '' for nothing. It becomes part of ids, tables and reports."""
    if name.isprintable() and _NAME.fullmatch(name):
        return ""
    return 'a name begins with a letter or digit, has at most 100 characters and none of / \\ [ ] # < > " | : * ?'


class Rules:
    """Looks through one scenario. marks: path -> where the value stands. audio: finds what is wrong with a file."""

    def __init__(self, problems: Problems, marks: Mapping[str, Mark], audio: Callable[[str, str], str]) -> None:
        self._problems = problems
        self._marks = marks
        self._audio = audio
        self._tools: list[str] | None = []
        self._session: Part = {}

    def check(self, scenario: Part) -> None:
        """Note every mistake."""
        self._session = dict_of(scenario, "session")
        self._tools = tool_names(scenario)
        turns = dicts_of(scenario, "turns")
        for name, value in self._session.items():
            if value is not BAD:
                self._add(f"session.{name}", *setting_problem(name, value))
        for path, message, hint in tool_problems(scenario, self._marks):
            self._add(path, message, hint)
        for index, tool in enumerate(dicts_of(scenario, "tools")):
            self._duration(tool, "delay", f"tools.{index}")
        self._duration(scenario, "timeout", "", above_zero=True)
        for name, price in dict_of(scenario, "prices").items():
            if isinstance(price, int | float) and price < 0:
                self._add(f"prices.{name}", f"`{name}` cannot be less than nothing")
        if not turns and scenario.get("turns") is not BAD:
            self._add("turns", "the scenario has no turns", "add `turns:` with at least one, such as `- text: Hello`")
        for index, turn in enumerate(turns):
            self._check_turn(turn, f"turns.{index}", turns[:index])
        self._check_expect(scenario, "expect")
        self._check_scenario_wer(dict_of(scenario, "expect"), turns)
        model = text_of(self._session, "model")
        if provider_of(model) is not None:
            self._check_in_writing(model, turns)

    def _check_in_writing(self, model: str, turns: list[Part]) -> None:
        """A text model takes no sound, and makes none."""
        for index, turn in enumerate(turns):
            for kind in SOUNDING:
                if turn.get(kind) is not None:
                    self._add(
                        f"turns.{index}.{kind}", f"`{kind}` is sound, and {model} takes text only", "write `text`"
                    )
            if dict_of(turn, "after").get("heard") is not None:
                self._add(
                    f"turns.{index}.after.heard", f"`heard` waits for sound, and {model} makes none", "use `time`"
                )

    def _add(self, path: str, message: str, hint: str = "") -> None:
        """Note a mistake at a path, or at the nearest part around it."""
        if not message:
            return
        while path and path not in self._marks:
            path = path.rpartition(".")[0]
        self._problems.add(self._marks[path], message, hint)

    def _check_turn(self, turn: Part, path: str, before: list[Part]) -> None:
        kinds = [kind for kind in STEP_KINDS if turn.get(kind) is not None]
        empty = [key for key, value in turn.items() if value is None]
        for key in empty:
            hint = (
                'a # begins a comment: put keys in quotes, as "12#"'
                if key == "dtmf"
                else "give it one, or leave it out"
            )
            self._add(f"{path}.{key}", f"`{key}` has no value", hint)
        if len(kinds) != 1 and not set(empty) & set(STEP_KINDS):
            what = f"a turn has one of {', '.join(STEP_KINDS)}; this one has {' and '.join(kinds) or 'none'}"
            self._add(path, what)
        kind = kinds[0] if len(kinds) == 1 else ""
        self._check_content(turn, kind, path)
        if turn.get("after") is not None:
            self._check_after(dict_of(turn, "after"), f"{path}.after", before)
        expect = dict_of(turn, "expect")
        if kind and not waits_for_answer(turn, kind):
            self._check_unanswered(expect, kind, f"{path}.expect")
        self._check_expect(turn, f"{path}.expect")
        if kind:
            self._check_turn_wer(expect, kind, f"{path}.expect.wer")
        if kind and kind not in SPOKEN and "speech_to_audio" in dict_of(expect, "latency"):
            self._add(f"{path}.expect.latency.speech_to_audio", f"nothing is spoken in a turn of kind `{kind}`")

    def _check_content(self, turn: Part, kind: str, path: str) -> None:
        for key in ("text", "speak", "audio"):
            if isinstance(turn.get(key), str) and not turn[key].strip():
                self._add(f"{path}.{key}", f"`{key}` is empty")
        if turn.get("voice") is not None and kind != "speak" and kind:
            self._add(f"{path}.voice", f"`voice` belongs to `speak`, not to `{kind}`")
        if text_of(turn, "audio").strip():
            self._add(f"{path}.audio", self._audio(turn["audio"], f"{path}.audio"))
        for key in ("silence", "pause", "timeout"):
            self._duration(turn, key, path, above_zero=True)

    def _check_after(self, after: Part, path: str, before: list[Part]) -> None:
        kinds = [kind for kind in ("event", "heard", "time") if after.get(kind) is not None]
        if len(kinds) != 1:
            self._add(path, f"`after` has one of event, heard, time; this one has {' and '.join(kinds) or 'none'}")
        if not before:
            self._add(path, "the first turn has nothing to come after")
        for key in ("heard", "time", "plus"):
            self._duration(after, key, path)
        if text_of(after, "event"):
            self._event(after["event"], f"{path}.event")
        if "heard" in kinds and self._silent():
            self._add(f"{path}.heard", "the answers are text only, so nothing is heard of them")

    def _check_unanswered(self, expect: Part, kind: str, path: str) -> None:
        for key in expect:
            if key not in _WITHOUT_ANSWER and expect[key] is not None:
                why = "a turn with `answer: false`" if kind in _ANSWERED else f"a turn of kind `{kind}`"
                self._add(f"{path}.{key}", f"{why} waits for no answer, so nothing can be said of one")

    def _check_expect(self, part: Part, path: str) -> None:
        if part.get("expect", BAD) is None:
            self._add(path, "`expect` is empty, so nothing is checked", "write a check, or leave it out")
        expect = dict_of(part, "expect")
        self._check_values(expect, path)
        self._check_patterns(expect, path)
        for key in ("contains", "lacks", "matches", "no_event", "no_tool", "language", "equals"):
            for at, text in each_text(expect, key, path):
                if not (text.strip() if key == "matches" else normal(text)):
                    self._add(at, f"`{key}` has an empty text")
        self._check_calls(expect, path)
        for at, check in each_part(expect, "event", path):
            if isinstance(check.get("name"), str) and not check["name"].strip():
                self._add(f"{at}.name", "`name` is empty")
            self._event(text_of(check, "name").strip(), f"{at}.name")
            self._duration(check, "within", at)
        for at, name in each_text(expect, "no_event", path):
            self._event(name, at)
        self._check_latency(dict_of(expect, "latency"), f"{path}.latency")
        for key in ("audio", "heard"):
            if expect.get(key) is not None:
                self._lengths(dict_of(expect, key), f"{path}.{key}", key)
        language = text_of(expect, "language")
        if language.strip() and language not in LANGUAGE_CODES:
            self._add(f"{path}.language", f"{language[:20]!r} is no language code of ISO 639-1", "two letters, as en")
        for at, judge in each_part(expect, "judge", path):
            if isinstance(judge.get("criteria"), str) and not judge["criteria"].strip():
                self._add(f"{at}.criteria", "`criteria` is empty")

    def _check_values(self, part: Part, path: str) -> None:
        """A check without a value checks nothing, and would pass whatever came."""
        for key, value in part.items():
            at = f"{path}.{key}"
            if value is None:
                self._add(at, f"`{key}` has no value, so nothing is checked", "give it one, or leave it out")
            elif value == [] or (value == {} and key == "latency"):
                self._add(at, f"`{key}` is empty, so nothing is checked", "give it a value, or leave it out")
            elif value is False and key == "no_tool":
                self._add(
                    at, "`no_tool: false` checks nothing", "write `tool` for a call that must come, or leave it out"
                )
            for inside, entry in each_part(part, key, path):
                self._check_values({name: one for name, one in entry.items() if name != "arguments"}, inside)

    def _check_patterns(self, expect: Part, path: str) -> None:
        for at, pattern in each_text(expect, "matches", path):
            self._add(at, *pattern_problem(pattern))

    def _check_calls(self, expect: Part, path: str) -> None:
        for at, message, hint in call_problems(expect, path, self._tools):
            self._add(at, message, hint)
        for at, check in each_part(expect, "tool", path):
            self._duration(check, "within", at)
            if isinstance(check.get("duration"), dict):
                self._bounds(check["duration"], f"{at}.duration", "duration")

    def _check_latency(self, latency: Part, path: str) -> None:
        for name in latency:
            if name not in LATENCIES:
                self._add(f"{path}.{name}", f"there is no latency {name[:80]!r}", near(name, LATENCIES))
            elif name in _WITH_SOUND and self._silent():
                self._add(f"{path}.{name}", "the answers are text only, so they have no sound")
            elif name == "speech_to_audio" and self._session.get("turn_detection") in _BY_HAND:
                hint = "use first_audio, which counts from the end of the speech"
                self._add(f"{path}.{name}", "without turn detection the server does not tell when speech stops", hint)
            self._duration(latency, name, path, above_zero=True)

    def _lengths(self, lengths: Part, path: str, key: str) -> None:
        self._bounds(lengths, path, key)
        if self._silent():
            self._add(path, "the answers are text only, so they have no sound")

    def _bounds(self, lengths: Part, path: str, key: str) -> None:
        for end in ("min", "max"):
            self._duration(lengths, end, path)
        least, most = (lengths.get(end) for end in ("min", "max"))
        if least is None and most is None:
            self._add(path, f"`{key}` needs `min` or `max`")
        elif isinstance(least, str) and isinstance(most, str) and seconds(least) > seconds(most):
            self._add(f"{path}.min", f"`min` ({least}) is more than `max` ({most})")

    def _check_turn_wer(self, expect: Part, kind: str, path: str) -> None:
        wer = dict_of(expect, "wer")
        if not wer:
            return
        if wer.get("of", "user") == "user" and kind not in SPOKEN:
            self._add(
                path, f"nothing is spoken in a turn of kind `{kind}`", "for the answer's words write `of: answer`"
            )
        elif wer.get("of", "user") == "user":
            self._transcribed(path)
            if kind == "audio":
                self._reference(wer, path, "add `reference`: the words in the file")
        else:
            self._reference(wer, path, "add `reference`: the answer's right words")

    def _check_scenario_wer(self, expect: Part, turns: list[Part]) -> None:
        wer = dict_of(expect, "wer")
        if not wer:
            return
        spoken = [kind for turn in turns for kind in SPOKEN if turn.get(kind) is not None]
        if wer.get("of", "user") != "user":
            self._reference(wer, "expect.wer", "add `reference`: the right words of all answers")
        elif not spoken:
            self._add("expect.wer", "nothing is spoken in this scenario", "for the answers' words write `of: answer`")
        else:
            self._transcribed("expect.wer")
            if "audio" in spoken:
                self._reference(wer, "expect.wer", "add `reference`: all words that are spoken")

    def _reference(self, wer: Part, path: str, hint: str) -> None:
        if wer.get("reference") is None:
            self._add(path, "there is nothing to compare the transcript with", hint)
        elif isinstance(wer["reference"], str) and not plain_words(wer["reference"]):
            self._add(f"{path}.reference", "`reference` has no words", hint)

    def _transcribed(self, path: str) -> None:
        if self._session.get("transcription") == "none":
            self._add(path, "`transcription: none` leaves no transcript of the user")

    def _event(self, name: str, path: str) -> None:
        """An unknown event is a mistake if it looks like one of ours; otherwise it may be another server's."""
        known = event_names()
        if name in known or not name:
            return
        hint = near(name, known)
        if hint or "." not in name:
            self._add(path, f"there is no event {name[:80]!r}", hint or "write a type of the server, as response.done")

    def _silent(self) -> bool:
        return self._session.get("modality") == "text"

    def _duration(self, part: Part, key: str, path: str, *, above_zero: bool = False) -> None:
        text = part.get(key)
        if not isinstance(text, str) or (path.endswith("latency") and key not in LATENCIES):
            return
        at = f"{path}.{key}" if path else key
        length_s = seconds(text)
        if length_s > _LONGEST_S:
            self._add(at, f"`{key}` is longer than a day")
        elif above_zero and length_s == 0:
            self._add(at, f"`{key}` must be longer than nothing")


def waits_for_answer(turn: Part, kind: str) -> bool:
    """Return whether an answer is waited for in a turn, as `Step` says."""
    answer = turn.get("answer")
    return kind in _ANSWERED if answer is None else bool(answer)


@functools.cache
def event_names() -> tuple[str, ...]:
    """Return the names of all events that a turn can wait for: the server's types, and kinds of updates."""
    from realtime_client import updates
    from realtime_client.client.event_names import SERVER_EVENT_NAMES

    kinds = (cls.kind for cls in updates.Update.__subclasses__() if cls is not updates.SentMessage)
    return (*SERVER_EVENT_NAMES, *(kind for kind in kinds if kind not in _OF_DEVICES))
