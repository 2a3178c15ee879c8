"""What the conversation knows of its contents, and what of it is told again to a new session."""

from __future__ import annotations

import itertools
import json
from typing import Any

import openai.types.realtime as official
import pytest
from conversation_script import HEARD, MS, Scene, play
from protocol_helpers import strictly

from realtime_client import updates as up
from realtime_client.history import Call, Entry, History, Image, ProviderState, Result, Text, replay
from realtime_client.protocol import codec, items
from realtime_client.protocol import events as ev
from realtime_client.protocol.conversation import Conversation
from realtime_client.protocol.replay import items_of
from realtime_client.protocol.server.conversation import ServerConversation

# --- who said what ----------------------------------------------------------------------------------------------------


def test_typed_and_written() -> None:
    play("""
        user    says "what is it"
        client  item.create
        client  response.create
        server  created
        server  text "It is "
        holds   user "what is it"
        server  text a
        server  text_done "It is a test."
        server  done
        holds   user text="what is it" id=item_1
        holds   assistant text="It is a test." id=item_a response_id=resp_1 status=completed heard=null
    """)


def test_spoken_and_transcribed() -> None:
    play(
        """
        server  committed item_u
        server  added item_u 'content=[{"type":"input_audio"}]'
        holds   user id=item_u spoken text=null
        server  created
        server  starts item_a
        server  spoken "Hi there"
        server  audio 100
        server  done
        server  understood "hello" item_u
        server  complete item_u 'content=[{"type":"input_audio"}]'
        holds   user text=hello spoken
        holds   assistant text="Hi there" spoken
    """
    )


def test_a_transcript_is_enough() -> None:
    play("""
        server  understood hello
        holds   user text=hello id=item_u spoken
        server  understood " there" part=1
        holds   user text=hello text=" there"
        server  understood "hello," item_u
        holds   user text=hello, text=" there"
    """)


def test_what_is_never_named_stands_where_it_was_said() -> None:
    """Servers without ids of items: the order of arrival."""
    scene = Scene()
    for n in (1, 2):
        scene.it.say(f"question {n}")
        scene.get("response.created", response={"id": f"r{n}"})
        scene.get("response.output_text.delta", delta=f"answer {n}")
        scene.get("response.done", response={"id": f"r{n}", "status": "completed"})
    assert [entry.said for entry in scene.it.entries()] == ["question 1", "answer 1", "question 2", "answer 2"]


def test_an_answer_that_only_its_texts_name_stands_where_it_began() -> None:
    play("""
        user    says one
        client  item.create id=item_1
        client  response.create
        server  created
        user    says two
        client  response.cancel
        client  item.create id=item_5
        server  text_done late
        server  text_done later item=item_b output=1
        server  deleted item_c
        server  text_done gone item=item_c output=2
        server  done status=cancelled
        client  response.create
        order   item_1 item_a item_b item_5
        holds   user one
        holds   assistant text=late heard.text=""
        holds   assistant text=later
        holds   user two
    """)


def test_the_order_is_the_conversations() -> None:
    play("""
        server  added item_2 content=two after=item_1
        server  added item_1 content=one
        server  deleted item_9
        holds   user one
        holds   user two
        server  deleted item_1
        holds   user two
        server  complete item_1 content=one
        holds   user two
    """)


@pytest.mark.parametrize(
    ("wire", "text"),
    [
        ("Hello.", "Hello."),
        ({"type": "text", "text": "Hello."}, "Hello."),
        (["Hello", "."], "Hello."),
        ([{"type": "text", "text": "Hello"}, "."], "Hello."),
        ("", ""),
    ],
)
def test_content_that_is_no_list_of_parts(wire: Any, text: str) -> None:
    scene = Scene()
    item = {"id": "item_a", "type": "message", "role": "assistant", "content": wire}
    updates = scene.created()
    updates += scene.get("response.output_item.done", response_id="resp_1", output_index=0, item=item)
    updates += scene.done(output=[item])
    assert "".join(u.text for u in updates if isinstance(u, up.TextDelta)) == text
    assert [entry.said for entry in scene.it.entries()] == ([text] if text else [])
    (added, *_) = scene.added("item_u", content=wire)
    assert isinstance(added, up.ItemAdded)
    assert added.text == text


