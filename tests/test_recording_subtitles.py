"""Subtitles: what they look like to people, to players, and to programs that read them."""

import html
import itertools
import re
import shutil
import subprocess

import pysubs2
import pytest
import webvtt
from hypothesis import given, settings
from hypothesis import strategies as st
from recording_helpers import Stage, sound

from realtime_client.recording import subtitles

STORY = (
    "The keeper of the lighthouse was old, and R&D had never heard of him. One night a storm came up from the west, and "
    "the lamp would not burn: so she took her trumpet, climbed the stairs, and played until the morning. Yes. Did they "
    "hear her? They did! Nobody drowned. "
)
LONG = (STORY * 7)[:1939].rstrip()


def line(text, start_s, end_s, who="assistant", **other):
    return {"who": who, "heard": text, "start_s": start_s, "end_s": end_s, **other}


def cues_of(*lines):
    return subtitles.laid_out([block for each in lines if (block := subtitles.block(each))])


def check(cues):
    """The rules: two lines of 42 columns, one to seven seconds, in order, none overlapping."""
    for cue in cues:
        assert 1 <= len(cue.lines) <= 2
        assert all(0 < subtitles.columns(each) <= 42 for each in cue.lines), cue
        assert 1_000 <= cue.end_ms - cue.start_ms <= 7_000, cue
        assert "\n" not in "".join(cue.lines)
    assert all(a.end_ms <= b.start_ms for a, b in itertools.pairwise(cues))


def words(cues):
    return " ".join(" ".join(cue.lines) for cue in cues).split()


def test_a_minute_of_speech_is_read_along():
    cues = cues_of(line(LONG, 10.0, 70.0))
    check(cues)
    assert words(cues) == LONG.split()
    assert len(cues) > 20
    assert (cues[0].start_ms, cues[-1].end_ms) == (10_000, 70_000)
    for cue in cues:  # where the words would be if speech were even
        said = LONG.index(cue.lines[0]) if LONG.count(cue.lines[0]) == 1 else None
        assert said is None or abs(cue.start_ms - (10_000 + said * 60_000 / len(LONG))) < 2_500


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello there.", [["Hello there."]]),
        ("Hello there. How are you today?", [["Hello there."], ["How are you today?"]]),
        ("He said yes.\nShe said no.", [["He said yes."], ["She said no."]]),
        (
            "One night a storm came up, and the lamp would not burn.",
            [["One night a storm came up,", "and the lamp would not burn."]],
        ),
        (
            "When the rain had stopped and the sun was back, everybody went out to look for the boats that were missing.",
            [
                ["When the rain had stopped", "and the sun was back,"],
                ["everybody went out to look for", "the boats that were missing."],
            ],
        ),
        ("\u4eca\u65e5\u306f\u3044\u3044\u5929\u6c17\u3067\u3059\u306d\u3002\u6563\u6b69\u3057\u307e\u3057\u3087\u3046\u3002", [["\u4eca\u65e5\u306f\u3044\u3044\u5929\u6c17\u3067\u3059\u306d\u3002"], ["\u6563\u6b69\u3057\u307e\u3057\u3087\u3046\u3002"]]),
        ("a" * 50, [["a" * 42, "a" * 8]]),
        ("  \n \t ", []),
    ],
)  # fmt: skip
def test_by_sentence_on_two_lines(text, expected):
    cues = cues_of(line(text, 0.0, 4.0))
    assert [list(cue.lines) for cue in cues] == expected


def test_short_sentences_share_a_cue():
    cues = cues_of(line("Yes. No. Maybe. I do not know.", 0.0, 2.4))
    check(cues)
    assert [list(cue.lines) for cue in cues] == [["Yes. No. Maybe."], ["I do not know."]]


def test_turns_that_overlap_take_their_turn():
    cues = cues_of(
        line(STORY, 0.0, 20.0),
        line("Mhm.", 7.3, 7.5, "user"),
        line("Wait, what?", 19.8, 20.9, "user"),
        line("Nothing.", 20.0, 20.4),
    )
    check(cues)
    assert [cue.who for cue in cues].count("user") == 2
    mhm = next(cue for cue in cues if cue.lines == ("Mhm.",))
    assert 7_300 <= mhm.start_ms < 8_400
    assert " ".join(words(cues)).count("Nothing.") == 1


def test_what_was_typed_stands_until_the_next_turn():
    cues = cues_of(line("Tell me a story.", 3.0, 3.0, "user"), line("Once upon a time.", 4.5, 6.0))
    check(cues)
    assert [(cue.start_ms, cue.end_ms) for cue in cues] == [(3_000, 4_000), (4_500, 6_000)]
    (alone,) = cues_of(line("x" * 80, 3.0, 3.0, "user"))
    assert alone.end_ms - alone.start_ms == 4_700  # 17 characters a second


