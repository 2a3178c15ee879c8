"""The connection is lost and another one comes: what a new session is told, and what becomes of what was under way."""

from __future__ import annotations

import random

import pytest
from conversation_script import MS, Scene, only, play
from hypothesis import given
from hypothesis import strategies as st

from realtime_client import errors
from realtime_client import updates as up
from realtime_client.client.backoff import Backoff, is_fatal
from realtime_client.client.outbox import Outbox
from realtime_client.history import Call, Entry, Image, Result, Text
from realtime_client.protocol import events as ev
from realtime_client.protocol.conversation import Conversation
from realtime_client.protocol.input_audio import UNHEARD_S, InputAudio
from realtime_client.protocol.items import ContentPart, Item
from realtime_client.protocol.look_back import LookBack
from realtime_client.protocol.restoration import CONFIRM_S, Restoration, is_again

# --- what was asked for -----------------------------------------------------------------------------------------------


def test_an_answer_that_ran_is_asked_for_again_once() -> None:
    scene = play("""
        user    says hello
        client  item.create
        client  response.create event_3
        server  created
        server  text "Half of"
        user    is_cut_off
        client  nothing
        told    answer_follows resp_1 event_4
        told    response_done incomplete connection_lost "Half of"
        busy    no
        wanted  yes
        user    is_back
        client  response.create event_4
        told    item_done
        told    restored asked_again=event_4 told=2 unknown=[]
        server  created resp_2
        told    response_started resp_2 request_id=event_4
        server  text Whole response=resp_2 item=item_b
        user    is_cut_off
        told    response_done incomplete connection_lost Whole
        user    is_back
        client  nothing
        told    restored asked_again=null unknown=[]
        busy    no
    """)
    assert [item.said for item in scene.told] == ["hello", "Half of", "Whole"]


def test_a_request_that_was_sent_and_not_answered_is_unknown_and_asked_again_under_its_name() -> None:
    play("""
        user    asks instructions=one
        client  response.create event_1
        user    is_cut_off
        told    nothing
        user    is_back
        client  response.create instructions=one
        told    restored 'unknown=["event_1"]' asked_again=event_1
        server  created
        told    response_started request_id=event_1
        server  done
        user    asks instructions=two
        client  response.create instructions=two
    """)


def test_a_request_is_not_asked_a_third_time() -> None:
    play("""
        user    asks
        client  response.create event_1
        user    is_cut_off
        user    is_back
        client  response.create event_2
        user    is_cut_off
        told    failure request_lost event_1 raises=ConnectionLostError
        user    is_back
        client  nothing
        told    restored 'unknown=["event_1"]'
        wanted  no
    """)


def test_a_refusal_of_a_request_that_is_asked_again_names_the_request() -> None:
    play("""
        user    asks
        client  response.create event_1
        user    is_cut_off
        user    is_back
        client  response.create event_2
        server  errors code=bad about=event_2
        told    failure bad event_1
        wanted  no
    """)


def test_what_was_asked_for_while_away_is_sent_after_the_return() -> None:
    scene = play("""
        user    is_cut_off
        user    says hello
        client  nothing
        told    item_added hello local
        user    asks instructions=more
        client  nothing
        wanted  yes
        user    is_back
        client  response.create response=null
        told    item_done hello
        told    restored 'sent_late=["item_1"]' told=1
        server  created
        server  done
        client  response.create instructions=more
    """)
    assert [item.said for item in scene.told] == ["hello"]


def test_a_cancelled_answer_is_not_asked_for_again() -> None:
    play("""
        user    asks
        client  response.create
        server  created
        user    cancels
        client  response.cancel
        user    is_cut_off
        told    response_done incomplete
        user    is_back
        client  nothing
        told    restored asked_again=null
    """)


def test_a_spoken_turn_that_waits_for_its_answer_is_answered() -> None:
    """The server answers by itself; the turn was committed, the answer had not begun."""
    scene = play(
        """
        server  settings 'audio={"input":{"turn_detection":{"type":"server_vad"}}}'
        user    records 1000
        server  speech item_u 100
        server  silence item_u 900
        server  committed item_u
        server  added item_u 'content=[{"type":"input_audio"}]'
        user    is_cut_off
        user    is_back
        client  input.append
        client  response.create
        told    restored told=1
        """,
        keep_audio_s=10.0,
    )
    (item,) = scene.told
    assert [part.type for part in item.content or ()] == ["input_audio"]
    assert len((item.content or ())[0].audio or b"") == 800 * MS, "what the server took for the turn"