def test_content_that_came_as_a_sentence_goes_out_as_parts() -> None:
    item = items.Item(type="message", role="user", content="Hello.")  # type: ignore[arg-type]
    wire = json.loads(codec.encode(ev.ConversationItemCreate(item=item)))
    assert wire["item"]["content"] == [{"type": "input_text", "text": "Hello."}]


def test_calls_and_results() -> None:
    play("""
        server  created
        server  call c1 'arguments="[1]"'
        server  done
        user    answers c1 2
        told    item_added item_type=function_call_output local
        told    answer_follows response_id=resp_1
        told    tool_result call_id=c1 name=add output=2 item_id=item_1 response_id=resp_1
        client  item.create
        client  response.create
        holds   assistant kind=call call_id=c1 name=add arguments=[1] response_id=resp_1
        holds   tool kind=result call_id=c1 name=add output=2 id=item_1
    """)


@pytest.mark.parametrize("status", ["incomplete", "in_progress"])
def test_a_call_that_is_not_whole_is_not_kept(status: str) -> None:
    play(f"""
        server  created
        server  call c1 status={status}
        server  complete item_c1 type=function_call status={status} call_id=c1 name=add arguments=x
        server  done
        holds   nothing
    """)


def test_remote_calls_are_kept_with_their_results() -> None:
    play("""
        server  created
        server  remote_call m1
        server  complete m1 type=mcp_call server_label=s name=t 'arguments="{}"'
        holds   nothing
        server  complete m1 type=mcp_call server_label=s name=t 'arguments="{}"' output=sunny
        holds   assistant kind=call kind=result call_id=m1 name=t output=sunny
    """)


def test_images_are_kept_by_reference() -> None:
    scene = Scene()
    image = "data:image/png;base64," + "A" * 1000
    scene.it.add_item(items.user_image(image, detail="low"))
    scene.it.add_item(items.user_image(image))
    scene.it.add_item(items.user_image("https://example.org/x.png"))
    kept = [part for entry in scene.it.entries() for part in entry.parts]
    assert all(isinstance(part, Image) for part in kept)
    first, second, third = (part.media for part in kept if isinstance(part, Image))
    assert first == second
    assert first.startswith("sha256:")
    assert third == "https://example.org/x.png"
    history = scene.it.history
    assert history.media(first) == image
    assert history.media(third) == third
    assert history.media_bytes == len(image)
    assert history.size_bytes < 2000


def test_answers_apart_are_no_part_of_it() -> None:
    play("""
        user    asks conversation=none
        client  response.create
        server  created metadata.realtime_client_request=event_1
        server  text aside
        server  call c1
        server  done
        holds   nothing
    """)


def test_the_instructions() -> None:
    scene = play("server settings instructions='Be brief.'")
    assert scene.it.history.instructions == "Be brief."


# --- where it was cut -------------------------------------------------------------------------------------------------


def test_what_was_heard_of_a_cut_answer() -> None:
    play("""
        plays   item_a 500
        server  created
        server  spoken "one two three four"
        server  audio 1000
        user    interrupts speech
        client  response.cancel
        client  item.truncate
        server  spoken_done "one two three four five six"
        server  done status=cancelled
        holds   assistant text="one two three four five six" heard.text="one two" heard.ms=500 of_ms=1000 incomplete
    """)


def test_the_tail_of_a_finished_answer() -> None:
    play("""
        plays   item_a 250
        server  created
        server  spoken "one two three four"
        server  audio 1000
        server  done
        holds   assistant text="one two three four" heard=null
        user    interrupts cancel
        client  item.truncate
        holds   assistant text="one two three four" heard.text=one heard.ms=250 completed
    """)


def test_a_finished_answer_that_was_heard_is_whole() -> None:
    play("""
        plays   item_a 1000
        server  created
        server  spoken "one two"
        server  audio 1000
        server  done
        user    interrupts cancel
        holds   assistant text="one two" heard=null
    """)


@pytest.mark.parametrize(
    ("before", "heard"),
    [
        ("server spoken Hello", ""),  # no sound of it had come
        ("", ""),
        ("server text Hello", "Hello"),  # what is written was seen
        ("server spoken Hello\nserver audio 100", "Hello"),  # nothing plays: all that came counts
    ],
)
def test_cut_before_the_first_sound_was_heard(before: str, heard: str) -> None:
    kind = "text" if "text" in before else "spoken"
    scene = play(f"""
        server  created
        {before}
        user    interrupts cancel
        client  response.cancel
        server  {kind}_done "Hello there"
        server  done status=cancelled
    """)
    (entry,) = scene.it.entries()
    (part,) = entry.parts
    assert isinstance(part, Text)
    assert part.text == "Hello there"
    assert part.heard is not None
    assert part.heard.text == heard