def test_what_has_no_room_is_cut_off():
    cues = cues_of(line(LONG, 3.0, 3.0, "user"), line("Sure.", 5.5, 6.0))
    check(cues)
    assert [cue.who for cue in cues] == ["user", "user", "assistant"]
    assert cues[1].lines[-1].endswith("\u2026")
    assert cues[2].start_ms == 5_500


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.tuples(
            st.text(max_size=60)
            | st.sampled_from([STORY, LONG, "a. b. c. d. e. f. g.", "\u6f22" * 300, "e\u0301" * 90]),
            st.floats(0, 30),
            st.floats(0, 30),
            st.sampled_from(["user", "assistant"]),
        ),
        max_size=8,
    )
)
def test_the_rules_hold_for_any_conversation(turns):
    check(cues_of(*(line(text, start, start + length, who) for text, start, length, who in turns)))


def test_ten_thousand_turns_at_once_take_no_time_and_no_room():
    cues = cues_of(*(line(f"number {i}", 1.0, 1.1) for i in range(10_000)))
    check(cues)
    assert cues[-1].start_ms <= 7_000


# --- players ----------------------------------------------------------------------------------------------------------

TEXTS = [
    "R&D costs 5 < 6 dollars, says <b>Bob</b> & co.",
    "Look: {\\an8} at the top, {\\i1}slanted{\\i0}, a\\Nb, C:\\new\\hope.",
    "1\n00:00:01,000 --> 00:00:02,000\nforged",
    "&amp; &lt;i&gt; &nbsp; <font color=red>red</font> <v Bob>who",
    "NOTE this\n\nSTYLE that",
    "42",
    "\u202egnp.exe \x1b[31m",
    "\u00dcber \U0001f600 \u4f60\u597d \u0645\u0631\u062d\u0628\u0627 e\u0301",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    stage = Stage(tmp_path_factory.mktemp("r"))
    for i, text in enumerate([*TEXTS, LONG]):
        stage.answer(f"a{i}", text, sound(60.0 if text is LONG else 4.0), f"a{i - 1}" if i else None)
    stage.close()
    return stage.folder


def full_width(text):
    return text.translate({ord(c): ord(c) + 0xFEE0 for c in "<>{}\\,."})


def shown(cues):
    """All text of a file, without the ways of writing signs, and where lines break."""
    text = " ".join(cues)
    while text != (text := html.unescape(text)):
        pass
    text = full_width(text)
    return " ".join(re.sub(r"[\u200b-\u200f\u2028-\u202e\u2060\ufeff]", "", text).split())


def expected():
    seen = " ".join(TEXTS).replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">").replace("&nbsp;", " ")
    return shown([seen.replace("\x1b", ""), LONG])


def test_both_forms_say_the_same_and_nothing_in_them_acts(folder):
    srt, vtt = ((folder / f"transcript.{kind}").read_text() for kind in ("srt", "vtt"))
    assert "R&D costs" in srt
    assert "R&amp;D costs" in vtt
    for text in (srt, vtt):
        assert not set(text) & set("{}\\\x1b\u202e")
        assert "<b>" not in text
        assert text.count("-->") == len(pysubs2.SSAFile.from_string(srt))
    assert "<" not in srt
    assert set(re.findall("<.*?>", vtt)) == {"<v Assistant>"}


def read_by_ffmpeg(path):
    """What ffmpeg shows of it, in its own format."""
    ffmpeg = shutil.which("ffmpeg")
    assert ffmpeg, "Debian's ffmpeg is needed: scripts/test installs it"
    done = subprocess.run(
        [ffmpeg, "-v", "warning", "-i", str(path), "-f", "ass", "-"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    rows = [row.split(",", 9) for row in done.stdout.splitlines() if row.startswith("Dialogue:")]
    times = [
        tuple(round(1000 * sum(map(float.__mul__, map(float, row[i].split(":")), (3600.0, 60.0, 1.0)))) for i in (1, 2))
        for row in rows
    ]
    texts = [row[9] for row in rows]
    assert not [text for text in texts if re.search(r"(?<!\\)\{", text)]  # nothing that libass would obey
    return times, [text.replace("\\N", "\n") for text in texts]


def read_by_pysubs2(path):
    cues = pysubs2.load(str(path))
    assert all("{" not in cue.text for cue in cues)
    return [(cue.start, cue.end) for cue in cues], [cue.plaintext for cue in cues]


def read_by_webvtt(path):
    cues = list(webvtt.read(str(path)) if path.suffix == ".vtt" else webvtt.from_srt(str(path)))
    if path.suffix == ".vtt":
        assert {cue.voice for cue in cues} == {"Assistant"}
    return [(round(cue.start_in_seconds * 1000), round(cue.end_in_seconds * 1000)) for cue in cues], [
        cue.text for cue in cues
    ]


@pytest.mark.parametrize("kind", ["srt", "vtt"])
@pytest.mark.parametrize("read", [read_by_ffmpeg, read_by_pysubs2, read_by_webvtt])
def test_programs_read_them_as_they_are_meant(folder, kind, read):
    times, texts = read(folder / f"transcript.{kind}")
    assert shown(texts) == expected()
    assert all(1 <= len(text.split("\n")) <= 2 for text in texts)
    assert all(subtitles.columns(each) <= 42 for text in texts for each in html.unescape(text).split("\n"))
    assert all(a <= b for (_, a), (b, _) in itertools.pairwise(times))
    assert all(1_000 <= end - begin <= 7_000 for begin, end in times)