def test_answers_outside_the_conversation() -> None:
    """One that was sent may be billed, and is not sent again; one that was not is sent after the return."""
    play("""
        user    asks conversation=none
        client  response.create event_1
        user    is_cut_off
        told    failure request_lost event_1
        user    asks conversation=none
        client  nothing
        user    is_back
        client  response.create event_2 conversation=none
        told    restored 'unknown=["event_1"]'
    """)


# --- tools ------------------------------------------------------------------------------------------------------------


def test_a_call_stays_open_and_its_result_goes_to_the_new_session() -> None:
    scene = play("""
        user    says "what time is it"
        client  item.create
        client  response.create
        server  created
        server  call call_1
        user    is_cut_off
        told    response_done incomplete
        wanted  no
        user    is_back
        client  nothing
        told    item_done
        told    restored told=2 asked_again=null
        user    answers call_1 noon
        client  item.create output=noon
        client  response.create
    """)
    assert [(item.type, item.call_id) for item in scene.told] == [("message", None), ("function_call", "call_1")]


def test_a_result_that_comes_while_away() -> None:
    scene = play("""
        user    asks
        client  response.create
        server  created
        server  call call_1
        server  done
        user    is_cut_off
        user    answers call_1 noon
        client  nothing
        wanted  yes
        user    is_back
        client  response.create
        told    item_done
        told    restored told=2
    """)
    assert [item.type for item in scene.told] == ["function_call", "function_call_output"]


def test_questions_of_a_server_that_is_gone_are_withdrawn() -> None:
    scene = play("""
        server  complete req_1 type=mcp_approval_request name=pay
        user    is_cut_off
        told    approval_decided req_1 approved=false
    """)
    with pytest.raises(errors.UsageError):
        scene.it.approve("req_1", approve=True)


def test_an_approval_that_was_sent_and_not_confirmed_is_unknown() -> None:
    scene = Scene()
    scene.get("conversation.item.done", item={"id": "req_1", "type": "mcp_approval_request", "name": "pay"})
    scene.it.approve("req_1", approve=True)
    scene.sent()
    scene.it.lost()
    restored = only(scene.user_is_back()[1], up.Restored)
    assert [len(restored.unknown), restored.sent_late] == [1, ()]


# --- the names of items -----------------------------------------------------------------------------------------------


def test_the_new_session_has_names_of_its_own_and_nobody_notices() -> None:
    scene = play("""
        user    says one respond=false
        client  item.create
        server  complete item_1
        user    is_cut_off
        user    is_back
        told    restored told=1
        order   item_1
    """)
    (there,) = [item.id for item in scene.told]
    assert there != "item_1"
    assert scene.complete(str(there), content=[{"type": "input_text", "text": "one"}]) == [], "an echo"
    scene.added("item_9", after=there)
    assert list(scene.it.items) == ["item_1", "item_9"]
    scene.it.send(ev.ConversationItemDelete(item_id="item_1"))
    (command,) = scene.sent()
    assert isinstance(command, ev.ConversationItemDelete)
    assert command.item_id == there
    assert scene.deleted(str(there)) == [up.ItemDeleted(item_id="item_1")]
    assert list(scene.it.items) == ["item_9"]


def test_what_is_deleted_while_a_session_is_told_is_deleted_there_too() -> None:
    scene = play("""
        user    says one respond=false
        client  item.create
        server  complete item_1
    """)
    by = scene.it.restoration(None, most_tokens=1000)
    by.receive(ev.SessionCreated(event_id="e", session={"id": "s"}))
    scene.deleted("item_1")
    scene.it.restored(by, reason="rollover", away_ms=0, where="")
    assert [type(command) for command in scene.sent()] == [ev.ConversationItemDelete]


def test_a_turn_that_had_begun_leaves_and_comes_back_under_another_name() -> None:
    scene = play(
        """
        server  settings 'audio={"input":{"turn_detection":{"type":"server_vad"}}}'
        user    records 3000
        server  speech item_u 1000
        told    speech_started item_u at_ms=1000
        user    is_cut_off
        user    records 500
        user    is_back
        client  input.append
        client  input.append
        client  input.append
        client  input.append
        client  input.append
        told    item_deleted item_u
        told    restored audio_ms=2500 lost_audio=[]
        server  speech item_v 20
        told    speech_started item_v at_ms=1020
        server  silence item_v 1500
        told    speech_stopped at_ms=2500
        """,
        keep_audio_s=60.0,
    )
    assert scene.told == []


