"""The built-in demo brain: a handful of rules, enough to hold a conversation that shows the protocol.

It greets, says what it can do, counts, repeats, spells, calculates, tells time and date, remembers a name, tells a long
story, and calls a tool of the client when the words fit one. Asked to judge an answer, it does so.
"""

from __future__ import annotations

import datetime as dt
import json
import operator
import re
from collections.abc import Callable, Iterator
from typing import Any

from .brain import BrainTurn, CallTool, Say
from .demo_judge import JUDGE_MARK, verdict
from .demo_tools import choose_tool, fill_arguments
from .numbers import NUMBER, number_words, read_number

ABILITIES = (
    "I am the built-in demo brain. I can count, repeat after you, spell words, do simple arithmetic, tell the time and "
    "the date, remember your name and a code word, tell you a story, and call a tool that you offer me."
)
_STORY = (
    "Once upon a time there was a small lighthouse at the end of the world.",
    "Every evening its keeper climbed two hundred steps to light the lamp.",
    "One night a storm came up, and the lamp would not burn.",
    "So the keeper took her old brass trumpet and played every song that she knew.",
    "Far out at sea a captain heard the music and turned his ship away from the rocks.",
    "He followed the sound until he saw the white tower in the rain.",
    "In the morning the sea lay flat and bright, as if nothing had happened.",
    "The captain came ashore with oranges and a new wick for the lamp.",
    "They sat on the steps together and talked until noon.",
    "Then he sailed on, and she polished the glass.",
    "But from that day on, whenever a ship passed, it sounded its horn three times.",
    "And the keeper answered with her trumpet.",
    "The people in the village learned to tell the ships apart by their greetings.",
    "Children made up words for the tunes, and the words became songs.",
    "When the keeper grew old, a girl from the village learned the trumpet too.",
    "She plays it still, on nights when the lamp is tired.",
    "And that is the end of the story.",
)
_MOST_CHARS = 10_000  # read of any text: a pattern's search holds up all other sessions
_Rule = tuple[re.Pattern[str], Callable[[re.Match[str], BrainTurn], Iterator[Say]]]


class DemoBrain:
    """Rules, tried in order; the first that fits answers."""

    def reply(self, turn: BrainTurn) -> Iterator[Say | CallTool]:
        """Yield the answer to the last utterance."""
        last = turn.utterances[-1] if turn.utterances else None
        if turn.instructions.startswith(JUDGE_MARK):
            yield Say(verdict(last.text if last is not None else ""))
            return
        if last is not None and last.role == "output":
            yield from _tell_output(last.text[:_MOST_CHARS])
            return
        asked = next((u.text for u in reversed(turn.utterances) if u.role == "user"), "")[:_MOST_CHARS]
        tool = choose_tool(turn, asked)
        if tool is not None:
            yield CallTool(tool.name, json.dumps(fill_arguments(tool, asked)))
            return
        yield from _by_rule(asked, turn)


def _by_rule(asked: str, turn: BrainTurn) -> Iterator[Say]:
    text = " ".join(asked.split())
    for pattern, answer in _RULES:
        found = pattern.search(text)
        if found is not None:
            yield from answer(found, turn)
            return
    yield from _fallback(text, turn)


def _tell_output(output: str) -> Iterator[Say]:
    """Read a tool's output aloud."""
    try:
        value = json.loads(output)
    except ValueError:
        value = output
    yield Say(f"The tool says: {_spoken(value)}.")


def _spoken(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{str(key).replace('_', ' ')} is {_spoken(item)}" for key, item in value.items()) or "nothing"
    if isinstance(value, list):
        return ", ".join(_spoken(item) for item in value) or "nothing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value).strip().rstrip(".") or "nothing"


def _count(found: re.Match[str], _turn: BrainTurn) -> Iterator[Say]:
    start = read_number(found["start"]) if found["start"] else 1
    end = read_number(found["end"])
    if start is None or end is None or abs(end - start) > 1_000:
        yield Say("I can count from one number to another, up to a thousand steps.")
        return
    step = 1 if end >= start else -1
    for number in range(start, end + step, step):
        yield Say(
            f"{number_words(number).capitalize() if number == start else number_words(number)}"
            + (". " if number == end else ", ")
        )


def _repeat(found: re.Match[str], _turn: BrainTurn) -> Iterator[Say]:
    words = found["words"].strip(" \"'“”")
    yield Say(words if words[-1:] in ".!?" else f"{words}.")


def _spell(found: re.Match[str], _turn: BrainTurn) -> Iterator[Say]:
    word = found["word"].strip(".,!?\"'")
    yield Say(f"{word} is spelled: {', '.join(word.upper())}.")


_OPERATIONS: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "plus": operator.add,
    "-": operator.sub,
    "minus": operator.sub,
    "*": operator.mul,
    "x": operator.mul,
    "times": operator.mul,
    "multiplied by": operator.mul,
    "/": operator.truediv,
    "divided by": operator.truediv,
}


def _calculate(found: re.Match[str], _turn: BrainTurn) -> Iterator[Say]:
    left, right = read_number(found["left"]), read_number(found["right"])
    sign = found["op"].lower()
    if left is None or right is None:
        yield Say("I did not understand the numbers.")
    elif right == 0 and sign in {"/", "divided by"}:
        yield Say("Nobody can divide by zero.")
    else:
        result = _OPERATIONS[sign](left, right)
        shown = f"{result:.0f}" if result == int(result) else f"{result:.4g}"
        yield Say(f"{left} {sign} {right} is {shown}.")


def _time(_found: re.Match[str], turn: BrainTurn) -> Iterator[Say]:
    now = dt.datetime.fromtimestamp(turn.wall_s).astimezone()
    yield Say(f"It is {now.hour}:{now.minute:02d} by the clock of this computer.")