def test_where_nothing_plays_words_count_as_heard() -> None:
    play(
        """
        server  created
        server  spoken Hello
        user    interrupts cancel
        client  response.cancel
        server  spoken_done "Hello there"
        server  done status=cancelled
        holds   assistant text="Hello there" heard.text=Hello
    """,
        plays=False,
    )


def test_words_that_come_after_their_sound_was_cut() -> None:
    play("""
        plays   item_a 500
        server  created
        server  audio 1000
        user    interrupts speech
        client  response.cancel
        client  item.truncate
        server  spoken_done "one two three four"
        server  done status=cancelled
        holds   assistant heard.text="one two"
    """)


def test_parts_and_items_are_cut_apart() -> None:
    play("""
        plays   item_a 1000
        plays   item_b 500
        server  created
        server  starts item_a
        server  starts item_b output=1
        server  spoken "all of it"
        server  audio 1000
        server  spoken "half of it" item=item_b output=1
        server  audio 1000 item=item_b output=1
        server  spoken "none of it" item=item_c output=2
        server  done
        user    interrupts speech
        client  item.truncate item_b
        holds   assistant text="all of it" heard=null
        holds   assistant text="half of it" heard.text=half
        holds   assistant text="none of it" heard=null
    """)


def test_what_the_server_deletes_because_nothing_was_heard_stays_away() -> None:
    play("""
        plays   nothing
        server  created
        server  spoken Hello
        server  audio 100
        user    interrupts speech
        client  response.cancel
        client  item.delete item_a
        server  deleted item_a
        server  spoken_done Hello.
        server  done status=cancelled
        holds   nothing
    """)


@pytest.mark.parametrize("lost", ["user hangs_up", "server created resp_2"], ids=["connection", "next answer"])
def test_what_has_come_of_an_answer_whose_end_is_lost(lost: str) -> None:
    play(f"""
        server  created
        server  spoken "as far as"
        {lost}
        holds   assistant text="as far as" status=incomplete
    """)


def test_alternatives_stay_with_their_answer() -> None:
    scene = play("""
        server  created
        server  text one
        server  done
    """)
    (entry,) = scene.it.entries()
    scene.it.history.put(entry.answered_by((Text(text="two"),)))
    play(
        """
        server  complete item_a role=assistant content=one
        holds   assistant two alternatives.0.0.text=one
    """,
        scene,
    )


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_an_hour_of_talk_is_bounded() -> None:
    """Two turns a second, each with 2 kB of words and a tool's result of 4 kB: 44 MB in all."""
    scene = Scene()
    words, output = "x" * 2000, "y" * 4000
    for n in range(7200):
        scene.it.say(f"{n} {words}", respond=False)
        scene.created(f"r{n}")
        scene.call(f"c{n}", response=f"r{n}")
        scene.it.tool_result(f"c{n}", output, respond=False)
        scene.done(f"r{n}")
        scene.sent()
    history = scene.it.history
    assert len(history) <= 1024
    assert history.size_bytes <= 4 * 1024 * 1024
    assert history.dropped == 3 * 7200 - len(history)
    assert scene.it.entries()[-1].parts == (Result(call_id="c7199", output=output, name="add"),)


# --- told again -------------------------------------------------------------------------------------------------------

ids = itertools.count()


def server() -> ServerConversation:
    conversation = ServerConversation(model="demo", new_id=lambda kind: f"{kind}_s{next(ids)}")
    conversation.start()
    return conversation


def told_to_a_server(sent: list[items.Item]) -> list[items.Item]:
    """Create items in a new session of the local server; returns them as it has them. The official types judge, too."""
    end = server()
    for item in sent:
        frame = codec.encode(ev.ConversationItemCreate(item=item))
        strictly(official.RealtimeClientEvent, json.loads(frame))
        answers = [each for each in end.receive(codec.decode_client(frame)) if isinstance(each, ev.ServerEvent)]
        assert answers
        assert not [each for each in answers if isinstance(each, ev.Error)], answers
    return [entry.item for entry in end.items]


