"""YAML files become cases; every mistake is found, with its place."""

from __future__ import annotations

import json
import os
import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime_client.batch.loading.load import Loaded, cases, load, with_files
from realtime_client.batch.loading.problem import Problems
from realtime_client.batch.loading.yaml_tree import MAX_FILE_BYTES, parse, read_plain
from realtime_client.batch.scenario import Case, Expect, place
from realtime_client.errors import UsageError
from realtime_client.settings import SPECS

GREETING = "name: a\nturns: [{text: hi}]\n"


def write(name: str, text: str) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def read(text: str, name: str = "s.yaml") -> Loaded:
    return load([write(name, text)])


def one(text: str) -> Case:
    (case,) = cases(read(text))
    return case


def mistakes(text: str) -> list[str]:
    return [str(problem) for problem in read(text).problems]


# --- what is read ---------------------------------------------------------------------------------------------------


def test_one_conversation_a_file():
    case = one(
        """\
        name: weather
        session: {modality: text}
        turns:
          - text: hello
            expect: {contains: [a, b], cost: 0.5}
          - {silence: 300 ms}
        """
    )
    assert case.id == "weather"
    assert (case.row, case.repeat, case.values) == (None, 0, {})
    assert case.file == "s.yaml"
    assert case.folder == str(Path.cwd())
    assert case.scenario.turns[0].expect is not None
    assert case.scenario.turns[0].expect.contains == ["a", "b"]
    assert case.scenario.turns[1].silence == "300 ms"
    assert place(case, "turns.0.expect.cost") == "s.yaml:5:32"
    assert place(case, "turns.0.expect.contains.1") == "s.yaml:5:28"
    assert place(case, "turns.0.expect.nothing.here") == "s.yaml:5:5"


def test_documents_and_lists_with_defaults():
    loaded = read(
        """\
        name: first
        turns: [{text: a}]
        ---
        session: {voice: ash, modality: text}
        variables: {word: default}
        tags: [shared]
        tools: [{name: t, returns: 1}, {name: u}]
        expect: {no_event: error, latency: {answer: 3 s}}
        scenarios:
          - name: second
            turns: [{text: "${word}"}]
          - name: third
            tags: [own]
            session: {voice: null, speed: 1.2}
            variables: {word: mine}
            tools: [{name: t, returns: 2}]
            expect: {latency: {first_text: 1 s}, no_event: null}
            turns: [{text: "${word}"}]
        """
    )
    first, second, third = cases(loaded)
    assert (first.id, second.id, third.id) == ("first", "second", "third")
    assert second.scenario.session == {"voice": "ash", "modality": "text"}
    assert second.scenario.turns[0].text == "default"
    assert third.scenario.session == {"modality": "text", "speed": 1.2}
    assert third.scenario.turns[0].text == "mine"
    assert third.scenario.tags == ["shared", "own"]
    assert [(tool.name, tool.returns) for tool in third.scenario.tools] == [("u", "done"), ("t", 2)]
    assert third.scenario.expect is not None
    assert third.scenario.expect.latency == {"answer": "3 s", "first_text": "1 s"}
    assert third.scenario.expect.no_event is None


def test_rows_and_repeats_have_ids_of_their_own():
    loaded = read("name: sum\nparameters: [{a: 1}, {a: 2}]\nturns: [{text: 'is ${a}'}]\n")
    found = cases(loaded, repeat=2)
    assert [case.id for case in found] == ["sum[1]", "sum[2]", "sum[1]#1", "sum[2]#1"]
    assert [(case.row, case.repeat) for case in found] == [(1, 0), (2, 0), (1, 1), (2, 1)]
    assert [case.scenario.turns[0].text for case in found] == ["is 1", "is 2", "is 1", "is 2"]
    assert found[1].values == {"a": 2}


def test_directories_in_order_without_what_is_included():
    for name in ("b.yaml", "a.yml", "sub/c.yaml", "_part.yaml", ".hidden.yaml", "_dir/d.yaml", "notes.txt"):
        write(f"suite/{name}", GREETING.replace("name: a", f"name: {Path(name).stem.strip('._')}"))
    loaded = load(["suite", "suite/b.yaml"])
    assert [template.name for template in loaded.templates] == ["a", "b", "c"]
    assert loaded.templates[2].file == "suite/sub/c.yaml"


