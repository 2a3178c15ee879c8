"""Faults on demand: what can be asked for, when it strikes, and what it does, without a socket."""

from __future__ import annotations

import math
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.protocol import State
from websockets.uri import parse_uri

from realtime_client.client.framing import Framing
from realtime_client.errors import UsageError
from realtime_client.local import Fault, Faults, faults_of_file, parse_faults
from realtime_client.local.faults import FaultBook, read_faults
from realtime_client.local.faults.fault import ACTIONS, CLIENT_TYPES, SERVER_TYPES
from realtime_client.local.faults.line import Line
from realtime_client.local.faults.messages import Passage, corrupt, in_fragments, typed
from realtime_client.protocol.codec import decode_client

DELTA = "response.output_audio.delta"


def one(spec: Any) -> Fault:
    (fault,) = parse_faults(spec).faults
    return fault


def struck(spec: str, messages: list[str], connections: int = 1) -> list[list[str]]:
    """What strikes at each message of the server, connection after connection."""
    book = FaultBook(parse_faults(spec).seeded())
    plans = [book.admit() for _ in range(connections)]
    return [
        [fault.do for kind in messages for fault in plan.at_message("server", kind, 0.0, 0, 0)]  # one strike, one word
        for plan in plans
    ]


# --- the short form, and objects ---


