"""The neutral history: its bounds, and what of it is told again within a budget."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime_client import history as history_module
from realtime_client.history import (
    Call,
    Entry,
    Heard,
    History,
    Image,
    Opaque,
    Part,
    ProviderState,
    Result,
    Text,
    heard_text,
    replay,
    text_tokens,
)

WORDS = st.text("ab \u4f60\n", max_size=12)
CALL_IDS = st.sampled_from(["c1", "c2", "c3"])
STATES = st.none() | st.builds(ProviderState, st.sampled_from(["x", "y"]), st.integers() | WORDS)
PARTS: st.SearchStrategy[Part] = st.one_of(
    st.builds(
        Text,
        text=WORDS,
        spoken=st.booleans(),
        heard=st.none() | st.builds(Heard, WORDS, st.integers(0, 9), st.integers(0, 9)),
        media=st.sampled_from(["", "sha256:1"]),
        provider_state=STATES,
    ),
    st.builds(Image, media=st.just("sha256:2")),
    st.builds(Call, call_id=CALL_IDS, name=st.just("f"), arguments=WORDS, provider_state=STATES),
    st.builds(Result, call_id=CALL_IDS, output=WORDS),
    st.builds(Opaque, text=WORDS, provider_state=STATES),
)
ENTRIES = st.lists(
    st.builds(
        Entry,
        id=st.just(""),
        role=st.sampled_from(["system", "user", "assistant", "tool"]),
        parts=st.lists(PARTS, max_size=4).map(tuple),
        alternatives=st.lists(st.lists(PARTS, max_size=2).map(tuple), max_size=2).map(tuple),
    ),
    max_size=12,
).map(lambda entries: [msgspec.structs.replace(entry, id=str(n)) for n, entry in enumerate(entries)])


@given(ENTRIES, WORDS, st.integers(0, 300), st.integers(0, 14))
@settings(max_examples=150)
def test_what_is_told_again_keeps_the_rules(
    entries: list[Entry], instructions: str, most_tokens: int, most_entries: int
) -> None:
    chosen = replay(entries, instructions=instructions, most_tokens=most_tokens, most_entries=most_entries)
    assert chosen.instructions == instructions
    taken = sum(entry.tokens for entry in chosen.entries)
    assert taken <= max(0, most_tokens - text_tokens(instructions))
    assert chosen.tokens == taken + text_tokens(instructions)
    assert len(chosen.entries) <= most_entries
    assert chosen.left_out == len(entries) - len(chosen.entries)
    # order: system entries first, the others behind, both as they were
    systems = [entry.role == "system" for entry in chosen.entries]
    assert systems == sorted(systems, reverse=True)
    for role in (True, False):
        names = [int(entry.id) for entry in chosen.entries if (entry.role == "system") is role]
        assert names == sorted(set(names))
    # calls and results
    waiting: list[str] = []
    for part in (part for entry in chosen.entries for part in entry.parts):
        if isinstance(part, Call):
            assert part.call_id not in waiting
            waiting.append(part.call_id)
        elif isinstance(part, Result):
            waiting.remove(part.call_id)
    assert not waiting
    for entry in chosen.entries:
        source = entries[int(entry.id)]
        heard = [part.heard.text for part in source.parts if isinstance(part, Text) and part.heard is not None]
        whole = [part for part in source.parts if not isinstance(part, Text) or part.heard is None]
        assert entry.parts
        assert not entry.alternatives
        for part in entry.parts:
            assert part in whole or (isinstance(part, Text) and part.text in heard and part.provider_state is None)
            assert not isinstance(part, Text) or part.text.strip() or part.media or part.provider_state
        assert not all(isinstance(part, Opaque) for part in entry.parts)


@given(ENTRIES)
def test_with_room_for_all_only_what_cannot_be_told_is_left_out(entries: list[Entry]) -> None:
    chosen = replay(entries, most_tokens=10**9)
    kept = {entry.id: entry for entry in chosen.entries}
    for entry in entries:
        says = any(isinstance(p, Text) and p.text.strip() and p.heard is None for p in entry.parts)
        assert not says or entry.id in kept
    again = replay(chosen.entries, most_tokens=10**9)
    assert again.entries == chosen.entries


@given(ENTRIES, st.integers(0, 300))
def test_the_newest_are_kept(entries: list[Entry], most_tokens: int) -> None:
    spoken = [entry for entry in entries if entry.role != "system"]
    whole = replay(spoken, most_tokens=10**9).entries
    chosen = replay(spoken, most_tokens=most_tokens).entries
    fit, room = 0, most_tokens
    for entry in reversed(whole):
        room -= entry.tokens
        if room < 0:
            break
        fit += 1
    newest = whole[len(whole) - fit :]
    assert {entry.id for entry in chosen} <= {entry.id for entry in newest}
    for entry in newest:  # all of them but halves of what was cut off
        assert entry in chosen or any(isinstance(part, Call | Result) for part in entry.parts)


@given(ENTRIES, st.integers(0, 300))
def test_what_was_worked_out_once_holds_for_good(entries: list[Entry], most_tokens: int) -> None:
    once, twice = (replay(entries, most_tokens=most_tokens) for _ in range(2))
    fresh = replay(msgspec.json.decode(msgspec.json.encode(entries), type=list[Entry]), most_tokens=most_tokens)
    assert once == twice == fresh


def test_a_long_conversation_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []
    monkeypatch.setattr(history_module, "_utf8", lambda text: measured.append(text) or len(text))
    entries = [says(str(n), "x" * 40, ("user", "assistant")[n % 2]) for n in range(100)]
    for n in range(5):
        entries.append(says(f"more{n}", "x" * 40))
        assert len(replay(entries, most_tokens=10_000).entries) == len(entries)
    assert len(measured) < 2 * len(entries)


def says(entry_id: str, text: str, role: str = "user") -> Entry:
    return Entry(id=entry_id, role=role, parts=(Text(text=text),))


def test_system_entries_take_at_most_half() -> None:
    entries = [says(f"s{n}", "x" * 40, "system") for n in range(10)] + [says("u", "x" * 40)]
    chosen = replay(entries, instructions="y" * 40, most_tokens=10 + 4 * 18)
    assert [entry.id for entry in chosen.entries] == ["s8", "s9", "u"]
    assert chosen.tokens == 10 + 3 * 18


def test_a_call_at_the_edge_takes_its_result_with_it() -> None:
    entries = [
        Entry(id="call", role="assistant", parts=(Call(call_id="c", name="f", arguments="x" * 400),)),
        Entry(id="result", role="tool", parts=(Result(call_id="c", output="2"),)),
        says("u", "thanks"),
    ]
    assert [entry.id for entry in replay(entries, most_tokens=1000).entries] == ["call", "result", "u"]
    assert [entry.id for entry in replay(entries, most_tokens=60).entries] == ["u"]


def test_call_ids_that_are_used_again() -> None:
    def pair(n: int) -> list[Entry]:
        call = Call(call_id="call_0", name="f", arguments=str(n))
        return [
            Entry(id=f"c{n}", role="assistant", parts=(Text(text="let me see"), call)),
            Entry(id=f"r{n}", role="tool", parts=(Result(call_id="call_0", output=str(n)),)),
        ]

    entries = [*pair(1), pair(2)[0], *pair(3), pair(4)[1]]
    chosen = replay(entries, most_tokens=1000).entries
    assert [entry.id for entry in chosen] == ["c1", "r1", "c2", "c3", "r3"]
    assert [len(entry.parts) for entry in chosen] == [2, 1, 1, 2, 1]  # the unanswered call goes, its words stay


def test_a_cut_part_is_not_what_its_provider_wanted_back() -> None:
    state = ProviderState("gemini", {"signature": "AbC=="})
    part = Text(text="one two", heard=Heard("one", 1, 2), provider_state=state)
    thought = Opaque(text="hm", provider_state=state)
    whole = Entry(id="a", role="assistant", parts=(thought, Text(text="one two", provider_state=state)))
    assert replay([whole], most_tokens=99).entries == (whole,)
    cut = Entry(id="a", role="assistant", parts=(thought, part))
    assert replay([cut], most_tokens=99).entries[0].parts == (thought, Text(text="one"))
    unheard = Entry(id="a", role="assistant", parts=(thought, Text(text="one two", heard=Heard(""))))
    assert replay([unheard], most_tokens=99).entries == ()  # a thought of nothing


@given(ENTRIES)
def test_it_survives_json(entries: list[Entry]) -> None:
    data = msgspec.json.encode(entries)
    assert msgspec.json.decode(data, type=list[Entry]) == entries


# --- the container ----------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 200), st.booleans()), max_size=60),
    st.integers(1, 4),
)
def test_bounds_hold_whatever_is_put(steps: list[tuple[str, int, bool]], most_entries: int) -> None:
    history = History(most_entries=most_entries, most_bytes=1200)
    put = removed = 0
    for name, size, remove in steps:
        if remove:
            removed += name in history
            history.remove(name)
        else:
            put += name not in history
            history.put(says(name, "x" * size))
        assert len(history) <= most_entries
        assert history.size_bytes <= 1200
        assert put == len(history) + removed + history.dropped
        assert (history.size_bytes == 0) == (len(history) == 0)


def test_the_first_falls_out_first() -> None:
    history = History(most_entries=3)
    for n in range(5):
        history.put(says(str(n), "x"))
    history.put(says("2", "changed"))
    assert [(entry.id, entry.said) for entry in history.in_order()] == [("2", "changed"), ("3", "x"), ("4", "x")]
    assert history.dropped == 2
    assert history.dropped_bytes > 2


def test_a_giant_pushes_nothing_out() -> None:
    history = History(most_bytes=4000)
    history.put(says("a", "x"))
    history.put(says("b", "x" * 1500))
    assert [entry.id for entry in history.in_order()] == ["a"]
    assert history.dropped == 1
    assert history.dropped_bytes > 1500


def test_media_are_bounded_apart() -> None:
    history = History(most_media_bytes=100)
    refs = [history.keep(bytes([n]) * 40) for n in range(3)]
    assert [history.media(ref) is None for ref in refs] == [True, False, False]
    assert history.media_bytes == 80
    assert history.keep(bytes([2]) * 40) == refs[2]
    assert history.media(history.keep("data:," + "x" * 200)) is None
    assert history.media_bytes == 80


def test_order_from_elsewhere() -> None:
    history = History()
    for name in ("a", "x", "b", "y", "c"):
        history.put(says(name, name))
    assert [entry.id for entry in history.in_order(["c", "b", "nobody", "a"])] == ["c", "b", "y", "a", "x"]
    assert [entry.id for entry in history.in_order()] == ["a", "x", "b", "y", "c"]


def test_other_answers_in_the_same_place() -> None:
    one, two, three = ((Text(text=word),) for word in ("one", "two", "three"))
    entry = Entry(id="a", role="assistant", parts=one).answered_by(two).answered_by(three)
    assert (entry.parts, entry.alternatives) == (three, (two, one))
    back = entry.answered_by(one)
    assert (back.parts, back.alternatives) == (one, (three, two))
    history = History(most_bytes=10_000)
    history.put(Entry(id="a", role="assistant", parts=one))
    alone = history.size_bytes
    history.put(back)
    assert history.size_bytes > 2 * alone  # what is kept beside counts


@pytest.mark.parametrize(
    ("text", "heard_ms", "received_ms", "heard"),
    [
        ("one two three four", 100, 100, "one two three four"),
        ("one two three four", 200, 100, "one two three four"),
        ("one two three four", 50, 100, "one two"),
        ("one two three four", 75, 100, "one two three"),
        ("one two three four", 0, 100, ""),
        ("one two three four", -5, 100, ""),
        ("one two three four", 0, 0, ""),  # before the first sound
        ("\u4f60\u597d\uff0c\u4e16\u754c", 50, 100, "\u4f60\u597d"),
        ("", 5, 100, ""),
    ],
)
def test_heard_text(text: str, heard_ms: int, received_ms: int, heard: str) -> None:
    assert heard_text(text, heard_ms, received_ms) == heard


@given(st.text(max_size=60), st.integers(0, 200), st.integers(0, 100))
def test_what_was_heard_is_a_beginning_of_the_text(text: str, heard_ms: int, received_ms: int) -> None:
    heard = heard_text(text, heard_ms, received_ms)
    assert text.startswith(heard)
    assert heard_ms or not heard


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("a", 1), ("word", 1), ("words", 2), ("\u4f60\u597d", 2)])
def test_tokens_are_estimated(text: str, tokens: int) -> None:
    assert text_tokens(text) == tokens