def test_yaml_1_2_words():
    plain = {"no": "no", "on": "on", "12:30": "12:30", "true": True, "null": None, "0x10": 16, "1e3": 1000.0, "-5": -5}
    assert {text: read_plain(text) for text in plain} == plain
    case = one("name: a\nturns: [{text: no, expect: {language: no, contains: ['12', 2026-01-01]}}]\n")
    assert case.scenario.turns[0].text == "no"
    assert case.scenario.turns[0].expect is not None
    assert case.scenario.turns[0].expect.contains == ["12", "2026-01-01"]


def test_anchors_and_merge_keys():
    case = one(
        """\
        name: a
        variables: {base: &base {modality: text, voice: ash}}
        session: {<<: *base, voice: coral}
        turns: [&turn {text: hi}, *turn]
        """
    )
    assert case.scenario.session == {"modality": "text", "voice": "coral"}
    assert [turn.text for turn in case.scenario.turns] == ["hi", "hi"]


# --- variables ------------------------------------------------------------------------------------------------------


def test_variables_in_any_text():
    case = one(
        """\
        name: a
        variables: {city: Paris, ask: "in ${city}", limit: 0.5, list: [1, {x: "${city}"}]}
        session: {instructions: "You are in ${ city }."}
        tools: [{name: t, returns: {where: "${city}", all: "${list}"}}]
        turns:
          - text: "what is it like ${ask}? $${ask} ${limit} ${list}"
            expect: {cost: "${limit}", contains: "${limit}", tool: {name: t, arguments: {at: "${list}"}}}
        """
    )
    turn = case.scenario.turns[0]
    assert turn.text == 'what is it like in Paris? ${ask} 0.5 [1, {"x": "Paris"}]'
    assert turn.expect is not None
    assert turn.expect.cost == 0.5
    assert turn.expect.contains == "0.5"
    assert case.scenario.session == {"instructions": "You are in Paris."}
    assert case.scenario.tools[0].returns == {"where": "Paris", "all": [1, {"x": "Paris"}]}


def test_values_of_csv_are_read_as_they_are_needed():
    write("rows.csv", '\ufeffcity, max,heard,no\n"Paris, Texas",0.5,1.5 s,true\n\nOslo,1,300 ms,false\n')
    loaded = read(
        "name: a\nparameters: rows.csv\n"
        "turns: [{text: '${city}', expect: {cost: '${max}', heard: {min: '${heard}'}, interrupted: '${no}'}}]\n"
    )
    first, second = cases(loaded)
    assert first.values == {"city": "Paris, Texas", "max": "0.5", "heard": "1.5 s", "no": "true"}
    assert first.scenario.turns[0].expect is not None
    assert first.scenario.turns[0].expect.cost == 0.5
    assert first.scenario.turns[0].expect.interrupted is True
    assert second.scenario.turns[0].text == "Oslo"


def test_rows_are_data_and_not_filled_again():
    write("rows.jsonl", '{"a": "${b}"}\n\n{"a": ["x"]}\n')
    first, second = cases(read("name: a\nparameters: rows.jsonl\nturns: [{text: 'say ${a}'}]\n"))
    assert first.scenario.turns[0].text == "say ${b}"
    assert second.scenario.turns[0].text == 'say ["x"]'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("'go to ${citty}'", "s.yaml:4:16: there is no variable 'citty'; did you mean city?"),
        ("go to ${citty}", "s.yaml:4:15: there is no variable 'citty'; did you mean city?"),
        ("${citty}", "s.yaml:4:9: there is no variable 'citty'; did you mean city?"),
        ("a ${1b}", "s.yaml:4:11: `${` is followed by no name"),
        ("a ${city", "s.yaml:4:11: `${` is followed by no name"),
    ],
)
def test_a_wrong_variable(text, says):
    (found,) = mistakes(f"name: a\nvariables: {{city: Paris}}\nturns:\n- text: {text}\n")
    assert found.startswith(says)


def test_variables_that_are_made_of_themselves():
    found = mistakes("name: a\nvariables: {x: '${y}', y: 'a ${z}', z: '${x}'}\nturns: [{text: '${x}'}]\n")
    assert len(found) == 1
    assert "the variable 'x' is made of itself: x -> y -> z -> x" in found[0]