def _date(_found: re.Match[str], turn: BrainTurn) -> Iterator[Say]:
    now = dt.datetime.fromtimestamp(turn.wall_s).astimezone()
    yield Say(f"Today is {now:%A}, {now:%B} {now.day}, {now.year}.")


_NAME = re.compile(r"\b(?:my name is|call me|i am called)\s+(?P<name>[^\W\d_][\w'-]*)", re.IGNORECASE)


def _know_name(turn: BrainTurn) -> str | None:
    """Find the name that the user told last."""
    for utterance in reversed(turn.utterances):
        found = _NAME.search(utterance.text, 0, _MOST_CHARS) if utterance.role == "user" else None
        if found is not None:
            return found["name"].capitalize()
    return None


def _greet_name(_found: re.Match[str], turn: BrainTurn) -> Iterator[Say]:
    yield Say(f"Nice to meet you, {_know_name(turn)}. ")
    yield Say("I will remember your name.")


def _tell_name(_found: re.Match[str], turn: BrainTurn) -> Iterator[Say]:
    name = _know_name(turn)
    yield Say(f"Your name is {name}." if name else "You have not told me your name yet.")


_CODE_WORD = re.compile(r"\bcode ?word is[:,]?\s+[\"'“]?(?P<word>[^\W_][\w'-]*)", re.IGNORECASE)


def _keep_code_word(found: re.Match[str], _turn: BrainTurn) -> Iterator[Say]:
    yield Say(f"I will remember the code word {found['word']}.")


def _tell_code_word(_found: re.Match[str], turn: BrainTurn) -> Iterator[Say]:
    said = (_CODE_WORD.search(each.text, 0, _MOST_CHARS) for each in reversed(turn.utterances) if each.role == "user")
    found = next((each for each in said if each is not None), None)
    yield Say(f"The code word is {found['word']}." if found else "You have not told me a code word.")


def _hello(_found: re.Match[str], turn: BrainTurn) -> Iterator[Say]:
    name = _know_name(turn)
    yield Say(f"Hello, {name}! " if name else "Hello! ")
    yield Say("What can I do for you?")


def _story(_found: re.Match[str], _turn: BrainTurn) -> Iterator[Say]:
    for sentence in _STORY:
        yield Say(f"{sentence} ")


def _always(*sentences: str) -> Callable[[re.Match[str], BrainTurn], Iterator[Say]]:
    def answer(_found: re.Match[str], _turn: BrainTurn) -> Iterator[Say]:
        for sentence in sentences:
            yield Say(sentence)

    return answer


_ORDER = re.compile(r"\b(?:say|reply with|answer with)\s+[\"'“](?P<words>[^\"'”]+)[\"'”]", re.IGNORECASE)


def _fallback(text: str, turn: BrainTurn) -> Iterator[Say]:
    """Answer honestly that the words were not understood; follow an instruction to say something."""
    ordered = re.search(
        r"\b(?:say|reply with|answer with)\s+[\"'“](?P<words>[^\"'”]+)[\"'”]",
        turn.instructions[:_MOST_CHARS],
        re.IGNORECASE,
    )
    if ordered is not None:
        yield Say(ordered["words"])
        return
    if not text:
        yield Say("I did not catch any words. ")
        yield Say("Ask me what I can do.")
        return
    yield Say("I am the built-in demo brain and know only a few things. ")
    yield Say(f'You said: "{text[:200]}". ')
    yield Say("Ask me what I can do.")


def _rule(pattern: str, answer: Callable[[re.Match[str], BrainTurn], Iterator[Say]]) -> _Rule:
    return re.compile(pattern, re.IGNORECASE), answer


_N = NUMBER
_RULES: tuple[_Rule, ...] = (
    _rule(r"\brepeat after me[:,]?\s+(?P<words>.+)", _repeat),
    _rule(r"^(?:please )?(?:say|repeat)[:,]?\s+(?P<words>.+)", _repeat),
    _rule(rf"\bcount(?: from (?P<start>{_N}))?(?: up| down)? to (?P<end>{_N})", _count),
    _rule(r"\bspell(?: the word)?\s+(?P<word>\S+)", _spell),
    _rule(
        rf"(?P<left>{_N})\s*(?P<op>\+|-|\*|/|\bx\b|plus|minus|times|multiplied by|divided by)\s*(?P<right>{_N})",
        _calculate,
    ),
    _rule(r"\b(?:what(?:'s| is) my name|do you (?:know|remember) my name|who am i)\b", _tell_name),
    _rule(_NAME.pattern, _greet_name),
    _rule(_CODE_WORD.pattern, _keep_code_word),
    _rule(r"\bcode ?word\b", _tell_code_word),
    _rule(r"\bwhat can you\b|\bwhat do you do\b|^help\b|\byour abilities\b", _always(ABILITIES)),
    _rule(r"\b(?:what(?:'s| is)(?: the)? time|what time)\b|\btell me the time\b", _time),
    _rule(r"\bwhat(?:'s| is)(?: the)? date\b|\bwhat day\b|\btoday's date\b", _date),
    _rule(r"\bstory\b", _story),
    _rule(r"\bjoke\b", _always("Why did the packet cross the network? ", "To get to the other socket.")),
    _rule(r"\bhow are you\b", _always("I am well, thank you. ", "All my rules are in order.")),
    _rule(r"\b(?:who|what) are you\b|\byour name\b", _always("I am the built-in demo brain of the local server.")),
    _rule(r"\bthank(?:s| you)\b", _always("You are welcome.")),
    _rule(r"\b(?:bye|goodbye|good night)\b", _always("Goodbye!")),
    _rule(r"^\W*(?:hello|hi|hey|good (?:morning|afternoon|evening))\b", _hello),
)
