"""What never comes: refusals without a name, answers that nobody announces or ends. No request may wedge a session."""

from __future__ import annotations

import pytest
from conversation_script import BUSY, Scene, play

from realtime_client import updates as up

APART = "metadata.realtime_client_request"


def test_an_error_without_a_name_is_the_likely_refusal() -> None:
    play("""
        user    asks
        client  response.create event_1
        server  errors message="no capacity"
        told    nothing
        user    asks instructions=next
        time    1.9
        told    nothing
        time    0.2
        told    failure message="no capacity" event_id=event_1
        client  response.create instructions=next
        time    3600
        told    failure
    """)


def test_an_error_without_a_name_is_about_something_else_if_the_answer_begins() -> None:
    scene = play("""
        user    asks
        client  response.create event_1
        server  errors message=one
        told    nothing
        server  errors invalid_value message=two
        told    nothing
        server  created
        told    failure message=one event_id=null
        told    failure message=two event_id=null
        told    response_started request_id=event_1
        time    3600
        told    nothing
    """)
    assert scene.it.due_s is None
    play(
        """
        server  errors message=three
        told    failure message=three event_id=null
        server  done
        busy    no
    """,
        scene,
    )


def test_of_several_errors_the_first_is_the_refusal() -> None:
    scene = Scene()
    request = scene.it.ask()
    scene.sent()
    for n in range(20):  # no more than some are held
        for told in scene.errors(None, message=str(n)):
            assert isinstance(told, up.Failure)
            assert told.event_id is None
    first, *others = [u for u in scene.later(2) if isinstance(u, up.Failure)]
    assert (first.message, first.event_id) == ("0", request)
    assert {each.event_id for each in others} == {None}


@pytest.mark.parametrize("code", ["session_expired", "response_cancel_not_active"])
def test_what_is_known_to_be_something_else_is_not_held(code: str) -> None:
    scene = play(f"""
        user    asks
        client  response.create
        server  errors {code}
        told    failure event_id=null
    """)
    assert scene.it.due_s == scene.now_s + 30


def test_a_refusal_by_name_frees_what_was_held() -> None:
    scene = play("""
        user    asks
        client  response.create event_1
        server  errors message=something
        server  errors invalid_value about=event_1
        told    failure event_1
    """)
    assert scene.it.due_s is None


def test_an_end_tells_what_was_held() -> None:
    play("""
        user    asks
        client  response.create
        server  errors insufficient_quota message="pay first"
        user    hangs_up
        told    failure message="pay first" event_id=null
        user    hangs_up
        told    nothing
    """)


def test_a_request_that_is_never_answered() -> None:
    scene = Scene()
    scene.it.ask()
    assert scene.it.due_s is None  # not sent yet
    play(
        """
        user    asks instructions=two
        client  response.create event_1
        time    29.9
        told    nothing
        time    0.1
        told    failure event_1 code=request_unanswered
        client  response.create instructions=two
    """,
        scene,
    )
    assert scene.it.due_s == scene.now_s + 30


def test_an_answer_that_comes_after_all_is_shown() -> None:
    play("""
        user    asks
        client  response.create
        time    30
        told    failure
        busy    no
        server  created
        server  text late
        told    text_delta text=late
        server  done
        told    response_done text=late
    """)


def test_no_limit_for_answers() -> None:
    scene = play(
        """
        user    asks
        client  response.create
        time    1000000
        told    nothing
    """,
        answer_s=0,
    )
    assert scene.it.due_s is None


def test_somebody_elses_busy_error_does_not_ask_twice() -> None:
    """A proxy that asks for answers of its own: ours was never refused."""
    play(f"""
        user    says hello
        client  item.create
        client  response.create
        server  created
        server  errors {BUSY} message="Conversation already has an active response in progress: resp_1."
        told    failure event_id=null benign=false
        server  done
        client  nothing
    """)


def test_own_commits_are_not_the_servers() -> None:
    play(f"""
        user    records 1000
        user    commits
        client  input.commit
        user    asks
        client  response.create
        server  committed
        server  created
        server  errors {BUSY}
        told    failure benign=false
        server  done
        client  nothing
    """)


def test_an_answer_that_is_only_named_is_not_waited_for_without_end() -> None:
    play(f"""
        user    asks
        client  response.create event_1
        server  errors {BUSY} about=event_1 message="already active: resp_zombie."
        told    failure benign
        time    29
        told    nothing
        time    1
        client  response.create event_1
        server  errors {BUSY} about=event_1 message="already active: resp_zombie."
        told    failure event_1 benign=false
        user    cancels
        time    2
        busy    no
    """)


