"""One answer at a time: requests wait, are refused and sent again; answers outside the conversation run beside it."""

from __future__ import annotations

import pytest
from conversation_script import BUSY, Scene, play

from realtime_client.errors import UsageError
from realtime_client.protocol import events as ev
from realtime_client.protocol import items
from realtime_client.protocol.gate import ResponseGate

# --- one answer at a time ---------------------------------------------------------------------------------------------


def test_requests_wait_behind_the_running_answer() -> None:
    play("""
        user    asks instructions=one
        client  response.create event_1 instructions=one
        user    asks instructions=two
        server  created
        server  text hello
        server  done
        client  response.create event_2 instructions=two
        server  created resp_2
        server  done resp_2
        busy    no
    """)


def test_every_command_carries_an_event_id() -> None:
    scene = Scene()
    scene.it.say("hello")
    scene.it.appended(4800)
    scene.it.commit()
    scene.it.clear_input()
    scene.it.update_session({"type": "realtime"})
    scene.get("conversation.item.done", item={"id": "req_1", "type": "mcp_approval_request", "name": "pay"})
    scene.it.approve("req_1", approve=True)
    scene.created()
    scene.it.cancel()
    commands = scene.sent()
    assert len(commands) == 7
    assert all(command.event_id for command in commands)


@pytest.mark.parametrize("about", ["event_1", "null"])
@pytest.mark.parametrize("seen", [True, False], ids=["created seen", "created not seen"])
def test_a_refused_request_waits_and_is_sent_once_more(about: str, seen: bool) -> None:
    message = "Conversation already has an active response in progress: {}. Wait until it is finished."
    own = "server committed\nserver created resp_vad" if seen else ""  # the server's own voice detection was quicker
    play(f"""
        user    asks
        client  response.create event_1
        {own}
        server  errors {BUSY} about={about} message="{message.format("resp_vad")}"
        told    failure benign=true fatal=false event_1
        server  done resp_vad
        client  response.create event_1 response=null
        server  errors {BUSY} about={about} message="{message.format("resp_x")}"
        told    failure benign=false event_1
        server  done resp_x
    """)


def test_a_twice_refused_request_does_not_stop_the_next() -> None:
    play(f"""
        user    asks instructions=one
        client  response.create instructions=one
        user    asks instructions=two
        server  errors {BUSY} about=event_1 message="busy with resp_x."
        server  done resp_x
        client  response.create instructions=one
        server  errors {BUSY} about=event_1 message="busy with resp_y."
        client  nothing
        server  done resp_y
        client  response.create instructions=two
    """)


def test_the_error_names_an_answer_that_has_ended_already() -> None:
    play(f"""
        server  created resp_vad
        server  done resp_vad
        user    asks
        client  response.create event_1
        server  errors {BUSY} about=event_1 message="active response: resp_vad"
        told    failure benign
        client  response.create event_1
    """)


def test_an_error_of_something_else_leaves_the_request_alone() -> None:
    play("""
        user    asks
        client  response.create event_1
        server  errors invalid_value about=event_other
        told    failure benign=false
        busy    yes
        server  errors invalid_value about=event_1
        told    failure benign=false
        busy    no
    """)


def test_a_refused_request_lets_the_next_one_go() -> None:
    play("""
        user    asks instructions=one
        client  response.create instructions=one
        user    asks instructions=two
        server  errors invalid_value about=event_1
        client  response.create instructions=two
    """)


def test_the_servers_own_answers_hold_requests_back() -> None:
    play("""
        server  created resp_vad
        user    asks
        server  done resp_vad
        client  response.create
    """)


def test_too_many_requests_are_an_error() -> None:
    asks = "\n".join(["user asks instructions=x"] * 64)
    play(f"server created\n{asks}\nuser asks\nrefused '64 requests'")


def test_a_start_that_is_told_twice_does_not_block() -> None:
    play("""
        server  created
        server  done
        server  created
        busy    no
        server  done
        told    nothing
    """)


@pytest.mark.parametrize("name", ['""', "resp_1"], ids=["none", "always the same"])
def test_servers_with_poor_response_ids(name: str) -> None:
    turn = f"""
        user    asks
        client  response.create
        server  created {name}
        told    response_started
        server  text x response={name}
        told    text_delta
        server  done {name}
        told    response_done text=x
    """
    play(turn * 3)


def test_typed_messages_share_a_request_that_waits() -> None:
    play("""
        user    says one
        client  item.create text=one
        client  response.create
        server  created
        user    says two
        client  response.cancel
        client  item.create text=two
        user    says three
        client  item.create text=three
        server  done status=cancelled
        client  response.create
        server  created resp_2
        server  done resp_2
    """)


def test_send_keeps_the_callers_event_ids() -> None:
    scene = Scene()
    scene.it.send(ev.ResponseCreate(event_id="mine"))
    scene.it.send(ev.ConversationItemCreate(event_id="too", item=items.user_text("x"), previous_item_id="root"))
    assert [command.event_id for command in scene.sent()] == ["mine", "too"]
    play(
        """
        server  errors invalid_value about=mine
        told    failure mine
        busy    no
    """,
        scene,
    )


