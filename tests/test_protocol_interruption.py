"""Answers that are cut: by a cancel, by typed text, by the user's voice; what was heard of them is what counts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conversation_script import BUSY, MS, Scene, play
from hypothesis import given
from hypothesis import strategies as st

from realtime_client import updates as up
from realtime_client.protocol import events as ev
from realtime_client.protocol.answers import plan_cut

# --- cancelling -------------------------------------------------------------------------------------------------------


def test_cancel_and_the_race_with_the_end() -> None:
    play("""
        user    cancels
        result  false
        told    nothing
        user    asks
        client  response.create event_1
        server  created
        server  text one
        user    cancels
        result  true
        told    interrupted cause=cancel
        client  response.cancel response_id=resp_1 event_2
        user    cancels
        result  true
        told    nothing
        server  errors response_cancel_not_active about=event_2
        told    failure benign
        server  done
        user    cancels
        result  false
        told    nothing
    """)


def test_cancel_before_the_answer_has_begun() -> None:
    play("""
        user    asks
        client  response.create
        user    cancels
        result  true
        user    cancels
        result  false
        client  nothing
        server  created
        client  response.cancel
        server  text late
        told    nothing
        server  done status=cancelled
        user    asks
        client  response.create
        server  created resp_2
        client  nothing
        server  text now response=resp_2
        told    text_delta text=now
    """)


def test_a_cancelled_request_that_is_refused_cancels_nothing_else() -> None:
    play("""
        user    asks
        client  response.create event_1
        user    says instead
        client  item.create text=instead
        server  errors invalid_value about=event_1
        client  response.create
        server  created resp_2
        client  nothing
    """)


def test_a_cancelled_request_is_not_sent_again() -> None:
    play(f"""
        user    asks
        client  response.create event_1
        server  created resp_vad
        user    cancels
        client  response.cancel
        server  errors {BUSY} about=event_1
        told    failure benign
        server  done resp_vad status=cancelled
        client  nothing
    """)


def test_cancel_drops_what_waits() -> None:
    play("""
        user    asks
        client  response.create
        user    asks
        server  created
        user    cancels
        client  response.cancel
        server  done status=cancelled
        client  nothing
    """)


def test_late_deltas_of_a_cut_answer_are_dropped() -> None:
    play("""
        server  created
        server  audio 100
        user    cancels
        client  response.cancel
        server  audio 100
        told    nothing
        server  text late
        told    nothing
        server  spoken late
        told    nothing
        server  part output_audio.done
        told    audio_done
        server  done status=cancelled status_details.reason=client_cancelled
        told    response_done status=cancelled reason=client_cancelled
        server  audio 100
        told    nothing
        server  audio 100 response=resp_2
        told    response_started resp_2
        told    audio_delta resp_2
    """)


def test_cancel_always_frees() -> None:
    play("""
        user    says "to a server that is silent"
        client  item.create
        client  response.create
        user    cancels
        result  true
        wanted  no
        user    says "the next"
        client  item.create text="the next"
        time    2
        told    nothing
        client  response.create
        server  created resp_2
        client  nothing
        server  text now response=resp_2
        told    text_delta text=now
    """)


def test_cancel_frees_from_a_held_error() -> None:
    play("""
        user    asks
        client  response.create event_1
        server  errors message=no
        user    cancels
        time    2
        told    failure message=no event_id=event_1
        busy    no
    """)


def test_a_cancelled_answer_that_comes_late_is_cancelled_then() -> None:
    play("""
        user    asks
        client  response.create
        user    cancels
        time    2
        server  created
        client  response.cancel
        server  text late
        told    nothing
    """)


@pytest.mark.parametrize("how", ["server errors response_cancel_not_active", "time 2"], ids=["not active", "time"])
def test_a_cancelled_answer_whose_end_never_comes(how: str) -> None:
    play(f"""
        user    asks
        client  response.create
        server  created
        user    cancels
        client  response.cancel
        user    asks instructions=next
        {how}
        client  response.create instructions=next
        server  text late
        told    nothing
    """)


@pytest.mark.parametrize(
    "how",
    ["server errors invalid_value about=event_1\ntime 2", "server errors invalid_value\ntime 2", "server done resp_x"],
    ids=["named", "anonymous", "done"],
)
def test_a_cancelled_request_that_is_over_cancels_no_later_answer(how: str) -> None:
    play(f"""
        user    asks
        client  response.create event_1
        user    cancels
        {how}
        server  committed
        server  created resp_vad
        client  nothing
        server  text "spoken to" response=resp_vad
        told    text_delta text="spoken to"
    """)


def test_a_waiter_learns_of_a_cancelled_request() -> None:
    play(f"""
        user    asks
        client  response.create event_1
        user    asks instructions=two
        user    cancels
        told    failure event_1 code={up.REQUEST_CANCELLED} benign
        told    failure event_2 code={up.REQUEST_CANCELLED} benign
    """)


def test_one_answer_is_withdrawn_and_no_other() -> None:
    play(f"""
        user    withdraws event_9
        result  false
        user    asks
        client  response.create event_1
        user    asks instructions=two
        user    withdraws event_2
        result  true
        told    failure event_2 code={up.REQUEST_CANCELLED}
        server  created
        user    asks instructions=three
        user    withdraws resp_1
        result  true
        told    interrupted resp_1
        client  response.cancel
        server  done status=cancelled
        client  response.create instructions=three
        user    withdraws event_3
        result  true
        told    failure event_3 code={up.REQUEST_CANCELLED}
        server  created resp_3
        client  response.cancel resp_3
    """)


def test_an_answer_that_others_want_too_goes_on() -> None:
    play("""
        server  created resp_vad
        user    asks
        user    says hello
        client  response.cancel
        client  item.create
        user    withdraws event_1
        result  false
        server  done resp_vad
        client  response.create event_1
    """)


def test_typed_text_interrupts() -> None:
    play("""
        plays   item_a 300
        server  created
        server  audio 1000
        user    says stop
        told    interrupted heard_ms=300
        told    item_added item_id=item_3 local text=stop
        client  response.cancel
        client  item.truncate item_a audio_end_ms=300
        client  item.create id=item_3 text=stop
        server  done status=cancelled
        client  response.create
    """)


def test_text_without_a_wish_for_an_answer_interrupts_nothing() -> None:
    play("""
        server  created
        server  audio 100
        user    says "by the way" respond=false
        client  item.create
        server  audio 100
        told    audio_delta
    """)


# --- speech -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("detection", "cancels"),
    [
        ({"type": "server_vad"}, False),
        ({"type": "server_vad", "interrupt_response": True}, False),
        ({"type": "server_vad", "interrupt_response": None}, False),
        ({"type": "semantic_vad", "interrupt_response": False}, True),
        (None, True),
    ],
)
@pytest.mark.parametrize("where", ["turn_detection", "audio.input.turn_detection"], ids=["beta", "current"])
def test_who_cancels_on_speech(detection: Any, cancels: bool, where: str) -> None:
    play(f"""
        server  settings '{where}={json.dumps(detection)}'
        plays   item_a 40
        server  created
        server  audio 100
        server  speech item_u 900
        told    speech_started item_u at_ms=900
        told    interrupted cause=speech heard_ms=40 received_ms=100
        {"client response.cancel" if cancels else ""}
        client  item.truncate
        server  audio 100
        told    nothing
    """)


def test_speech_may_leave_the_answer_alone() -> None:
    play(
        """
        server  created
        server  audio 100
        server  speech
        told    speech_started
        client  nothing
    """,
        interrupt_on_speech=False,
    )


def test_speech_stopped_and_idle() -> None:
    play("""
        server  silence i 7
        told    speech_stopped item_id=i at_ms=7
        server  get input_audio_buffer.timeout_triggered item_id=i audio_start_ms=1 audio_end_ms=2
        told    input_timed_out item_id=i start_ms=1 end_ms=2
        server  get input_audio_buffer.cleared
        told    nothing
    """)


# --- truncation -------------------------------------------------------------------------------------------------------

DELETED = "client item.delete item_a"


@pytest.mark.parametrize("over", [False, True], ids=["running", "done"])
@pytest.mark.parametrize(
    ("received", "heard", "running", "done"),
    [
        (1000, 300, 300, 300),
        (1000, 57_340, 1000, None),  # never beyond what was received
        (1000, 1000, 1000, None),
        (1000, 0, "delete", "delete"),
        (1000, -50, "delete", "delete"),
        (0.5, 5, "delete", "delete"),  # less than a millisecond cannot be truncated to anything
        (999.98, 999, 999, None),
    ],
)
def test_truncation_is_clamped(*, received: float, heard: int, running: Any, done: Any, over: bool) -> None:
    expected = done if over else running
    truncated = f"client item.truncate item_a audio_end_ms={expected}"
    play(f"""
        plays   item_a {heard}
        server  created
        server  audio {received}
        {"server done" if over else ""}
        user    cancels
        {"" if over else "client response.cancel"}
        {"" if expected is None else DELETED if expected == "delete" else truncated}
    """)


def test_the_tail_of_a_finished_answer_is_corrected_once() -> None:
    play("""
        plays   item_a 250
        server  created
        server  audio 1000
        server  done
        user    interrupts cancel
        result  true
        client  item.truncate item_a audio_end_ms=250
        user    interrupts cancel
        result  false
        told    nothing
    """)


def test_without_playback_nothing_is_truncated() -> None:
    play("""
        server  created
        server  audio 1000
        user    cancels
        told    interrupted heard_ms=1000 received_ms=1000
        client  response.cancel
        server  done status=cancelled
        server  created resp_2
        server  audio 100 response=resp_2 item=item_b
        server  done resp_2
        user    cancels
        result  false
        told    nothing
    """)


def test_no_audio_received_no_truncation() -> None:
    play("""
        plays   nothing
        server  created
        user    cancels
        told    interrupted received_ms=0
        client  response.cancel
    """)


def test_parts_are_counted_apart() -> None:
    play("""
        plays   item_a 100
        plays   item_a 30 1
        server  created
        server  audio 100
        server  audio 100 part=1
        server  audio 100 item=item_b output=1
        user    cancels
        client  response.cancel
        client  item.truncate item_id=item_a content_index=0 audio_end_ms=100
        client  item.truncate item_id=item_a content_index=1 audio_end_ms=30
        client  item.delete item_id=item_b
    """)


def test_an_item_is_deleted_once_and_only_if_nothing_of_it_was_heard() -> None:
    play("""
        plays   item_a 100
        server  created
        server  audio 100
        server  audio 100 part=1
        server  audio 100 item=item_b output=1
        server  audio 100 item=item_b output=1 part=1
        server  done
        user    cancels
        client  item.delete item_id=item_b
    """)


@pytest.mark.parametrize(
    ("wire", "bytes_a_second"), [("audio/pcm", 48_000), ("audio/pcmu", 8000), ("audio/pcma", 8000)]
)
@pytest.mark.parametrize("where", ["server settings\nserver created", "server created"], ids=["session", "response"])
def test_milliseconds_of_every_format(wire: str, bytes_a_second: int, where: str) -> None:
    ms = bytes_a_second * 3 // MS * MS * 1000 // bytes_a_second
    assert 2990 <= ms <= 3000
    first, *rest = where.split("\n")
    play(f"""
        plays   item_a 1000000000
        {first} audio.output.format.type={wire}
        {"".join(rest)}
        server  audio {bytes_a_second * 3 // MS}
        user    cancels
        client  response.cancel
        client  item.truncate item_a audio_end_ms={ms}
    """)


@given(
    st.integers(0, 10**7), st.none() | st.integers(-(10**6), 10**6), st.booleans(), st.sampled_from(["pcm16", "ulaw"])
)
def test_a_cut_never_exceeds_what_was_received(size: int, heard: int | None, done: bool, encoding: str) -> None:
    audio = up.AudioFormat(encoding, 24_000 if encoding == "pcm16" else 8000)
    cut = plan_cut(("i", 0), size, heard, audio, done=done)
    assert cut.received_ms <= size / audio.bytes_per_ms
    assert 0 <= cut.heard_ms <= cut.received_ms
    assert cut.action in {"none", "truncate", "delete"}
    if cut.action == "truncate":
        assert cut.heard_ms > 0
    assert (cut.action == "delete") == (heard is not None and cut.heard_ms == 0)


# --- before a sound was heard -----------------------------------------------------------------------------------------


TEXT, SOUND = ("'output_modalities=[\"text\"]'", "'output_modalities=[\"audio\"]'")


@pytest.mark.parametrize(
    ("settings", "begins", "words", "spoken"),
    [
        ("", "", "server spoken Good", True),
        ("", "", "", True),
        ("", "", "server text Good", False),
        (TEXT, "", "", False),
        (TEXT, SOUND, "", True),
        ("", TEXT, "", False),
    ],
)
def test_an_answer_without_a_sound_yet(settings: str, begins: str, words: str, spoken: bool) -> None:
    play(
        f"""
        plays   nothing
        server  settings {settings}
        server  created {begins}
        {words}
        user    cancels
        told    interrupted heard_ms=0 received_ms=0 spoken={json.dumps(spoken)}
        client  response.cancel
    """
    )


@pytest.mark.parametrize("words", ["server spoken Good", "server text Good", ""])
def test_where_nothing_plays_words_are_seen(words: str) -> None:
    play(
        f"""
        server  created
        {words}
        user    cancels
        told    interrupted heard_ms=0 received_ms=0 spoken=false
        client  response.cancel
        server  done status=cancelled
    """,
        plays=False,
    )


def test_which_parts_have_not_sounded() -> None:
    play("""
        plays   item_a 50
        server  created
        server  audio 100
        server  spoken one
        server  spoken "one more" part=1
        server  spoken two item=item_b output=1
        server  spoken three item=item_c output=2
        user    interrupts speech
        client  response.cancel
        client  item.truncate
        told    interrupted item_id=item_a heard_ms=50 received_ms=100 spoken
        told    interrupted item_id=item_b heard_ms=0 received_ms=0 spoken
        told    interrupted item_id=item_c heard_ms=0 received_ms=0 spoken
    """)


@pytest.mark.parametrize("item", ["item_a", '""'])
def test_which_item_of_a_written_answer_is_cut(item: str) -> None:
    play(f"""
        server  created
        server  text one item={item}
        user    interrupts typed
        client  response.cancel
        told    interrupted item_id={item} spoken=false
    """)


def test_what_an_interruption_says_was_heard() -> None:
    def cut(heard_ms: int, received_ms: int, *, spoken: bool = True) -> bool:
        where = {"response_id": "r", "item_id": "i", "content_index": 0, "cause": "cancel"}
        return up.Interrupted(**where, heard_ms=heard_ms, received_ms=received_ms, spoken=spoken).heard_all

    assert cut(5, 5)
    assert not cut(4, 5)
    assert not cut(0, 0)
    assert cut(0, 0, spoken=False)


@pytest.mark.parametrize("came", ["starts item_a", "added item_a after=item_1 role=assistant"])
def test_an_answer_that_was_cut_before_its_item_came_stands_before_what_cut_it(came: str) -> None:
    play(f"""
        user    says one
        client  item.create id=item_1
        client  response.create
        server  created
        user    says two
        client  response.cancel
        client  item.create id=item_5
        server  {came}
        told    item_added item_a previous_item_id=item_1
        order   item_1 item_a item_5
    """)


def test_commands_go_out_in_the_order_of_the_decision() -> None:
    scene = Scene()
    scene.heard = {("item_a", 0): 10}
    scene.created()
    scene.audio(100)
    scene.it.say("stop")
    kinds = [type(command) for command in scene.sent()]
    assert kinds == [ev.ResponseCancel, ev.ConversationItemTruncate, ev.ConversationItemCreate]