def test_variables_that_grow_without_end():
    lines = ["  v0: aaaaaaaaaa", *(f'  v{n}: "{f"${{v{n - 1}}}" * 10}"' for n in range(1, 9))]
    found = mistakes("name: a\nvariables:\n" + "\n".join(lines) + "\nturns: [{text: '${v8}'}]\n")
    assert "characters with its variables filled in" in found[0]


# --- include --------------------------------------------------------------------------------------------------------


def test_include_of_defaults_and_turns():
    write("shared/base.yaml", "include: more.yaml\nsession: {voice: ash}\nvariables: {who: Ada}\ntags: [x]\n")
    write("shared/more.yaml", "session: {voice: coral, modality: text}\nexpect: {no_event: error}\n")
    write("shared/turns.yaml", "- text: I am ${who}.\n- include: last.yaml\n")
    write("shared/last.yaml", "turns: [{text: bye, expect: {contains: x}}]\n")
    case = one(
        "name: a\ninclude: [shared/base.yaml]\nvariables: {who: Grace}\n"
        "turns:\n  - text: hi\n  - include: shared/turns.yaml\n"
    )
    assert case.scenario.session == {"voice": "ash", "modality": "text"}
    assert [turn.text for turn in case.scenario.turns] == ["hi", "I am Grace.", "bye"]
    assert case.scenario.tags == ["x"]
    assert place(case, "turns.2.expect.contains") == "shared/last.yaml:1:30"
    assert place(case, "expect.no_event") == "shared/more.yaml:2:10"
    assert place(case, "turns.0.text") == "s.yaml:5:5"


def test_audio_of_included_turns_is_beside_them():
    import soundfile

    Path("shared").mkdir()
    soundfile.write("shared/hi.wav", [0.1] * 800, 8_000)
    soundfile.write("own.wav", [0.1] * 800, 8_000)
    write("shared/turns.yaml", "- {audio: hi.wav}\n")
    case = one("name: a\nturns: [{audio: own.wav}, {include: shared/turns.yaml}]\n")
    assert [turn.audio for turn in case.scenario.turns] == ["own.wav", "shared/hi.wav"]
    packed = with_files(case)
    assert packed.files["own.wav"] == Path("own.wav").read_bytes()
    assert packed.files["shared/hi.wav"] == Path("shared/hi.wav").read_bytes()
    Path("own.wav").unlink()
    with pytest.raises(UsageError, match=r"own\.wav"):
        with_files(case)


def test_rows_and_audio_are_found_from_where_they_are_named():
    import soundfile

    Path("shared").mkdir()
    soundfile.write("shared/hi.wav", [0.1] * 800, 8_000)
    write("shared/base.yaml", "parameters: rows.csv\nturns: [{audio: '${file}'}]\n")
    write("shared/rows.csv", "file\nhi.wav\nno.wav\n")
    write("s.yaml", "scenarios: [{name: a}]\ninclude: shared/base.yaml\n")
    loaded = load(["s.yaml"])
    (problem,) = loaded.problems
    assert (problem.file, problem.line) == ("shared/base.yaml", 2)
    assert problem.message.startswith("cannot read the audio file shared/no.wav: No such file")
    assert problem.message.endswith("(row 2)")
    write("shared/rows.csv", "file\nhi.wav\n")
    (case,) = cases(load(["s.yaml"]))
    assert case.scenario.turns[0].audio == "shared/hi.wav"


def test_include_cycles_name_the_chain():
    write("a.yaml", "name: a\ninclude: b.yaml\nturns: [{text: hi}, {include: t.yaml}]\n")
    write("b.yaml", "include: c.yaml\n")
    write("c.yaml", "include: ./b.yaml\n")
    write("t.yaml", "- include: t.yaml\n")
    assert sorted(map(str, load(["a.yaml"]).problems)) == [
        "c.yaml:1:10: a file includes itself: b.yaml -> c.yaml -> b.yaml",
        "t.yaml:1:12: a file includes itself: t.yaml -> t.yaml",
    ]