@pytest.mark.parametrize(
    ("short", "fields"),
    [
        ("close", {"do": "close"}),
        ("close:1012,reason=back soon@3s", {"do": "close", "code": 1012, "reason": "back soon", "after_s": 3}),
        (f"close:1011@{DELTA}#5", {"do": "close", "event": f"{DELTA}#5"}),
        ("rst@session.created@times=2", {"do": "rst", "event": "session.created", "times": 2}),
        ("rst@sent=10k", {"do": "rst", "sent": 10_000}),
        ("eof@received=1.5MB", {"do": "eof", "received": 1_500_000}),
        ("expire@30s", {"do": "expire", "after_s": 30}),
        ("error:rate_limit_exceeded,message=slow down@response.create", {
            "do": "error", "error": "rate_limit_exceeded", "message": "slow down", "event": "response.create",
        }),
        ("half-open,for=5@10s", {"do": "half-open", "for_s": 5, "after_s": 10}),
        ("late-pongs:200ms", {"do": "late-pongs", "delay_s": 0.2}),
        ("delay:0.2s,jitter=.05@client", {"do": "delay", "delay_s": 0.2, "jitter_s": 0.05, "side": "client"}),
        ("bandwidth:16k", {"do": "bandwidth", "bytes_per_s": 16_000}),
        ("drip:1,every=10ms", {"do": "drip", "size": 1, "every_s": 0.01}),
        ("drop@p=0.1@response.*", {"do": "drop", "probability": 0.1, "event": "response.*", "side": "server"}),
        ("drop@client", {"do": "drop", "side": "client"}),
        ("corrupt:surrogate@response.output_text.delta#2-3", {
            "do": "corrupt", "how": "surrogate", "event": "response.output_text.delta#2-3",
        }),
        ("split:100@connections=2-", {"do": "split", "size": 100, "connections": "2-"}),
        ("refuse:503,retry-after=2@connections=1-3", {
            "do": "refuse", "status": 503, "headers": {"retry-after": 2}, "connections": "1-3",
        }),
        ("no-answer@connections=2", {"do": "no-answer", "connections": 2}),
    ],
)  # fmt: skip
def test_a_short_form_is_the_same_as_an_object(short, fields):
    try:
        expected = one(fields)
    except UsageError:
        expected = one({key: value for key, value in fields.items() if key != "side"})
    assert one(short) == expected
    assert one(expected) is expected, "a fault that is one already is taken"


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("", "no fault is given"),
        ("rts", "`rts` is no fault; did you mean rst?"),
        ("xyzzy", "`xyzzy` is no fault; there are refuse, no-answer, close"),
        ("rst:5", "rst takes no value"),
        ("close:1006", "no close frame may have 1006 (a line that drops without a close frame is eof or rst)"),
        ("close:1004,reason=x", "no close frame may have 1004"),
        ("close:ten", "code: a whole number from 0 is wanted, not 'ten'"),
        ("close,reason=" + "x" * 124, "reason: at most 123 bytes fit into a close frame"),
        ("close,reason", "`reason` is no NAME=VALUE; a text with a comma needs a YAML file"),
        ("close@3s@4s", "after_s is given twice"),
        ("close,nonsense=3", "close takes no `nonsense`; it takes after_s, code"),
        ("rst,for=3", "rst takes no `for_s`"),
        ("rst@respones.created", "no message has the type `respones.created`; did you mean response.created?"),
        ("drop@response.create@server", "`response.create` is no message of the server"),
        (f"drop@{DELTA}#0", "#: a number from 1 is wanted, or two as 1-3"),
        (f"drop@{DELTA}#3-1", "not '3-1'"),
        ("rst@-3s", "no message has the type `-3s`"),
        ("drop@p=1.5", "probability: a number from 0 to 1 is wanted, not '1.5'"),
        ("drop@p=nan", "probability: a number from 0 to 1 is wanted"),
        ("rst@times=0", "times: a whole number from 1 is wanted"),
        ("error@response.create", "error needs `error`, in the short form behind a colon: error:VALUE"),
        ("delay", "delay needs `delay_s`"),
        ("delay:fast", "seconds, as 3 or 0.5s or 200ms, is wanted, not 'fast'"),
        ("bandwidth:0", "bytes_per_s: a whole number from 1 is wanted"),
        ("refuse:200", "status: an HTTP status of a refusal is wanted, as 503, not '200'"),
        ("refuse:599", "status: an HTTP status of a refusal is wanted"),
        ("refuse:503@session.created", "refuse comes before all messages: leave out event"),
        ("no-answer@3s", "leave out after_s"),
        ("refuse,content-length=3", "`content-length` cannot be set"),
        ("refuse,x y=3", "`x y` cannot be set"),
        ("corrupt:all", "how: one of json, utf8, surrogate is wanted, not 'all'"),
        ("corrupt:surrogate@client", "corrupt:surrogate is for the server's messages"),
        ("seed=x", "seed: a whole number from 0 is wanted, not 'x'"),
        ({"do": ["close"]}, "is no fault"),
        ({"event": "x"}, "`None` is no fault"),
        ({"do": "refuse", "headers": "x"}, "headers: an object of names and values is wanted"),
        ({"do": "refuse", "headers": {"x": "a\nb"}}, "the value of `x` is not visible ASCII"),
        ({"do": "close", "reason": "a\nb"}, "reason: a text of one line is wanted"),
        ({"do": "close", "code": True}, "code: a whole number"),
        ({"do": "rst", "after_s": math.inf}, "after_s: seconds"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line_that_names_the_place(spec, says):
    with pytest.raises(UsageError) as caught:
        read_faults([spec] if spec else []) if isinstance(spec, str) else parse_faults(spec)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file(tmp_path):
    file = tmp_path / "faults.yaml"
    file.write_text(
        f"seed: 7\nfaults:\n  - do: close\n    reason: 'a; b, c @ d'\n    event: {DELTA}#5\n    connections: 1-3\n"
        "  - rst@3s\n  - {do: refuse, headers: {Retry-After: 2}}\n"
    )
    assert faults_of_file(file) == Faults(
        seed=7,
        faults=(
            Fault(do="close", reason="a; b, c @ d", event=DELTA, side="server", nth=(5, 5), connections=(1, 3)),
            Fault(do="rst", after_s=3),
            Fault(do="refuse", headers=(("Retry-After", "2"),)),
        ),
    )
    both = read_faults([str(file), "eof@4s; drop@p=.5"])
    assert [fault.do for fault in both.faults] == ["close", "rst", "refuse", "eof", "drop"]
    assert both.seed == 7
    assert both.random


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"faults: [", "faults.yaml:1: this is no YAML"),
        (b"\xff\xfe\xff", "faults.yaml: this is no YAML"),
        (b"5", "a list of faults is wanted, or an object with `faults` and `seed`"),
        (b"{faults: [rst], speed: 3}", "a list of faults is wanted"),
        (b"- rst\n- 5", "faults.yaml: fault 2: an object with `do` is wanted"),
        (b"- rst\n- do: close\n  code: 5", "faults.yaml: fault 2: code: no close frame may have 5"),
        (b"- rts@3s", "faults.yaml: fault 1: `rts` is no fault; did you mean rst?"),
        (b"- {do: rst, ? [a] : 3}", "faults.yaml"),
        (b"[" * 1_000, "faults.yaml"),
        (b" " * 1_000_001, "at most 1 MB"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read(tmp_path, content, says):
    file = tmp_path / "faults.yaml"
    file.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read_faults([str(file)])
    assert says in str(caught.value)
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_faults([str(tmp_path / "other.yml")])


@given(st.text(alphabet="closerdp:@,;#=-*.0123456789sk \n") | st.text())
def test_any_text_is_faults_or_one_clear_line(text):
    said = ""
    try:
        assert all(fault.do in ACTIONS for fault in parse_faults(text).faults)
    except UsageError as error:
        said = str(error)
    assert "\n" not in said


# --- when ---


def test_the_types_of_both_sides_differ():
    assert not CLIENT_TYPES & SERVER_TYPES, "a type says whose message it is"


@pytest.mark.parametrize(
    ("spec", "connections", "expected"),
    [
        (f"drop@{DELTA}#2", 2, [1, 1]),
        (f"drop@{DELTA}#2-3", 1, [2]),
        (f"drop@{DELTA}#3-", 1, [2]),
        ("drop@response.*", 1, [5]),
        ("drop", 1, [6]),
        ("drop@*", 1, [6]),
        ("drop@*@client", 1, [0]),
        ("drop@times=4", 2, [4, 0]),
        ("drop@connections=2", 3, [0, 6, 0]),
        ("drop@connections=2-", 3, [0, 6, 6]),
        ("drop@p=0", 1, [0]),
        ("drop@client", 1, [0]),
        ("drop@3s", 1, [0]),
        ("drop@sent=1", 1, [0]),
        (f"drop@{DELTA}@p=0.5@times=1; seed=1", 9, [0, 1, 0, 0, 0, 0, 0, 0, 0]),
    ],
)
def test_messages_that_are_struck(spec, connections, expected):
    messages = ["session.created", *[DELTA] * 4, "response.done"]
    assert [len(each) for each in struck(spec, messages, connections)] == expected


def test_the_same_seed_is_the_same_chance_whatever_else_happens():
    spec = f"drop@{DELTA}@p=0.5; duplicate@session.created@p=0.5; seed=42"
    alone = struck(spec, [DELTA] * 50)
    mixed = struck(spec, ["session.created", DELTA] * 50)
    assert [do for do in mixed[0] if do == "drop"] == alone[0]
    assert 10 < len(alone[0]) < 40
    assert struck(spec, [DELTA] * 50) == alone
    assert struck(spec.replace("42", "43"), [DELTA] * 50) != alone


def test_what_strikes_by_itself_does_so_once_a_connection_when_all_conditions_hold():
    book = FaultBook(parse_faults("rst@3s@sent=100; close@2s; eof@received=5; stall-reads"))
    plan = book.admit()
    assert [fault.do for fault in plan.by_itself(0, 0, 0)] == ["stall-reads"]
    assert plan.next_s(0) == 2
    assert plan.next_sent(0) == math.inf, "not before 3 s"
    assert [fault.do for fault in plan.by_itself(2, 0, 5)] == ["close", "eof"]
    assert plan.next_s(2) == 3
    assert plan.by_itself(4, 99, 0) == []
    assert plan.next_sent(4) == 100
    assert [fault.do for fault in plan.by_itself(4, 100, 0)] == ["rst"]
    assert plan.by_itself(9, 999, 999) == []
    assert (plan.next_s(9), plan.next_sent(9)) == (math.inf, math.inf)
    assert book.struck == (1, 1, 1, 1)


def test_a_limit_of_the_session_is_told_beforehand():
    book = FaultBook(parse_faults("expire@30s@connections=1; expire@20s@times=1; expire@response.done"))
    plan = book.admit()
    assert plan.expires_s() == 20
    assert plan.by_itself(99, 0, 0) == []
    assert [fault.do for fault in plan.at_message("server", "response.done", 1, 0, 0)] == ["expire"]
    assert book.admit().expires_s() is None


def test_a_fault_of_messages_that_lasts():
    plan = FaultBook(parse_faults("drop,for=2@3s")).admit()
    hit = [bool(plan.at_message("server", DELTA, now_s, 0, 0)) for now_s in (0, 2.9, 3.5, 4, 5.4, 5.6, 9)]
    assert hit == [False, False, True, True, True, False, False]


# --- the line ---


def arrivals(line: Line, until_s: float) -> list[tuple[float, bytes]]:
    """All that arrives, and when."""
    out = []
    while line.next_s <= until_s:
        now_s = line.next_s
        out.append((round(now_s, 6), line.pop(now_s, 2**20)))
    return out


def test_a_line_that_is_late():
    line = Line(random.Random(1))
    assert line.is_plain(0)
    line.delay(0.5, 0.0)
    assert not line.is_plain(0)
    line.push(b"one", 1.0)
    line.push(b"two", 1.1)
    assert line.pop(1.49, 100) == b""
    assert arrivals(line, 9) == [(1.5, b"one"), (1.6, b"two")]


def test_one_message_is_late_and_all_behind_it():
    line = Line(random.Random(1))
    line.push(b"before", 1.0)
    line.hold(3.0)
    line.push(b"late", 1.0)
    line.push(b"behind", 2.0)
    line.push(b"after", 4.0)
    assert arrivals(line, 9) == [(1.0, b"before"), (3.0, b"late"), (3.0, b"behind"), (4.0, b"after")]
    assert line.is_plain(4.0)


def test_a_narrow_line_keeps_its_rate_whoever_is_late():
    line = Line(random.Random(1))
    line.limit(1_000)
    line.push(bytes(1_000), 10.0)
    assert line.size == 1_000
    now_s, got = 10.0, 0
    while line.size:  # looked at every 70 ms only: what is due by then comes at once
        now_s += 0.07
        while piece := line.pop(now_s, 2**20):
            assert len(piece) <= 20
            got += len(piece)
        assert got <= 1_000 * (now_s - 10.0) + 20
    assert now_s == pytest.approx(11, abs=0.1)


def test_a_limit_that_ends():
    line = Line(random.Random(1))
    line.limit(10, until_s=2.0)
    line.push(bytes(100), 1.0)
    assert len(line.pop(1.0, 1_000)) == 1
    assert line.pop(1.05, 1_000) == b""
    assert len(line.pop(2.5, 1_000)) == 99
    assert line.is_plain(2.5)


@given(
    st.lists(st.tuples(st.binary(max_size=50), st.floats(0, 1)), max_size=30),
    st.floats(0, 2),
    st.floats(0, 2),
    st.none() | st.integers(1, 10_000),
)
def test_a_line_loses_nothing_and_keeps_the_order(sent, delay_s, jitter_s, rate):
    line = Line(random.Random(1))
    line.delay(delay_s, jitter_s)
    if rate is not None:
        line.limit(rate)
    now_s = 0.0
    for data, pause_s in sent:
        now_s += pause_s
        line.push(data, now_s)
    got = arrivals(line, 1e12)
    assert b"".join(data for _, data in got) == b"".join(data for data, _ in sent)
    assert line.size == 0
    assert [at for at, _ in got] == sorted(at for at, _ in got)


# --- messages ---


@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        ({2: "drop"}, [b"1", b"3", b"4"]),
        ({2: "duplicate"}, [b"1", b"2", b"2", b"3", b"4"]),
        ({2: "reorder"}, [b"1", b"3", b"2", b"4"]),
        ({2: "reorder", 3: "reorder"}, [b"1", b"4", b"2", b"3"]),
        ({4: "reorder"}, [b"1", b"2", b"3"]),
        ({2: "reorder", 3: "drop"}, [b"1", b"4", b"2"]),
    ],
)
def test_messages_on_their_way(faults, expected):
    passage = Passage()
    out = []
    for number in range(1, 5):
        struck = [Fault(do=faults[number])] if number in faults else []
        out += passage.pass_on(b"%d" % number, struck)
    assert out == expected