# --- telling a session ------------------------------------------------------------------------------------------------


def told(entries: list[Entry], settings: dict[str, object] | None = None) -> Restoration:
    ids = iter(range(1000))
    media = {"sha256:x": "data:image/png;base64,AAAA", "input:u": b"\1\2"}
    return Restoration(
        settings, entries, known=frozenset(), left_out=0, new_id=lambda kind: f"{kind}_{next(ids)}",
        kept=media.get, now_s=lambda: clock[0],
    )  # fmt: skip


clock = [0.0]
TALK = [
    Entry(id="s", role="system", parts=(Text(text="Be brief."),)),
    Entry(id="u", role="user", parts=(Text(spoken=True, media="input:u"),)),
    Entry(id="i", role="user", parts=(Image(media="sha256:x"), Text(text="what is this"))),
    Entry(id="a", role="assistant", parts=(Text(text="A cat."), Call(call_id="c", name="f", arguments="{}"))),
    Entry(id="t", role="tool", parts=(Result(call_id="c", output="2"),)),
]


def take(restoration: Restoration) -> list[ev.ClientEvent]:
    commands, restoration.commands = restoration.commands[:], []
    return commands


def test_settings_first_then_the_conversation_each_when_it_is_confirmed() -> None:
    it = told(TALK, {"type": "realtime", "voice": "x"})
    it.receive(ev.SessionUpdated(event_id="e", session={}))
    assert take(it) == [], "before the greeting nothing"
    it.receive(ev.SessionCreated(event_id="e", session={"id": "sess_1"}))
    (update,) = take(it)
    assert isinstance(update, ev.SessionUpdate)
    assert not it.ready
    it.receive(ev.SessionUpdated(event_id="e", session={"id": "sess_1", "voice": "x"}))
    items = take(it)
    assert [event.item.type for event in items if isinstance(event, ev.ConversationItemCreate)] == [
        "message", "message", "message", "message", "function_call", "function_call_output",
    ]  # fmt: skip
    assert all(is_again(event) for event in [update, *items])
    for event in items:
        assert not it.ready
        assert isinstance(event, ev.ConversationItemCreate)
        it.receive(ev.ConversationItemDone(event_id="e", item=event.item))
    assert it.ready
    assert (it.refused, it.session["voice"], it.session_id) == (0, "x", "sess_1")


def test_a_server_that_confirms_nothing_is_not_waited_for() -> None:
    clock[0] = 0.0
    it = told(TALK, {"type": "realtime"})
    it.receive(ev.SessionCreated(event_id="e", session={"id": "s"}))
    for step in ("settings", "items"):
        assert it.due_s is not None, step
        it.tick()
        assert not it.ready
        clock[0] += CONFIRM_S
        it.tick()
    assert it.ready
    assert it.due_s is None


def test_an_item_that_is_refused_is_counted_and_the_rest_is_told() -> None:
    it = told(TALK)
    it.receive(ev.SessionCreated(event_id="e", session={"id": "s"}))
    first, *others = take(it)
    it.receive(ev.Error(event_id="e", error=ev.ErrorDetail(type="x", message="no", event_id=first.event_id)))
    for event in others:
        assert isinstance(event, ev.ConversationItemCreate)
        it.receive(ev.ConversationItemAdded(event_id="e", item=event.item))
    assert (it.ready, it.refused, it.refusal) == (True, 1, None)


@pytest.mark.parametrize(("code", "settings"), [("invalid_model", None), ("bad_voice", {"type": "realtime"})])
def test_a_refusal_of_the_session_is_one(code: str, settings: dict[str, object] | None) -> None:
    it = told(TALK, settings)
    it.receive(ev.SessionCreated(event_id="e", session={"id": "s"}))
    it.receive(ev.Error(event_id="e", error=ev.ErrorDetail(type="x", code=code, message="no")))
    assert isinstance(it.refusal, up.Failure)
    assert it.refusal.message == "no"


def test_the_budget_drops_the_oldest_first() -> None:
    scene = Scene()
    for n in range(20):
        scene.it.say(f"number {n} " + "x" * 400, respond=False)
    by = scene.it.restoration(None, most_tokens=1000)
    said = [entry.said.split(" x")[0] for entry in by.entries]
    assert 0 < len(said) < 20
    assert said == [f"number {n}" for n in range(20)][-len(said) :]
    assert by.left_out == 20 - len(said)


