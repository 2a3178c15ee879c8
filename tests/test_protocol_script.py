"""The scripts of conversations: they fail when they should, and say how the conversation went."""

from __future__ import annotations

import pytest
from conversation_script import play


def test_a_script_that_holds() -> None:
    scene = play("""
        user    asks instructions=one
        client  response.create event_1 instructions=one
        server  created
        told    response_started resp_1 request_id=event_1 metadata=null
        server  text "Good morning."
        told    text_delta text="Good morning."
        user    cancels
        result  true
        client  response.cancel response_id=resp_1
        server  done status=cancelled
        busy    no
    """)
    assert not scene.it.gate.busy


WRONG = {
    "another field": "user asks\nclient response.create instructions=one",
    "another kind": "user asks\nclient response.cancel",
    "nothing sent": "user cancels\nclient response.cancel",
    "sent unasked": "user asks\nserver created",
    "told more": "server created\ntold response_started\ntold text_delta",
    "told less": "user says hi\nclient item.create\nclient response.create\ntold nothing",
    "not refused": 'user asks\nclient response.create\nrefused "64 requests"',
    "refused": "user commits",
    "result": "user cancels\nresult true",
    "order": "server committed item_u\norder item_x",
    "history": "user adds user hello\nclient item.create\nholds user text=goodbye",
    "state": "user asks\nclient response.create\nbusy no",
    "a flag": "user cancels\nserver errors code=x\ntold failure benign",
    "an unknown word": "butler asks",
}  # fmt: skip


@pytest.mark.parametrize("script", WRONG.values(), ids=WRONG.keys())
def test_a_script_that_does_not_hold(script: str) -> None:
    with pytest.raises(AssertionError):
        play(script)


def test_the_difference_is_readable() -> None:
    with pytest.raises(AssertionError) as failed:
        play("""
            user    asks instructions=one
            client  response.create event_1
            server  created
            user    says "never mind"
            client  response.cancel
            client  item.create text=nevermind
        """)
    lines = str(failed.value).splitlines()
    assert lines[:6] == [
        "not as the script has it:",
        "  user    asks instructions=one",
        "  client  response.create event_id=event_1 response.instructions=one",
        "  server  created",
        "  told    response_started response_id=resp_1 request_id=event_1",
        '  user    says "never mind"',
    ]
    assert lines[6:8] == ["- client  response.cancel", "- client  item.create text=nevermind"]
    cancel, create = lines[8:]
    assert cancel == "+ client  response.cancel event_id=event_2 response_id=resp_1"
    assert create.startswith("+ client  item.create event_id=event_4 item.type=message item.id=item_3")
    assert create.endswith("item.content.0.text='never mind'")