@pytest.mark.parametrize(
    ("frame", "how", "expected"),
    [
        (b'{"type":"x"}', "json", b'{"type":'),
        (b'{"type":"x"}', "utf8", b'{"type":"x"\xff}'),
        (b'{"delta":"abc"}', "surrogate", rb'{"delta":"\ud83dabc"}'),
        (b'{"type":"x"}', "surrogate", rb'{"type":"x","obfuscation":"\ud83d"}'),
        (
            b'{"type":"response.output_audio.delta","delta":"AAAA"}',
            "surrogate",
            rb'{"type":"response.output_audio.delta","delta":"AAAA","obfuscation":"\ud83d"}',
        ),
    ],
)
def test_broken_messages(frame, how, expected):
    assert corrupt(frame, how) == expected


def test_what_is_known_of_a_message():
    assert typed(b'{"event_id":"e1","type":"session.update","session":{}}').event_id == "e1"
    for junk in (b"", b"[]", b'{"type":5}', b"\xff", b"[" * 100_000):
        assert typed(junk).type == ""


@given(st.binary(max_size=70_000), st.integers(1, 70_000))
def test_fragments_are_one_message_for_the_library(data, size):
    size = max(size, len(data) // 50 + 1)
    frames = in_fragments(data, size)
    framing = Framing(ClientProtocol(parse_uri("ws://x/"), state=State.OPEN, max_size=None))
    framing.feed(frames[:-1])
    assert framing.messages == [], "the last byte is wanted"
    framing.feed(frames[-1:])
    assert framing.messages == [data]
    count = max(1, -(-len(data) // size))
    assert 2 * count <= len(frames) - len(data) <= 10 * count


def test_a_client_message_that_is_corrupt_is_refused_by_the_server_alone():
    frame = b'{"type":"response.create"}'
    for how in ("json", "utf8"):
        assert type(decode_client(corrupt(frame, how))).__name__ == "MalformedEvent"
    assert msgspec.json.decode(corrupt(b'{"type":"a"}', "surrogate").replace(rb"\ud83d", b"")) == {
        "type": "a",
        "obfuscation": "",
    }