def test_includes_that_grow_without_end():
    for n in range(12):
        write(f"i{n}.yaml", f"[{', '.join([f'{{include: i{n + 1}.yaml}}'] * 4)}]")
    write("i12.yaml", "[{text: hi}]")
    found = mistakes("name: a\nturns: [{include: i0.yaml}]\n")
    assert "more than 1000 files are included" in found[0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: a\ninclude: none.yaml\nturns: [{text: x}]", "s.yaml:2:10: none.yaml cannot be read"),
        ('name: a\ninclude: "x\\0y"\nturns: [{text: x}]', "s.yaml:2:10: this is not the name of a file"),
        ("name: a\ninclude: '${x}'\nturns: [{text: x}]", "s.yaml:2:10: the name of an included file"),
        ("name: a\ninclude: 5\nturns: [{text: x}]", "s.yaml:2:10: `include` takes the name of a file"),
        ("name: a\nturns: [{include: whole.yaml, text: x}]", "s.yaml:2:31: `text` cannot stand beside `include`"),
        ("name: a\nturns: [{include: map.yaml}]", "s.yaml:2:19: map.yaml holds no turns"),
        ("name: a\ninclude: whole.yaml\nturns: [{text: x}]", "whole.yaml:1:1: an included file has no `name`"),
        ("name: a\ninclude: list.yaml\nturns: [{text: x}]", "s.yaml:2:10: list.yaml holds no keys and values"),
        ("name: a\ninclude: two.yaml\nturns: [{text: x}]", "two.yaml:3:1: an included file holds one document"),
    ],
)
def test_wrong_includes(text, says):
    write("whole.yaml", "name: b\nturns: [{text: y}]\n")
    write("map.yaml", "session: {}\n")
    write("list.yaml", "- text: y\n")
    write("two.yaml", "tags: [a]\n---\ntags: [b]\n")
    assert mistakes(text)[0].startswith(says)


# --- mistakes -------------------------------------------------------------------------------------------------------


def test_every_mistake_with_line_and_column():
    found = mistakes(
        """\
        name: bad
        sesion: {voice: x}
        timeout: "5"
        turns:
          - text: hello
            speak: hi
          - text: there
            answer: yes
            expect: {contains: 12, matches: "(", latency: {first_txt: 3 s}, status: done}
          - {silence: 300 ms, expect: {contains: x}}
          - {audio: nowhere.wav, after: {}}
          - {dtmf: 12x}
        """
    )
    assert found == [
        "s.yaml:2:1: there is no key 'sesion'; did you mean session?",
        "s.yaml:3:10: `timeout` must be a length of time, such as 300 ms, 1.5 s or 2 min, not '5'",
        "s.yaml:5:5: a turn has one of text, speak, audio, dtmf, silence, pause; this one has text and speak",
        "s.yaml:8:13: `answer` must be true or false, not 'yes'; write true or false",
        's.yaml:9:24: `contains` must be text or a list of texts, not 12; put it in quotes: "12"',
        "s.yaml:9:37: this is not a regular expression: missing ), unterminated subpattern at position 0",
        "s.yaml:9:63: there is no latency 'first_txt'; did you mean first_text?",
        "s.yaml:9:77: `status` must be one of cancelled, completed, failed, incomplete, not 'done'",
        "s.yaml:10:42: a turn of kind `silence` waits for no answer, so nothing can be said of one",
        "s.yaml:11:13: cannot read the audio file nowhere.wav: No such file or directory",
        "s.yaml:11:33: `after` has one of event, heard, time; this one has none",
        "s.yaml:12:12: `dtmf` must be keys of a telephone (0-9, A-D, * and #), not '12x'",
    ]


