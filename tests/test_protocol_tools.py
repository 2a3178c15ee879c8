"""Calls of tools, here and on the server's side: told once, answered once, one new answer for all."""

from __future__ import annotations

import itertools

import pytest
from conversation_script import Scene, only

from realtime_client import updates as up
from realtime_client.errors import UsageError
from realtime_client.protocol import events as ev
from realtime_client.protocol import items


@pytest.fixture
def scene() -> Scene:
    return Scene()


# --- tools ------------------------------------------------------------------------------------------------------------


def test_a_tool_call_and_its_answer(scene: Scene) -> None:
    scene.created()
    delta = scene.get(
        "response.function_call_arguments.delta",
        response_id="resp_1",
        item_id="item_c1",
        output_index=0,
        call_id="c1",
        delta='{"a',
    )
    assert only(delta, up.ToolCallDelta).text == '{"a'
    call = only(scene.call("c1", arguments='{"a": 1'), up.ToolCall)
    assert call == up.ToolCall(response_id="resp_1", item_id="item_c1", call_id="c1", name="add", arguments='{"a": 1')
    assert scene.call("c1") == []  # told twice, run once
    _, happened = scene.it.tool_result("c1", "2")
    assert only(happened, up.ItemAdded).item_type == "function_call_output"
    assert scene.kinds() == ["conversation.item.create"]  # the calling answer still runs
    assert scene.call("c1") == []
    scene.done()
    assert scene.kinds() == ["response.create"]


@pytest.mark.parametrize("status", ["incomplete", "in_progress", "cancelled", "new"])
def test_only_complete_calls_are_run(scene: Scene, status: str) -> None:
    scene.created()
    assert scene.call("c1", status=status) == []


def test_calls_without_status_are_complete(scene: Scene) -> None:
    assert only(scene.call("c1", status=None), up.ToolCall)


@pytest.mark.parametrize("order", list(itertools.permutations(["c1", "c2", "done"])))
def test_several_calls_one_answer_after_all(order: tuple[str, ...]) -> None:
    scene = Scene()
    scene.created()
    scene.call("c1")
    scene.call("c2")
    for n, step in enumerate(order):
        if step == "done":
            scene.done()
        else:
            scene.it.tool_result(step, "x")
        commands = scene.kinds()
        assert ("response.create" in commands) == (n == 2), (order, n)


def test_a_quick_result_does_not_outrun_the_second_call(scene: Scene) -> None:
    scene.created()
    scene.call("c1")
    scene.it.tool_result("c1", "x")
    scene.call("c2")
    scene.done()
    assert scene.kinds() == ["conversation.item.create"]
    scene.it.tool_result("c2", "y", respond=False)
    assert scene.kinds() == ["conversation.item.create", "response.create"]


def test_a_result_without_a_wish_for_an_answer(scene: Scene) -> None:
    scene.created()
    scene.call("c1")
    scene.done()
    scene.it.tool_result("c1", "x", respond=False)
    assert scene.kinds() == ["conversation.item.create"]
    for call_id in ("unknown", "c1"):
        with pytest.raises(UsageError, match="no call"):
            scene.it.tool_result(call_id, "x")
        assert scene.sent() == []


def test_a_result_after_an_interruption(scene: Scene) -> None:
    scene.created()
    scene.call("c1")
    scene.it.say("never mind")
    scene.done(status="cancelled")
    assert scene.kinds() == ["response.cancel", "conversation.item.create", "response.create"]
    scene.it.tool_result("c1", "x")  # on its way already: the answer that was asked for does not know it
    assert scene.kinds() == ["conversation.item.create"]
    scene.created("resp_2")
    scene.done("resp_2")
    assert scene.kinds() == ["response.create"]


def test_a_result_while_a_request_waits_needs_no_second_one(scene: Scene) -> None:
    scene.created()
    scene.call("c1")
    scene.done()
    scene.created("resp_vad")
    scene.it.ask({"instructions": "x"})
    scene.it.tool_result("c1", "x")
    scene.done("resp_vad")
    assert scene.kinds() == ["conversation.item.create", "response.create"]
    scene.created("resp_3")
    scene.done("resp_3")
    assert scene.sent() == []


# --- remote tools -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["completed", "failed"])
def test_the_model_is_asked_to_go_on_after_remote_tools(scene: Scene, end: str) -> None:
    scene.created()
    scene.remote_call("m1")
    scene.remote_call("m2")
    (progress,) = scene.get("response.mcp_call.in_progress", item_id="m1", output_index=0)
    assert progress == up.Progress(what="response.mcp_call.in_progress", item_id="m1", text="t")
    scene.get("response.mcp_call.completed", item_id="m1", output_index=0)
    scene.done()
    assert scene.sent() == []
    scene.get(f"response.mcp_call.{end}", item_id="m2", output_index=1)
    assert scene.kinds() == ["response.create"]
    scene.get(f"response.mcp_call.{end}", item_id="m2", output_index=1)
    assert scene.sent() == []


def test_a_remote_tool_that_is_quick_waits_for_the_others(scene: Scene) -> None:
    scene.created()
    scene.remote_call("m1")
    scene.get("response.mcp_call.completed", item_id="m1", output_index=0)
    scene.remote_call("m2")
    scene.done()
    assert scene.sent() == []
    scene.get("response.mcp_call.completed", item_id="m2", output_index=1)
    assert scene.kinds() == ["response.create"]


def test_no_answer_is_asked_for_after_an_interrupted_remote_tool(scene: Scene) -> None:
    scene.created()
    scene.remote_call("m1")
    scene.it.cancel()
    scene.done(status="cancelled")
    scene.get("response.mcp_call.completed", item_id="m1", output_index=0)
    assert scene.kinds() == ["response.cancel"]


def test_approvals(scene: Scene) -> None:
    item = {"id": "req_1", "type": "mcp_approval_request", "server_label": "s", "name": "pay", "arguments": "{}"}
    done, asked = scene.get("conversation.item.done", item=item)
    assert isinstance(done, up.ItemDone)
    assert asked == up.ApprovalRequested(request_id="req_1", name="pay", arguments="{}", origin="mcp s", remote=True)
    scene.it.approve("req_1", approve=False, reason="no")
    (answer,) = scene.sent()
    assert isinstance(answer, ev.ConversationItemCreate)
    assert answer.item == items.mcp_approval("req_1", approve=False, reason="no", item_id=answer.item.id or "")
    for step in ("in_progress", "completed", "failed"):
        assert len(scene.get(f"mcp_list_tools.{step}", item_id="m")) == 1
