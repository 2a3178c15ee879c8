"""Answers: one way to their text, wherever servers put it; items in their order."""

from __future__ import annotations

import itertools
import json

import pytest
from conversation_script import Scene, only, play
from hypothesis import given
from hypothesis import strategies as st

from realtime_client import updates as up
from realtime_client.protocol import codec, items
from realtime_client.protocol.order import ItemOrder


@pytest.fixture
def scene() -> Scene:
    return Scene()


# --- one way to an answer's text ----------------------------------------------------------------------------------------


def shown(updates: list[up.Update]) -> str:
    return "".join(u.text for u in updates if isinstance(u, up.TextDelta))


PART = {"type": "output_text", "text": "Good morning."}
MESSAGE = {"id": "item_a", "type": "message", "role": "assistant", "content": [PART]}


@pytest.mark.parametrize("deltas", [[], ["Good"], ["Good", " morning."]])
@pytest.mark.parametrize("where", ["text.done", "content_part.done", "output_item.done", "response.done", "all"])
def test_text_that_deltas_do_not_bring(scene: Scene, deltas: list[str], where: str) -> None:
    updates = scene.created()
    for delta in deltas:
        updates += scene.text(delta)
    if where in ("text.done", "all"):
        updates += scene.part("output_text.done", text="Good morning.")
    if where in ("content_part.done", "all"):
        at = {"response_id": "resp_1", "item_id": "item_a", "output_index": 0, "content_index": 0}
        updates += scene.get("response.content_part.done", **at, part={**PART, "type": "text"})
    if where in ("output_item.done", "all"):
        updates += scene.get("response.output_item.done", response_id="resp_1", output_index=0, item=MESSAGE)
    updates += scene.done(output=[MESSAGE] if where in ("response.done", "all") else [])
    assert shown(updates) == "Good morning."
    assert only(updates, up.ResponseDone).text == "Good morning."


def test_several_dones_of_one_part_are_pieces(scene: Scene) -> None:
    updates = scene.created()
    for piece, deltas in (("One. ", ["One. "]), ("Two. ", ["Tw"]), ("Three.", [])):
        for delta in deltas:
            updates += scene.text(delta)
        updates += scene.part("output_text.done", text=piece)
    updates += scene.done(output=[{**MESSAGE, "content": [{**PART, "text": "One. Two. Three."}]}])
    assert shown(updates) == "One. Two. Three."
    assert [u.text for u in updates if isinstance(u, up.TextDone)][-1] == "One. Two. Three."
    assert only(updates, up.ResponseDone).text == "One. Two. Three."


def test_numbers_that_the_deltas_lack_do_not_show_a_text_twice(scene: Scene) -> None:
    """Deltas without indices, then the whole output with them: a reasoning item stands in front of the message."""
    updates = scene.created()
    for delta in ("Good ", "morning."):
        updates += scene.get("response.output_text.delta", delta=delta)
    updates += scene.done(output=[{"id": "r", "type": "reasoning"}, {**MESSAGE, "id": "other"}])
    assert shown(updates) == "Good morning."
    assert {u.response_id for u in updates if isinstance(u, up.TextDelta | up.ResponseDone)} == {"resp_1"}


@pytest.mark.parametrize("absent", ["response_id", "item_id", "output_index", "content_index", "all"])
@pytest.mark.parametrize("value", ["absent", None])
def test_a_whole_answer_without(scene: Scene, absent: str, value: str | None) -> None:
    names = ("response_id", "item_id", "output_index", "content_index")
    where = {"response_id": "resp_1", "item_id": "item_a", "output_index": 0, "content_index": 0}
    where |= dict.fromkeys(names if absent == "all" else (absent,), value)
    where = {key: value for key, value in where.items() if value != "absent"}
    updates = scene.created()
    updates += scene.get("response.output_item.added", **where, item={**MESSAGE, "content": []})
    updates += scene.get("response.output_audio.delta", delta="AAAA", **where)
    updates += scene.get("response.output_audio_transcript.delta", delta="Hi", **where)
    updates += scene.get("response.output_audio_transcript.done", transcript="Hi.", **where)
    updates += scene.done()
    assert shown(updates) == "Hi."
    audio = only(updates, up.AudioDelta)
    assert (audio.response_id, audio.item_id, audio.content_index) == ("resp_1", "item_a", 0)
    assert only(updates, up.ResponseDone).text == "Hi."


def test_an_answer_without_any_id(scene: Scene) -> None:
    updates = scene.get("response.created", response={})
    updates += scene.get("response.output_text.delta", delta="Hi")
    updates += scene.get("response.done", response={"status": "completed"})
    assert shown(updates) == only(updates, up.ResponseDone).text == "Hi"
    assert not scene.it.gate.busy