TURN = "turns: [{text: hi}]"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"name: [a]\n{TURN}", "1:7: `name` must be text, not a list"),
        (f"session: {{}}\n{TURN}", "1:1: the scenario needs `name`"),
        (f"name: a/b\n{TURN}", "1:7: 'a/b' cannot be a name"),
        (f'name: "a\\u001b[2J"\n{TURN}', "1:7: 'a\\x1b[2J' cannot be a name"),
        (f"name: a ${{x}}\n{TURN}", "1:7: a name is the same for all rows"),
        (f"name: {'x' * 101}\n{TURN}", "1:7: "),
        ("name: a\nturns: []", "2:8: the scenario has no turns"),
        ("name: a\nturns: 5", "2:8: `turns` must be a list, not 5"),
        ("name: a\nturns: [{}]", "2:9: a turn has one of"),
        ("name: a\nturns: [{text: ' '}]", "2:16: `text` is empty"),
        ("name: a\nturns: [{text: x, voice: de}]", "2:26: `voice` belongs to `speak`"),
        ("name: a\nturns: [{text: x, after: {time: 1 s}}]", "2:26: the first turn has nothing to come after"),
        ("name: a\nturns: [{pause: 0 s}]", "2:17: `pause` must be longer than nothing"),
        ("name: a\nturns: [{pause: 2000 min}]", "2:17: `pause` is longer than a day"),
        (f"name: a\nsession: {{url: ws://h}}\n{TURN}", "2:16: `url` says where to connect"),
        (f"name: a\nsession: {{api_key: sk-secret}}\n{TURN}", "2:20: `api_key` says where to connect"),
        (f"name: a\nsession: {{mic: x}}\n{TURN}", "2:16: `mic` is about sound devices"),
        (f"name: a\nsession: {{record: false}}\n{TURN}", "2:19: `record` belongs to the command"),
        (f"name: a\nsession: {{read_timeout_s: 1}}\n{TURN}", "2:27: `read_timeout_s` belongs to the command"),
        (f"name: a\nsession: {{voise: x}}\n{TURN}", "2:18: there is no setting 'voise'; did you mean voice?"),
        (f"name: a\nsession: {{modality: video}}\n{TURN}", "2:21: `modality`: 'video' must be one of audio, text"),
        (f"name: a\ntools: [{{name: a b}}]\n{TURN}", "2:16: 'a b' cannot be the name of a tool"),
        (f"name: a\ntools: [{{name: b}}, {{name: b}}]\n{TURN}", "2:27: the tool 'b' is here twice"),
        (f"name: a\ntools: [{{name: b, returns: 1, error: x}}]\n{TURN}", "2:38: a tool has `returns` or `error`"),
        (f"name: a\ntools: [{{name: b, parameters: {{type: string}}}}]\n{TURN}", "2:31: `parameters` must be the JSON"),
        (f"name: a\nprices: {{input_text: -1}}\n{TURN}", "2:22: `input_text` cannot be less than nothing"),
        (f"name: a\nparameters: x.txt\n{TURN}", "2:13: 'x.txt' is neither a CSV nor a JSONL file"),
        (f"name: a\nparameters: x.csv\n{TURN}", "2:13: x.csv cannot be read"),
        (f"name: a\nparameters: []\n{TURN}", "2:13: there are no rows"),
        (f"name: a\nparameters: [1]\n{TURN}", "2:14: a row must hold columns and values"),
        (f"name: a\nvariables: {{1x: 1}}\n{TURN}", "2:13: '1x' cannot be the name of a variable"),
        (f"name: a\nname: b\n{TURN}", "2:1: 'name' is here twice; the first is in line 1"),
        (f"name: a\nscenarios: []\n{TURN}", "1:1: a file with `scenarios` has no name of its own"),
        ("scenarios: {}", "1:1: `scenarios` must be a list of scenarios"),
        ("scenarios: [hello]", "1:13: a scenario must hold keys and values"),
        (f"name: a\nmodality: text\n{TURN}", "2:1: there is no key 'modality'; it belongs under `session`, indented"),
        (
            "name: a\nturns:\n- text: hi\n  expect:\n  contains: x",
            "5:3: there is no key 'contains' in turn 1; it belongs under `expect`, indented",
        ),
        ("- text: hi", "1:1: a scenario must hold keys and values"),
        ("", "1:1: there is no scenario in this file"),
        (f"name: a\ntags: !!python/object:os.system [x]\n{TURN}", "2:7: the tag tag:yaml.org,2002:python/object"),
        (f"name: a\nvariables: {{x: .nan}}\n{TURN}", "2:16: .nan is no number that can be used"),
        ("name: a\nturns:\n\t- text: hi", "3:1: this is not YAML"),
        ("name: a\nturns: [{text: 'hi}]", "2:21: this is not YAML"),
        ("name: a: b", "1:8: this is not YAML"),
        ("name: a\nturns: [{text: ${x}}]", "2:17: this is not YAML"),
        ("name: \x07", "1:7: here is a control character"),
        ("name: *x", "1:7: there is no anchor &x before this *x"),
        ("name: a\nvariables: &x {y: *x}", "2:19: *x stands within &x"),
        ("name: a\nvariables: " + "[" * 60 + "]" * 60, "2:61: this is nested more than 50 deep"),
        ("? [a]\n: b", "1:3: a key must be text"),
    ],
)
def test_mistakes(text, says):
    found = mistakes(text)
    assert found, "no mistake was found"
    assert any(line.startswith(f"s.yaml:{says}") for line in found), found