def test_a_busy_server_that_names_nothing_is_asked_again_a_little_later() -> None:
    play(f"""
        user    asks
        client  response.create event_1
        server  errors {BUSY} about=event_1 message=busy
        told    failure benign
        time    2
        client  response.create event_1
    """)


def test_a_busy_error_while_nothing_was_asked_holds_nothing_back() -> None:
    play(f"""
        server  errors {BUSY} message="already active: resp_x."
        user    asks
        client  response.create
    """)


def test_a_request_behind_an_answer_apart() -> None:
    play(f"""
        user    asks conversation=none
        client  response.create
        server  created resp_apart {APART}=event_1
        user    asks
        client  response.create event_2
        server  errors {BUSY} about=event_2 message="already active: resp_apart."
        server  done resp_apart
        client  response.create event_2
    """)


def test_a_server_that_does_not_answer_by_itself_refuses_nobody() -> None:
    play(f"""
        server  settings audio.input.turn_detection.create_response=false
        server  silence u 5
        user    asks
        client  response.create
        server  created
        server  errors {BUSY}
        server  done
        client  nothing
    """)


def test_what_runs_is_over_when_the_session_moves() -> None:
    scene = play(f"""
        plays   item_a 50
        server  created
        server  spoken Hello
        server  audio 100
        server  call c1
        server  done
        server  created resp_2
        server  text "as far as" response=resp_2 item=item_b
        user    asks
        user    moves
        told    response_done resp_2 status=incomplete text="as far as"
        told    failure event_1 code={up.REQUEST_CANCELLED}
        busy    no
        holds   assistant text=Hello
        holds   assistant kind=call
        holds   assistant text="as far as" incomplete
        user    answers c1 2
        refused "no call 'c1' waits"
        user    interrupts speech
        told    interrupted item_a heard_ms=50
        client  nothing
        user    asks
        client  nothing
        user    is_back asked
        client  response.create
        server  errors message="who knows"
        user    cancels
        client  nothing
        user    moves
        told    failure message="who knows" event_id=null
        busy    no
    """)
    assert not scene.it.is_open(settings_follow=False)


def test_an_answer_that_nobody_announces() -> None:
    play("""
        user    asks
        client  response.create event_1
        server  text Hi.
        told    response_started resp_1 request_id=event_1
        told    text_delta text=Hi.
        server  done
        told    response_done text=Hi.
        busy    no
    """)


def test_a_stray_word_holds_no_request_back() -> None:
    """Somebody else's answer, of which neither beginning nor end is told here."""
    play("""
        server  text stray response=resp_stray
        told    response_started request_id=null
        told    text_delta
        user    asks
        client  response.create event_1
        server  created
        told    response_started request_id=event_1
        server  done
        busy    no
    """)


def test_a_stray_word_while_one_asks_is_not_waited_for_without_end() -> None:
    play("""
        user    asks
        client  response.create event_1
        server  text stray response=resp_stray
        server  created
        told    response_started resp_1 request_id=event_1
        server  done
        busy    no
        user    asks
        client  response.create
        server  text stray response=resp_other
        user    asks instructions=next
        client  nothing
        time    30
        client  response.create instructions=next
    """)


def test_beginnings_without_ids_and_ends() -> None:
    scene = Scene()
    for _ in range(2):
        request = scene.it.ask()
        scene.sent()
        (started,) = scene.get("response.created", response={})
        assert isinstance(started, up.ResponseStarted)
        assert started.request_id == request
        scene.it.cancel()
        scene.later(2)
        scene.sent()
    request = scene.it.ask()
    scene.sent()
    play(
        f"""
        server  created
        told    response_started request_id={request}
        server  text Hi.
        told    text_delta text=Hi.
        server  done
        busy    no
    """,
        scene,
    )


def test_a_beginning_without_an_id() -> None:
    scene = Scene()
    scene.it.ask()
    scene.sent()
    updates = scene.get("response.created", response={"status": "in_progress"})
    updates += [*scene.text("Hi.", response="resp_9"), *scene.done("resp_9")]
    ids = {u.response_id for u in updates if isinstance(u, up.ResponseStarted | up.TextDelta | up.ResponseDone)}
    assert len(ids) == 1
    assert not scene.it.gate.busy