def talk() -> Scene:
    """A conversation with everything in it."""
    scene = Scene()
    scene.heard = {("item_b", 0): 500}
    scene.settings(instructions="Be brief.")
    scene.it.add_item(items.system_text("It is raining."))
    scene.it.say("hello", respond=False)
    scene.it.add_item(items.user_image("data:image/png;base64,iVBORw0KGgo="))
    scene.it.add_item(items.user_audio(bytes(MS)))
    scene.created()
    scene.text("Hi.")
    scene.done()
    scene.understood("what is one and one", "item_u")
    scene.created("resp_2")
    scene.call("c1", response="resp_2")
    scene.done("resp_2")
    scene.it.tool_result("c1", "2")
    remote = {"id": "m1", "type": "mcp_call", "server_label": "s", "name": "t", "arguments": "{}", "output": "sunny"}
    scene.get("conversation.item.done", item=remote)
    scene.created("resp_3")
    scene.spoken("one two three four", response="resp_3", item="item_b")
    scene.audio(1000, response="resp_3", item="item_b")
    scene.it.interrupt("speech")
    scene.done("resp_3", "cancelled")
    scene.call("c2")  # and no result
    return scene


def test_a_whole_conversation_is_told_again() -> None:
    scene = talk()
    history = scene.it.history
    chosen = replay(scene.it.entries(), instructions=history.instructions, most_tokens=8000)
    assert chosen.instructions == "Be brief."
    told = told_to_a_server([item for entry in chosen.entries for item in items_of(entry, history.media)])
    assert [(item.type, item.role, item.said) for item in told] == [
        ("message", "system", "It is raining."),
        ("message", "user", "hello"),
        ("message", "user", ""),
        ("message", "user", ""),
        ("message", "assistant", "Hi."),
        ("message", "user", "what is one and one"),
        ("function_call", None, "{}"),
        ("function_call_output", None, "2"),
        ("function_call", None, "{}"),
        ("function_call_output", None, "sunny"),
        ("message", "assistant", "one two"),
    ]
    kinds = [part.type for item in told for part in item.content or ()]
    image, sound = kinds[2:4]
    assert (image, sound) == ("input_image", "input_audio")
    assert set(kinds[:2] + kinds[4:]) == {"input_text", "output_text"}


def test_a_conversation_goes_on_in_its_history() -> None:
    """Told again in a new session: nothing is known twice, and nothing that was known is forgotten."""
    scene = talk()
    before = scene.it.entries()
    assert 0 < len(replay(before, most_tokens=100).entries) < len(before)
    scene.it = Conversation(history=scene.it.history)
    scene.it.begin_with((), most_tokens=100)
    told = []
    for command in scene.sent():
        assert isinstance(command, ev.ConversationItemCreate)
        told += scene.it.receive(ev.ConversationItemAdded(item=command.item))
        told += scene.it.receive(ev.ConversationItemDone(item=command.item))
    assert (told, scene.it.entries()) == ([], before)


def test_what_this_wire_does_not_take() -> None:
    history = History()
    gone = history.keep("data:image/png;base64,AAAA")
    entries = [
        Entry(id="a", role="assistant", parts=(Image(media=gone),)),
        Entry(id="b", role="user", parts=(Image(media="sha256:gone"), Text(text="Look."))),
        Entry(id="c" * 40, role="user", parts=(Text(text="long", provider_state=ProviderState("other", {})),)),
        Entry(id="d", role="user", parts=(Text(spoken=True),)),
        Entry(
            id="e",
            role="assistant",
            parts=(Text(text="Both:"), Call(call_id="x", name="f", arguments="{}"), Text(text="done")),
        ),
    ]
    told = [item for entry in entries for item in items_of(entry, history.media)]
    assert [(item.type, item.role, item.said) for item in told] == [
        ("message", "assistant", "[an image that is no longer kept]"),
        ("message", "user", "[an image that is no longer kept]Look."),
        ("message", "user", "long"),
        ("message", "assistant", "Both:"),
        ("function_call", None, "{}"),
        ("message", "assistant", "done"),
    ]


def test_the_history_is_of_no_cost_at_a_delta(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts are taken when they are final: no entry is written while an answer runs."""
    scene = Scene()
    scene.created()
    monkeypatch.setattr(History, "put", None)
    for _ in range(100):
        scene.text("word ")
        scene.spoken("word ", part=1)
        scene.audio(1)
        scene.get(f"{HEARD}.delta", item_id="item_u", delta="word")