@pytest.mark.parametrize(
    ("expect", "says"),
    [
        ("cost: -1", "`cost` must be a number from 0 on, not -1"),
        ("cost: '1'", "`cost` must be a number from 0 on, not '1'; leave out the quotes"),
        ("language: english", "'english' is no language code"),
        ("judge: {}", "`judge` needs `criteria`"),
        ("judge: [{criteria: ' '}]", "`criteria` is empty"),
        ("tool: {name: get_wether}", "the scenario offers no tool 'get_wether'; did you mean get_weather?"),
        ("tool: [{name: get_weather, times: 0}]", "`times` counts from 1"),
        ("no_tool: sing", "the scenario offers no tool 'sing'"),
        ("event: {name: respons.done}", "there is no event 'respons.done'; did you mean response.done?"),
        ("event: {name: nothing}", "there is no event 'nothing'"),
        ("no_event: [failure, eror]", "there is no event 'eror'; did you mean error?"),
        ("audio: {}", "`audio` needs `min` or `max`"),
        ("heard: {min: 2 s, max: 300 ms}", "`min` (2 s) is more than `max` (300 ms)"),
        ("wer: {max: 1}", "nothing is spoken in a turn of kind `text`"),
        ("wer: {max: 1, of: answer}", "there is nothing to compare the transcript with"),
        ("latency: {speech_to_audio: 1 s}", "nothing is spoken in a turn of kind `text`"),
        ("latency: {answer: 0 s}", "`answer` must be longer than nothing"),
        ("contains: ['']", "`contains` has an empty text"),
        ('contains: "\\u00ad"', "`contains` has an empty text"),
        *((f"{key}:", f"`{key}` has no value, so nothing is checked") for key in Expect.__struct_fields__),
        *(
            (f"{key}: []", f"`{key}` is empty, so nothing is checked")
            for key in ("contains", "lacks", "matches", "tool", "event", "no_event", "judge")
        ),
        ("latency: {}", "`latency` is empty, so nothing is checked"),
        ("heard: {}", "`heard` needs `min` or `max`"),
        ("tool: {}", "`tool` needs `name`"),
        ("event: {}", "`event` needs `name`"),
        ("event: {name: ''}", "`name` is empty"),
        ("event: {name: response.done, within: }", "`within` has no value"),
        ("wer: {of: answer, reference: x}", "`wer` needs `max`"),
        ("wer: {max: 0.1, of: answer, reference: '?!'}", "`reference` has no words"),
        ("tool: [{name: get_weather, times: }]", "`times` has no value"),
        ("tool: {name: ''}", "the scenario offers no tool ''"),
        ("no_tool: false", "`no_tool: false` checks nothing"),
        ("no_tool: ''", "`no_tool` has an empty text"),
        ("language: ''", "`language` has an empty text"),
        ("equals: ' '", "`equals` has an empty text"),
        ("matches: 'x*'", "this fits every text, because it also fits an empty one"),
        ("matches: 0123", 'not 0123; put it in quotes: "0123"'),
        ("tool: {name: get_weather, arguments: {pin: 0123}}", '123, without its zeros; put it in quotes: "0123"'),
        ("matches: [x, '[']", "this is not a regular expression"),
        ("says: x", "there is no key 'says' in `expect`"),
    ],
)
def test_wrong_expectations(expect, says):
    (found,) = mistakes(f"name: a\ntools: [{{name: get_weather}}]\nturns:\n  - text: hi\n    expect:\n      {expect}\n")
    assert found.startswith("s.yaml:6:")
    assert says in found


@pytest.mark.parametrize("pattern", [r"^\s*$", r"^(?!.*sorry)", r"(?<!un)likely|$", r"\b|x", r"a|(?=x)", "a+", r"\d"])
def test_patterns_that_may_fail_are_let_through(pattern):
    assert mistakes(f"name: a\nturns: [{{text: x, expect: {{matches: '{pattern}'}}}}]") == []


def test_an_expectation_without_anything_in_it():
    hint = "is empty, so nothing is checked; write a check, or leave it out"
    assert mistakes("name: a\nturns: [{text: x, expect: {}}]\nexpect:\n") == [
        f"s.yaml:2:27: `expect` {hint}",
        f"s.yaml:3:8: `expect` {hint}",
    ]