@pytest.mark.parametrize(
    ("deltas", "whole"),
    [
        (["a\ud83d", "\ude00b"], "a\U0001f600b"),
        (["\ud83d", "", "\ude00"], "\U0001f600"),
        (["a\ud83d", "b"], "a\ufffdb"),
        (["a\ude00"], "a\ufffd"),
        (["\ud83d\ud83d", "\ude00"], "\ufffd\U0001f600"),
    ],
)
def test_half_characters(scene: Scene, deltas: list[str], whole: str) -> None:
    scene.created()
    assert shown([u for delta in deltas for u in scene.text(delta)]) == whole
    heard = "conversation.item.input_audio_transcription.delta"
    told = [u.text for delta in deltas for u in scene.get(heard, item_id="u", content_index=0, delta=delta)]
    assert "".join(told) == whole
    where = {"response_id": "resp_1", "item_id": "f", "output_index": 1, "call_id": "c"}
    kind = "response.function_call_arguments.delta"
    assert "".join(u.text for delta in deltas for u in scene.get(kind, delta=delta, **where)) == whole


def test_half_a_character_at_the_end(scene: Scene) -> None:
    scene.created()
    assert shown(scene.text("Hi \ud83d")) == "Hi "
    assert shown(scene.part("output_text.done", text="Hi \U0001f600")) == "\U0001f600"


def test_half_a_character_that_stays_alone(scene: Scene) -> None:
    updates = [*scene.created(), *scene.text("Hi \ud83d"), *scene.done()]
    assert shown(updates) == "Hi \ufffd"
    assert only(updates, up.ResponseDone).text == "Hi \ufffd"