def test_a_message_too_many_changes_nothing() -> None:
    scene = Scene()
    for n in range(65):
        scene.it.ask({"instructions": str(n)})
    scene.created()
    scene.sent()
    last = scene.it.last_request_id
    for too_many in (lambda: scene.it.say("x"), scene.it.ask):
        with pytest.raises(UsageError, match="64 requests"):
            too_many()
        assert scene.sent() == []
    assert scene.it.last_request_id == last
    assert not scene.it.book.running["resp_1"].cut


# --- outside the conversation -----------------------------------------------------------------------------------------

APART = "metadata.realtime_client_request"  # our own tag, which is nobody's business


def test_answers_apart_run_in_parallel() -> None:
    usage = "usage.input_tokens=3 usage.output_tokens=4 usage.total_tokens=7"
    scene = play(f"""
        user    asks
        client  response.create event_1
        server  created
        user    asks conversation=none metadata.topic=weather input=[]
        client  response.create event_2 conversation=none topic=weather realtime_client_request=event_2
        server  created resp_2 metadata.topic=weather {APART}=event_2
        told    response_started resp_2 out_of_band topic=weather request_id=event_2 realtime_client_request=null
        server  text in
        server  text out response=resp_2 item=item_b
        server  done resp_2 metadata.topic=weather {APART}=event_2 {usage}
        told    response_done out_of_band text=out topic=weather realtime_client_request=null
        busy    yes
        server  done resp_1 {usage}
        told    response_done out_of_band=false text=in metadata=null
    """)
    assert scene.it.usage.total_tokens == 14


def test_two_apart_at_once_and_none_is_cut_or_cancelled() -> None:
    play(f"""
        plays   nothing
        user    asks conversation=none
        client  response.create realtime_client_request=event_1
        busy    no
        server  created resp_0 {APART}=event_1
        told    response_started metadata=null
        server  audio 500 response=resp_0 item=item_0
        user    asks conversation=none
        client  response.create realtime_client_request=event_2
        busy    no
        server  created resp_1 {APART}=event_2
        told    response_started metadata=null
        server  audio 500 response=resp_1 item=item_1
        server  done resp_0
        user    cancels
        result  false
        told    nothing
        user    says hello
        client  item.create
        client  response.create
        server  speech
        client  nothing
        server  audio 10 response=resp_1 item=item_1
        told    audio_delta
    """)


def test_a_refused_request_apart_is_forgotten() -> None:
    play(f"""
        user    asks conversation=none
        client  response.create
        server  errors invalid_value about=event_1
        told    failure benign=false
        server  created {APART}=event_1
        told    response_started out_of_band=false
    """)


def test_a_strangers_metadata_is_kept() -> None:
    play("""
        server  created metadata.a=b
        told    response_started out_of_band=false metadata.a=b
    """)


# --- an end under another name ----------------------------------------------------------------------------------------


def test_an_end_under_another_name_is_the_only_answers() -> None:
    play("""
        user    asks
        client  response.create event_1
        server  created
        server  text Hi.
        server  done resp_other
        told    response_done resp_1 text=Hi.
        busy    no
        server  done
        told    nothing
        user    asks
        client  response.create
    """)


def test_all_of_an_answer_under_another_name_than_its_beginning() -> None:
    play("""
        user    asks
        client  response.create
        server  created
        server  text Hi. response=resp_other
        told    text_delta resp_1 text=Hi.
        server  audio 10 response=resp_other
        told    audio_delta resp_1
        server  done resp_other
        told    response_done resp_1 text=Hi.
        busy    no
    """)


STRANGERS = {
    "with items of its own": """
        user    asks
        client  response.create
        server  created
        server  starts item_a
        server  done resp_other 'output=[{"type":"message","id":"item_x"}]'
        told    response_done resp_other
        busy    yes
    """,
    "not ours": """
        server  created resp_vad
        server  done resp_other
        told    response_done resp_other
        busy    yes
    """,
    "one apart is awaited": """
        user    asks
        client  response.create
        user    asks conversation=none
        client  response.create
        server  created
        server  done resp_other
        told    response_done resp_other
        busy    yes
    """,
    "two run": """
        server  text lost response=resp_lost
        user    asks
        client  response.create
        server  created
        server  done resp_other
        told    response_done resp_other
        busy    yes
    """,
    "a stray word within ours": """
        user    asks
        client  response.create
        server  created
        server  text mine
        server  text stray response=resp_stray
        told    text_delta resp_stray
        server  done
        told    response_done text=mine
        busy    no
    """,
}


@pytest.mark.parametrize("script", STRANGERS.values(), ids=STRANGERS.keys())
def test_what_is_somebody_elses_is_not_taken_for_ours(script: str) -> None:
    play(script)


def test_the_gate_alone() -> None:
    gate = ResponseGate(limit=1)
    assert gate.next() is None
    assert gate.submit(ev.ResponseCreate(event_id="a"))
    assert not gate.submit(ev.ResponseCreate(event_id="b"))
    assert gate.join(plain=True) == "a"
    assert gate.next() == ev.ResponseCreate(event_id="a")
    assert gate.next() is None
    assert gate.asked
    gate.created("r")
    assert not gate.asked
    gate.done("r")
    assert not gate.busy
    assert not gate.refused("a", BUSY)