def test_null_takes_away_what_is_included_and_nothing_else():
    write("base.yaml", "expect: {no_event: error, contains: x}\n")
    case = one("name: a\ninclude: base.yaml\nexpect: {no_event: null}\nturns: [{text: x}]\n")
    assert case.scenario.expect == Expect(contains="x")
    (found,) = mistakes("name: a\ninclude: base.yaml\nexpect: {lacks: null}\nturns: [{text: x}]\n")
    assert found.startswith("s.yaml:3:17: `lacks` has no value")


def test_a_value_of_a_row_that_is_none():
    found = mistakes(
        "name: a\nparameters: [{x: a}, {x: null}, {x: []}]\nturns: [{text: b, expect: {contains: '${x}'}}]\n"
    )
    assert [line.partition(": ")[2] for line in found] == [
        "`contains` has no value, so nothing is checked (row 2); give it one, or leave it out",
        "`contains` is empty, so nothing is checked (row 3); give it a value, or leave it out",
    ]


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ("0123", 'not 0123; put it in quotes: "0123"'),
        ("12", 'not 12; put it in quotes: "12"'),
        ("#12", '`dtmf` has no value; a # begins a comment: put keys in quotes, as "12#"'),
        ("*12", "put a text that begins with * in quotes"),
        ("*12#", "put a text that begins with * or & in quotes"),
        ("1e3", "not 1e3"),
    ],
)
def test_keys_of_a_telephone_without_quotes(keys, says):
    (found,) = mistakes(f"name: a\nturns:\n- dtmf: {keys}\n")
    assert found.startswith("s.yaml:3:")
    assert found.endswith(says)


def test_zeros_in_front_of_a_variable_are_not_lost_in_silence():
    found = mistakes("name: a\nvariables: {pin: 0123}\nparameters: [{zip: 01234}]\nturns: [{dtmf: '${pin}'}]\n")
    assert found == [
        's.yaml:2:18: 0123 is read as the number 123, without its zeros; put it in quotes: "0123"',
        's.yaml:3:20: 01234 is read as the number 1234, without its zeros; put it in quotes: "01234"',
    ]


@pytest.mark.parametrize("key", ["after", "timeout", "name", "answer", "voice"])
def test_a_key_of_a_turn_without_a_value(key):
    (found,) = mistakes(f"name: a\nturns:\n- text: x\n- text: y\n  {key}:\n")
    assert found == f"s.yaml:5:{len(key) + 4}: `{key}` has no value; give it one, or leave it out"


def test_an_event_that_only_another_server_knows_is_let_through():
    assert mistakes("name: a\nturns: [{text: x, expect: {event: {name: vendor.special_thing}}}]") == []


@pytest.mark.parametrize(
    ("session", "turn", "says"),
    [
        ("{modality: text}", "{text: x, expect: {audio: {min: 1 s}}}", "the answers are text only"),
        ("{modality: text}", "{text: x, expect: {latency: {first_audio: 1 s}}}", "the answers are text only"),
        ("{modality: text}", "{text: x, after: {heard: 1 s}}", "the answers are text only"),
        ("{transcription: none}", "{speak: x, expect: {wer: {max: 1}}}", "leaves no transcript"),
        ("{turn_detection: none}", "{speak: x, expect: {latency: {speech_to_audio: 1 s}}}", "without turn detection"),
    ],
)
def test_what_a_session_cannot_give(session, turn, says):
    found = mistakes(f"name: a\nsession: {session}\nturns: [{{text: a}}, {turn}]")
    assert len(found) == 1
    assert says in found[0]


def test_names_are_unique_in_a_run():
    write("a.yaml", GREETING)
    write("b.yaml", f"# the same name\n{GREETING}")
    (found,) = map(str, load(["a.yaml", "b.yaml"]).problems)
    assert found == "b.yaml:2:7: the name 'a' is taken: a.yaml:1:7; names are unique in a run"