def test_items_that_share_a_place_are_two(scene: Scene) -> None:
    updates = scene.created()
    for name, text in (("a", "One"), ("b", "Two"), ("c", "One")):
        item = {"id": name, "type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
        updates += scene.get("response.output_item.done", response_id="resp_1", item=item)
    assert only([*updates, *scene.done()], up.ResponseDone).text.split("\n")[:2] == ["One", "Two"]


# --- text and items ---------------------------------------------------------------------------------------------------


def test_several_messages_in_one_answer_are_joined_in_order(scene: Scene) -> None:
    scene.created()
    scene.text("second ", item="item_b", output=1)
    scene.text("first", item="item_a")
    scene.part("output_audio_transcript.delta", item="item_b", output=1, part=1, delta="message")
    scene.text(" message", item="item_a", part=1)
    scene.part("output_text.done", item="item_a", text="First")
    done = only(scene.done(), up.ResponseDone)
    assert done.text == "First message\nsecond message"


def test_the_text_of_an_answer_without_deltas(scene: Scene) -> None:
    output = [
        {"id": "i1", "type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "one"}]},
        {"id": "i2", "type": "function_call", "call_id": "c", "name": "add", "arguments": "{}"},
        {"id": "i3", "type": "message", "role": "assistant", "content": [{"type": "audio", "transcript": "two"}]},
    ]
    done = only(scene.done(output=output), up.ResponseDone)
    assert (done.text, done.item_ids) == ("one\ntwo", ("i1", "i2", "i3"))


def test_item_ids_from_what_was_seen(scene: Scene) -> None:
    scene.created()
    for n in (0, 0, 1):
        item = {"id": f"item_{n}", "type": "message", "role": "assistant"}
        scene.get("response.output_item.added", response_id="resp_1", output_index=n, item=item)
    assert only(scene.done(), up.ResponseDone).item_ids == ("item_0", "item_1")


@pytest.mark.parametrize("order", list(itertools.permutations("abcd")))
def test_items_stand_in_order_however_they_arrive(order: tuple[str, ...]) -> None:
    before = {"a": None, "b": "a", "c": "b", "d": "c"}
    scene = Scene()
    for name in order:
        item = {"id": name, "type": "message", "role": "user", "content": [{"type": "input_text", "text": name}]}
        scene.get("conversation.item.added", item=item, previous_item_id=before[name])
    for name in reversed(order):  # told again when they are complete
        scene.get("conversation.item.done", item={"id": name, "type": "message"}, previous_item_id=before[name])
    assert list(scene.it.items) == list("abcd")


def test_items_in_between_at_the_front_and_gone(scene: Scene) -> None:
    def place(name: str, before: str | None) -> up.ItemAdded:
        item = {"id": name, "type": "message", "role": "user"}
        return only(scene.get("conversation.item.added", item=item, previous_item_id=before), up.ItemAdded)

    place("a", None)
    place("b", "a")
    assert place("c", "a").previous_item_id == "a"
    assert place("d", "root").previous_item_id is None
    assert list(scene.it.items) == list("dacb")
    scene.get("conversation.item.done", item={"id": "b", "type": "message"}, previous_item_id="a")
    assert list(scene.it.items) == list("dacb")  # nothing new
    assert scene.get("conversation.item.deleted", item_id="c") == [up.ItemDeleted(item_id="c")]
    scene.get("conversation.item.deleted", item_id="nobody")
    assert list(scene.it.items) == list("dab")
    assert scene.it.items.previous("nobody") is None


@given(st.lists(st.tuples(st.sampled_from("abcdefg"), st.none() | st.sampled_from([*"abcdefgh", "root"])), max_size=30))
def test_item_order_holds_each_item_once(places: list[tuple[str, str | None]]) -> None:
    order = ItemOrder(limit=5)
    for item_id, previous in places:
        order.place(item_id, previous)
        ids = list(order)
        assert len(ids) == len(set(ids)) == len(order) <= 5
        assert all(each in order for each in ids)
        assert [order.previous(each) for each in ids] == [None, *ids[:-1]][: len(ids)]
    for item_id in "abcdefgh":
        order.remove(item_id)
    assert list(order) == []


@given(st.permutations(range(8)), st.integers(1, 4))
def test_item_order_is_the_servers_in_any_order_of_arrival(arrival: list[int], branch: int) -> None:
    order = ItemOrder()
    for n in arrival:
        order.place(f"i{n}", f"i{n - 1}" if n else None)
    assert list(order) == [f"i{n}" for n in range(8)]
    order.place("new", f"i{branch}")
    assert list(order).index("new") == branch + 1


def test_own_messages_are_told_once(scene: Scene) -> None:
    item_id, happened = scene.it.say("hello", respond=False)
    assert only(happened, up.ItemAdded).local
    (create,) = scene.sent()
    assert create.item.id == item_id
    wire = json.loads(codec.encode(create))["item"]
    assert scene.get("conversation.item.added", item=wire) == []
    done = only(scene.get("conversation.item.done", item=wire | {"status": "completed"}), up.ItemDone)
    assert (done.item_id, done.role, done.text) == (item_id, "user", "hello")


def test_added_items_are_told_when_the_server_confirms_them(scene: Scene) -> None:
    item_id = scene.it.add_item(items.system_text("be brief"))
    wire = json.loads(codec.encode(scene.sent()[0]))["item"]
    added = only(scene.get("conversation.item.added", item=wire), up.ItemAdded)
    assert (added.item_id, added.role, added.text) == (item_id, "system", "be brief")


def test_said_as_the_assistant(scene: Scene) -> None:
    _, happened = scene.it.say("earlier", respond=False, role="assistant")
    assert only(happened, up.ItemAdded).role == "assistant"
    assert scene.sent()[0].item.content == [items.ContentPart(type="output_text", text="earlier")]


def test_items_without_id_are_nothing(scene: Scene) -> None:
    assert scene.get("conversation.item.added", item={"type": "message"}) == []
    assert scene.get("conversation.item.done", item={"type": "message"}) == []


def test_items_that_only_their_answer_tells_have_a_place(scene: Scene) -> None:
    scene.it.say("one")
    scene.created()
    item = {"id": "item_a", "type": "message", "role": "assistant", "content": []}
    (added,) = scene.get("response.output_item.added", response_id="resp_1", output_index=0, item=item)
    assert isinstance(added, up.ItemAdded)
    question = next(iter(scene.it.items))
    assert (added.item_id, added.role, added.previous_item_id) == ("item_a", "assistant", question)
    assert scene.get("response.output_item.added", response_id="resp_1", output_index=0, item=item) == []
    scene.done()
    scene.it.say("two")
    assert list(scene.it.items)[:2] == [question, "item_a"]


def test_all_items_of_an_answer_stand_together() -> None:
    play("""
        server  created
        user    says two respond=false
        client  item.create id=item_1
        server  starts item_a
        server  starts item_b output=1
        order   item_1 item_a item_b
        server  done
        server  created resp_2
        user    says three respond=false
        client  item.create id=item_3
        server  starts item_c response=resp_2
        server  starts item_d response=resp_2 output=1
        order   item_1 item_a item_b item_c item_d item_3
    """)


def test_the_servers_order_counts_where_it_says_one() -> None:
    play("""
        user    asks
        client  response.create
        user    says one respond=false
        client  item.create id=item_2
        server  created
        server  starts item_a
        order   item_2 item_a
        server  added item_2 after=item_a
        order   item_a item_2
    """)