# --- sound ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.one_of(st.binary(max_size=30), st.integers(0, 200)), max_size=40), st.integers(0, 100))
def test_a_look_back_is_the_end_of_what_was_appended(steps: list[bytes | int], most: int) -> None:
    it, whole, least = LookBack(most), b"", 0
    for step in steps:
        if isinstance(step, bytes):
            it.append(step)
            whole += step
        elif step < 10:
            it.take_back(min(step, len(whole)))
            whole = whole[: max(0, len(whole) - step)]
        else:
            it.forget_before(step)
            least = max(least, min(step, len(whole)))
        assert it.end == len(whole)
        assert it.end - it.begin <= most
        assert it.cut(0, it.end + 5) == whole[it.begin :]
        assert it.cut(it.begin + 1, it.end - 1) == whole[it.begin + 1 : it.end - 1]


SAID = st.one_of(
    st.tuples(st.just("record"), st.integers(1, 400)),
    st.tuples(st.just("commit"), st.just(0)),
    st.tuples(st.just("confirm"), st.just(0)),
    st.tuples(st.just("lose"), st.just(0)),
    st.tuples(st.just("clear"), st.just(0)),
)


@given(st.lists(SAID, max_size=30), st.sampled_from([0.2, 1.0, 100.0]))
def test_each_millisecond_is_in_one_item_or_sent_again_or_told_as_lost(
    said: list[tuple[str, int]], keep: float
) -> None:
    """With commits by hand: a server that takes all, and loses all that is not committed when it goes."""
    it = InputAudio(keep)
    it.configure(up.PCM16_24K, manual=True)
    sent = b""  # all that was recorded, each ms with a number of its own
    buffer, items, lost, pending, cleared = b"", [], [], [], []
    for what, ms in said:
        if what == "record":
            block = b"".join((len(sent) // MS + n).to_bytes(4, "big") * (MS // 4) for n in range(ms))
            sent += block
            it.appended(len(block))
            it.keep(block)
            buffer += block
        elif what == "commit":
            it.sent(ev.InputAudioBufferCommit())
            pending.append(buffer)
            buffer = b""
        elif what == "clear" and not pending:
            it.sent(ev.InputAudioBufferClear())
            cleared.append(buffer)
            buffer = b""
        elif what == "confirm" and pending:
            assert it.committed(f"item_{len(items)}")
            items.append(pending.pop(0))
        elif what == "lose":
            it.lost_before(0.0)
            pieces, gone = it.again()
            lost += gone
            pending, buffer = [], b""
            for piece in pieces:
                if piece is None:
                    pending.append(buffer)
                    buffer = b""
                else:
                    buffer += piece
    there = [block for part in (*items, *pending, buffer, *cleared) for block in split(part)]
    told = [n.to_bytes(4, "big") for each in lost for n in range(each.start_ms, each.end_ms)]
    assert sorted([*there, *told]) == sorted(split(sent))


def split(audio: bytes) -> list[bytes]:
    return [audio[at : at + 4] for at in range(0, len(audio), MS)]


def test_silence_between_turns_is_not_kept_for_ever() -> None:
    it = InputAudio(300.0)
    it.configure(up.PCM16_24K, manual=False)
    for _ in range(int(UNHEARD_S) * 10 + 100):
        it.keep(bytes(100 * MS))
    it.lost_before(600.0)
    pieces, lost = it.again()
    assert lost == []
    assert sum(len(piece or b"") for piece in pieces) == UNHEARD_S * 1000 * MS


def test_what_the_server_has_heard_as_silence_is_not_sent_again() -> None:
    it = InputAudio(300.0)
    it.configure(up.PCM16_24K, manual=False)
    for _ in range(200):
        it.keep(bytes(100 * MS))
    it.lost_before(1.0)
    assert sum(len(piece or b"") for piece in it.again()[0]) == 3000 * MS


def test_the_sound_of_items_is_bounded_and_goes_when_their_words_are_known() -> None:
    it = InputAudio(1.0)
    it.configure(up.PCM16_24K, manual=True)
    for n in range(10):
        it.keep(bytes([n]) * 100 * MS)
        it.sent(ev.InputAudioBufferCommit())
        assert it.committed(f"item_{n}")
    kept = [n for n in range(10) if it.of_item(f"item_{n}")]
    assert kept == [5, 6, 7, 8, 9]
    it.known("item_9")
    assert it.of_item("item_9") == b""


# --- when to try again ------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32), st.floats(0.0, 0.5))
def test_the_schedule(seed: int, takes_s: float) -> None:
    """At once, then at most 0.8 s apart in the first minute, then up to 15 s; never beyond its time."""
    it, now = Backoff(100.0, 300.0, random.Random(seed)), 100.0
    waits = []
    while (wait_s := it.next(now)) is not None:
        waits.append((now - 100.0, wait_s))
        now += wait_s + takes_s
    assert waits[0] == (0.0, 0.0)
    assert all(0.0 < wait <= 0.8 for at, wait in waits[1:] if at < 60)
    assert all(wait <= 15.0 for _, wait in waits)
    assert max(wait for at, wait in waits if at > 150) > 5
    assert waits[-1][0] + waits[-1][1] <= 300.0
    assert len({wait for _, wait in waits}) > len(waits) // 2, "drawn by lot"


def test_a_server_that_wants_to_be_left_alone_is() -> None:
    it = Backoff(0.0, 60.0, random.Random(1))
    assert it.next(0.0) == 0.0
    assert it.next(1.0, retry_after_s=20.0) == 20.0
    assert it.next(21.0, retry_after_s=50.0) is None, "longer than it is tried at all"


@pytest.mark.parametrize(
    ("error", "fatal"),
    [
        (errors.HostUnreachableError("x", retry_after_s=3.0), False),
        (errors.RateLimitedError("x", retry_after_s=3.0), False),
        (errors.RateLimitedError("x", code="rate_limit_exceeded"), False),
        (errors.RateLimitedError("x", code="insufficient_quota"), True),
        (errors.AuthenticationError("x"), True),
        (errors.SessionRefusedError("x", code="invalid_model"), True),
        (errors.SessionRefusedError("x", code="session_expired"), False),
        (errors.UsageError("x"), True),
        (errors.NotRealtimeError("x"), False),
        (errors.TLSError("x"), False),
        (errors.ConnectionLostError("x"), False),
        (errors.SessionEndedError("x"), True),
        (errors.SessionExpiredError("x"), False),
    ],
)
def test_what_another_try_would_meet_again(error: errors.RealtimeError, fatal: bool) -> None:
    assert is_fatal(error) is fatal


# --- what was said while nobody heard it ------------------------------------------------------------------------------


def restored_with_sound(*, added: bool = True) -> tuple[Conversation, Restoration, str]:
    """A conversation with a spoken item of which nobody knows the words, and a session that was told its sound."""
    conversation = Conversation(keep_audio_s=60.0)
    settings = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}
    conversation.receive(ev.SessionCreated(session=settings))
    conversation.send(ev.InputAudioBufferAppend(audio=bytes(48 * 200)))
    conversation.commit()
    conversation.receive(ev.InputAudioBufferCommitted(item_id="item_u"))
    if added:
        item = Item(id="item_u", type="message", role="user", content=[ContentPart(type="input_audio")])
        conversation.receive(ev.ConversationItemAdded(item=item))
    conversation.lost()
    by = conversation.restoration(None, most_tokens=1000)
    by.receive(ev.SessionCreated(session=settings))
    return conversation, by, by.names.there("item_u")


def heard(item_id: str) -> ev.InputTranscriptionCompleted:
    return ev.InputTranscriptionCompleted(item_id=item_id, content_index=0, transcript="good morning")


@pytest.mark.parametrize("soon", [False, True], ids=["after the return", "before it"])
def test_words_that_the_new_session_heard_are_those_of_the_item(soon: bool) -> None:
    conversation, by, there = restored_with_sound()
    told = []
    if soon:
        by.receive(heard(there))
    told += conversation.restored(by, reason="lost", away_ms=1, where="")
    if not soon:
        told += conversation.receive(heard(there))
    assert [each.item_id for each in told if isinstance(each, up.UserTranscript)] == ["item_u"]
    assert [entry.said for entry in conversation.entries()] == ["good morning"]


@pytest.mark.parametrize("added", [False, True], ids=["only committed", "added"])
def test_a_sound_without_words_is_not_left_out(added: bool) -> None:
    _, by, _ = restored_with_sound(added=added)
    assert (len(by.entries), by.left_out) == (1, 0)


def test_what_was_taken_to_be_sent_counts_as_unsent_until_it_has_left() -> None:
    outbox = Outbox(8, 1_000)
    first, second = (ev.InputAudioBufferAppend(audio=bytes(2), event_id=each) for each in "ab")
    outbox.put_now(first)
    assert outbox.get() == [first]
    outbox.left()
    outbox.put_now(second)
    assert outbox.get() == [second]
    assert outbox.take_back() == [second]
    assert outbox.take_back() == []