def test_mistakes_of_rows_name_their_own_line():
    write("rows.csv", 'a,a,1x\n"x",2\n')
    write("more.csv", 'a,b\n1\n2,3\n"x\n4,"5\n')
    write("rows.jsonl", '{"a": 1}\n[2]\n{"a": }\n{"1x": 2}\n{"a": NaN}\n')
    texts = [f"name: n{n}\nparameters: {name}\nturns: [{{text: x}}]" for n, name in enumerate(("rows.csv", "more.csv"))]
    found = mistakes("\n---\n".join([*texts, "name: j\nparameters: rows.jsonl\nturns: [{text: x}]"]))
    assert "rows.csv:1:1: '1x' cannot be the name of a variable; a letter, then letters, digits, _ . and -" in found
    assert "rows.csv:1:1: the column 'a' is here twice" in found
    assert any(line.startswith("more.csv:2:1: this row has 1 values, the first line names 2 columns") for line in found)
    assert any(line.startswith("more.csv:5:1: this is not CSV") for line in found)
    assert any(line.startswith("rows.jsonl:2:1: a line must be a JSON object") for line in found)
    assert any(line.startswith("rows.jsonl:3:7: this is not JSON") for line in found)
    assert any(line.startswith("rows.jsonl:4:1: '1x' cannot be the name") for line in found)
    assert any(line.startswith("rows.jsonl:5:1: this is not JSON: NaN") for line in found)


def test_rows_that_would_break_a_reader():
    deep = "[" * 600 + "]" * 600
    write("rows.jsonl", f'{{"a": {deep}}}\n{{"a": 1e999}}\n{{"a": {"9" * 5000}}}\n{"[" * 100_000}\n')
    found = mistakes("name: a\nparameters: rows.jsonl\nturns: [{text: '${a}'}]")
    assert [line.split(": ")[0] for line in found] == [f"rows.jsonl:{n}:1" for n in (1, 2, 3, 4)]
    assert "nested more than 50 deep" in found[0]


def test_a_mistake_of_one_row_names_the_row_and_one_of_all_rows_does_not():
    write("rows.csv", "a,b\n1,2\nx,2\n")
    found = mistakes("name: a\nparameters: rows.csv\nturns: [{text: x, expect: {cost: '${a}', langage: x}}]")
    assert found == [
        "s.yaml:3:34: `cost` must be a number from 0 on, not 'x' (from ${a}) (row 2)",
        "s.yaml:3:42: there is no key 'langage' in `expect`; did you mean language?",
    ]


def test_aliases_cannot_blow_up():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    (found,) = mistakes("\n".join(lines))
    assert "the file holds more than 500000 values once its aliases are written out" in found


def test_files_that_are_none():
    Path("big.yaml").write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    Path("latin.yaml").write_bytes(b"name: a\nturns: [{text: caf\xe9}]")
    os.mkfifo("pipe.yaml")
    Path("empty").mkdir()
    found = [str(p) for p in load(["big.yaml", "latin.yaml", "pipe.yaml", "none.yaml", "empty"]).problems]
    assert found == [
        "empty: there is no .yaml file in this directory",
        f"big.yaml: this is too big ({MAX_FILE_BYTES + 1} bytes); at most {MAX_FILE_BYTES} are read",
        "latin.yaml:2:19: this is not UTF-8 text; save the file as UTF-8",
        "pipe.yaml: this is not a regular file",
        "none.yaml: this cannot be read: No such file or directory",
    ]


def test_a_run_with_mistakes_or_nothing_in_it_is_refused():
    with pytest.raises(UsageError, match=r"^s\.yaml:1:1: .*; .* \(1 more: `realtime check` lists all\)$|s\.yaml:1:1"):
        cases(read("nam: a\nturn: []"))
    with pytest.raises(UsageError, match="at least once, not 0 times"):
        cases(read(GREETING), repeat=0)
    with pytest.raises(UsageError, match="no scenario to run"):
        cases(load([]))


def test_every_setting_is_decided_on():
    """A new setting must be allowed in scenarios or refused, on purpose."""
    text = "\n".join(f"  {name}: null" for name in SPECS)
    found = mistakes(f"name: a\nsession:\n{text}\n{TURN}")
    allowed = len(SPECS) - len(found)
    assert allowed == 10


@settings(deadline=None)
@given(st.text(max_size=300))
def test_no_text_breaks_the_reader(text):
    problems = Problems()
    parse(text, "f.yaml", problems)


_KEYS = st.sampled_from(
    ["name", "turns", "text", "speak", "expect", "after", "tools", "session", "cost", "tool", "event", "wer", "judge"]
)
_VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["a", "${x}", "1 s", "none", "response.done"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(st.dictionaries(_KEYS, _VALUES, max_size=6))
def test_no_shape_breaks_the_loader(value):
    loaded = load([write("g.yaml", json.dumps(value))])
    assert bool(loaded.problems) != bool(loaded.templates)
