"""Text in pieces, cut into sentences as soon as they are whole; and what a voice says of markup."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from realtime_client.local.sentences import LONGEST, SentenceCutter, plain, sentences, speakable

LONG = "word " * 60


@pytest.mark.parametrize(
    "pieces",
    [
        ["One. ", "Two! ", "Three? ", "Four"],
        ["Dr. Smith and Mrs. Jones came. ", "They stayed."],
        ["Take e.g. this one, i.e. the first. ", "Then go."],
        ["We have apples, pears, etc. ", "Then there is more."],
        ["We have apples, pears etc. in the cellar. ", "Good."],
        ["J. R. R. Tolkien wrote it. ", "So did I. ", "You too?"],
        ["It is 3.5 metres. ", "In 1999. ", "Version 2.0.1 is out."],
        ["No. 5 is alive. ", "No. ", "It is not."],
        ["At 5 p.m. the train leaves. ", "At 6 p.m. ", "She left."],
        ["Well... maybe so. ", "Wait… ", "What?! ", "Yes."],
        ['"Really?" he asked. ', '"Yes." ', "She left (I think). ", "Good."],
        ["Look at https://example.com/a.b?c=d. ", "Then call."],
        ["**Bold.** ", "Next."],
        ["今日は。", "元気ですか？", "はい！", "「そうです。」", "終わり"],  # noqa: RUF001
        ["# A heading\n\n", "- one\n", "- two. ", "And more\n", "1. First item. ", "2. Second"],
        ["\n\n  Hello\n", "you"],
        ["", ""],
    ],
)
def test_a_sentence_ends_where_people_end_it(pieces: list[str]) -> None:
    assert list(sentences("".join(pieces))) == [piece for piece in pieces if piece]


@pytest.mark.parametrize(
    ("text", "lengths"),
    [
        (LONG, [240, 60]),
        ("x" * 500, [240, 240, 20]),
        ("so many words, " * 20, [240, 60]),
        ("a clause that goes on, " * 5 + "and " + "then " * 40, [115 + 4 + 120, 80]),
    ],
)
def test_what_does_not_end_is_cut_at_a_clause_or_a_space(text: str, lengths: list[int]) -> None:
    assert [len(piece) for piece in sentences(text)] == lengths


@given(
    st.lists(st.text(alphabet="aB. ,!?…\n1。」*\"'", max_size=80) | st.text(max_size=80) | st.just(LONG), max_size=12),
)
def test_the_pieces_are_the_text_and_the_same_however_it_comes(parts: list[str]) -> None:
    text = "".join(parts)
    cutter = SentenceCutter()
    cut = [piece for part in parts for piece in cutter.feed(part)] + cutter.end()
    assert "".join(cut) == text
    assert cut == list(sentences(text))
    assert all(0 < len(piece) <= LONGEST for piece in cut)


def test_a_long_text_in_one_piece_is_cut_in_no_time() -> None:
    assert sum(1 for _ in sentences("Dr. No etc. and so on: a1. " * 40_000)) > 20_000


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("**Bold**, *slanted*, __both__, _it_ and ~~gone~~. ", "Bold, slanted, both, it and gone. "),
        ("Call `print()` and ``x``.", "Call print() and x."),
        ("## What it is\n", "What it is\n"),
        ("- one\n", "one\n"),
        ("> quoted", "quoted"),
        ("See [the page](https://example.com/x) or ![a cat](cat.png).", "See the page or a cat."),
        ("```python\n", "\n"),
        ("---\n", "\n"),
        ("snake_case_name, 2*3*4, 5 * 6, f(**kwargs)", "snake_case_name, 2*3*4, 5 * 6, f(kwargs)"),
        ("1. First.", "1. First."),
        ("Nothing to do.", "Nothing to do."),
    ],
)
def test_markup_is_said_as_plain_words(text: str, said: str) -> None:
    assert plain(text) == said


def test_pictures_are_for_the_eye() -> None:
    assert speakable("Fine 👍🏽 ☀️, 1 + 2 = 3 € 👨‍👩‍👧. 今日は") == "Fine  , 1 + 2 = 3 € . 今日は"
