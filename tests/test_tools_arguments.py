"""What a function's arguments look like to the model, and which calls are fit to run.

Judges: `jsonschema` by the published schema, and `openai-agents` for the same functions. Argument texts are changed at
random with a fixed seed: some thousands of them, and 100,000 in `scripts/soak`.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import inspect
import json
import math
import os
import random
import typing
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, TypedDict, TypeVar

import annotated_types
import jsonschema
import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta
from typing_extensions import Doc

from realtime_client.errors import UsageError
from realtime_client.escape import one_line
from realtime_client.tools import BadArgumentsError, FunctionTool, ToolContext

COUNT = 100_000 if os.environ.get("REALTIME_SOAK") else 4_000
CHUNKS = 4  # tests that share the work


T = TypeVar("T")


class Unit(enum.Enum):
    CELSIUS = "C"
    FAHRENHEIT = "F"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclasses.dataclass
class Place:
    """Where it is."""

    name: str
    at: tuple[float, float] | None = None


@dataclasses.dataclass
class Node:
    name: str
    kids: list[Node] = dataclasses.field(default_factory=list)


class Options(TypedDict):
    title: str
    discriminator: NotRequired[int]


class Pair(NamedTuple):
    first: int
    second: str = "x"


class Even(msgspec.Struct):
    number: int

    def __post_init__(self) -> None:
        if self.number % 2:
            raise KeyError("odd")


@dataclasses.dataclass
class Box(Generic[T]):
    value: T


@dataclasses.dataclass
class Boxes:
    one: Box[int]
    two: Box[str]


def tool_of(hint: Any, default: Any = inspect.Parameter.empty, **more: Any) -> FunctionTool[..., Any]:
    """A tool with these parameters; the first is `v`. It returns what it got."""
    hints = {"v": hint, **more}
    empty = inspect.Parameter.empty
    kind = inspect.Parameter.KEYWORD_ONLY

    def function(**got: Any) -> Any:
        return got

    function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, kind, default=default if name == "v" else empty) for name in hints]
    )
    function.__annotations__ = hints
    return FunctionTool(function)


def read(tool: FunctionTool[..., Any], **arguments: Any) -> Any:
    return tool.check(json.dumps(arguments))


# --- what the model is told -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hint", "schema"),
    [
        (str, {"type": "string"}),
        (int, {"type": "integer"}),
        (float, {"type": "number"}),
        (bool, {"type": "boolean"}),
        (Any, {}),
        (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}),
        (Literal[1, "b"], {"enum": [1, "b"]}),
        (Unit, {"type": "string", "enum": ["C", "F"]}),
        (Level, {"type": "integer", "enum": [1, 2]}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (set[int], {"type": "array", "items": {"type": "integer"}}),
        (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (Annotated[int, Meta(ge=1, le=14)], {"type": "integer", "minimum": 1, "maximum": 14}),
        (Annotated[str, Meta(pattern="^a")], {"type": "string", "pattern": "^a"}),
        (Annotated[str, Meta(description="x")], {"type": "string", "description": "x"}),
        (Annotated[str, "x"], {"type": "string", "description": "x"}),
        (Annotated[str, Doc("x")], {"type": "string", "description": "x"}),
        (date, {"type": "string", "format": "date"}),
        (
            Options,
            {
                "type": "object",
                "properties": {"title": {"type": "string"}, "discriminator": {"type": "integer"}},
                "required": ["title"],
            },
        ),
    ],
    ids=str,
)
def test_types_in_the_schema(hint: Any, schema: dict[str, Any]):
    whole = tool_of(hint).spec.parameters
    assert whole == {"type": "object", "properties": {"v": schema}, "required": ["v"], "additionalProperties": False}


def test_what_a_type_refers_to_stands_in_its_place():
    schema = tool_of(list[Place]).spec.parameters
    assert schema is not None
    assert "$" not in json.dumps(schema)
    assert schema["properties"]["v"]["items"]["properties"]["name"] == {"type": "string"}
    assert schema["properties"]["v"]["items"]["description"] == "Where it is."


def test_a_type_that_holds_itself_stays_a_reference():
    tool = tool_of(Node, other=list[Node])
    schema = tool.spec.parameters
    assert schema is not None
    assert schema["properties"]["v"] == {"$ref": "#/$defs/Node"}
    assert list(schema["$defs"]) == ["Node"]
    good = {"name": "a", "kids": [{"name": "b"}]}
    jsonschema.validate({"v": good, "other": []}, schema)
    assert read(tool, v=good, other=[good])["v"] == Node("a", [Node("b")])
    with pytest.raises(BadArgumentsError, match=r"^v\.kids\[0\]\.kids\[0\]\.name: Expected str, got null"):
        read(tool, v={"name": "a", "kids": [{"name": "b", "kids": [{"name": None}]}]}, other=[])


@pytest.mark.parametrize(
    ("default", "told"),
    [
        (3, {"default": 3}),
        (Unit.CELSIUS, {"default": "C"}),
        (None, {"default": None}),
        (Place("Rome"), {"default": {"name": "Rome", "at": None}}),
        (object(), {}),
        (math.nan, {}),
    ],
)
def test_defaults_are_told_where_json_can_say_them_and_are_the_functions_own(default: Any, told: dict[str, Any]):
    tool = tool_of(Any, default)
    assert tool.spec.parameters is not None
    assert tool.spec.parameters["properties"]["v"] == told
    assert tool.spec.parameters["required"] == []
    assert tool.check("{}") == {}, "the function has its default"


def test_a_function_called_as_a_class_of_its_parameters():
    schema = FunctionTool(two_places, name="Place").spec.parameters
    assert schema is not None
    assert "$" not in json.dumps(schema)
    assert schema["properties"]["one"]["properties"]["name"] == {"type": "string"}
    node = FunctionTool(of_node, name="Node")
    assert node.spec.parameters is not None
    (where,) = node.spec.parameters["$defs"]
    assert node.spec.parameters["properties"]["node"] == {"$ref": f"#/$defs/{where}"}
    jsonschema.validate({"node": {"name": "a", "kids": [{"name": "b"}]}}, node.spec.parameters)


def test_a_default_of_none_may_be_given_too():
    tool = tool_of(int, None)
    assert read(tool, v=None) == {"v": None}
    assert read(tool, v=3) == {"v": 3}
    with pytest.raises(BadArgumentsError):
        read(tool_of(int, 1), v=None)


GOOGLE = """Tell the weather
    of a city.

    More on it.

    Args:
        city: The city, such as
            Rome.
        days (int): How many.

    Returns:
        A text.
    """
NUMPY = """Tell the weather of a city.

    Parameters
    ----------
    city : str
        The city, such as Rome.
    days : int, optional
        How many.
    """
REST = """Tell the weather of a city.

    :param city: The city,
        such as Rome.
    :param int days: How many.
    :returns: A text.
    """
SENTENCES = """Tell the weather of a city.

    It is not always right. city: The city, such as Rome. days: How many.

    Errors: none.
    """


@pytest.mark.parametrize("docstring", [GOOGLE, NUMPY, REST, SENTENCES, GOOGLE.replace("\n\n    More on it.\n", "")])
def test_docstrings(docstring: str):
    def weather(city: str, days: Annotated[int, Meta(ge=1)] = 3, where: Place | None = None) -> str: ...

    weather.__doc__ = docstring
    spec = FunctionTool(weather).spec
    assert spec.name == "weather"
    assert spec.description == "Tell the weather of a city."
    assert spec.parameters is not None
    told = {name: each.get("description") for name, each in spec.parameters["properties"].items()}
    assert told == {"city": "The city, such as Rome.", "days": "How many.", "where": None}


@pytest.mark.parametrize(
    ("docstring", "summary"),
    [(None, ""), ("", ""), ("One line: all.", "One line: all."), ("A\n\nArgs:\n  \n\n::: :param", "A"), ("\n", "")],
)
def test_docstrings_that_say_little(docstring: str | None, summary: str):
    def function(a: int) -> None: ...

    function.__doc__ = docstring
    assert FunctionTool(function).spec.description == summary


def test_what_stands_in_the_hint_goes_before_the_docstring():
    def function(a: Annotated[int, "from the hint"], b: Place) -> None:
        """Do it.

        a: from the docstring. b: from the docstring.
        """

    assert (parameters := FunctionTool(function).spec.parameters)
    assert parameters["properties"]["a"]["description"] == "from the hint"
    assert parameters["properties"]["b"]["description"] == "from the docstring.", "nearer than that of the class"


# --- what can be a tool -----------------------------------------------------------------------------------------------


def two_places(one: Place, two: Place) -> None: ...
def of_node(node: Node) -> None: ...


class Service:
    """A service."""

    def method(self, city: str) -> str:
        """Ask it."""
        return city

    @classmethod
    def of_class(cls, city: str) -> str:
        return city

    @staticmethod
    def alone(city: str) -> str:
        return city

    def __call__(self, city: str) -> str:
        return city


def two(city: str, country: str) -> str:
    """Do two."""
    return f"{city}, {country}"


@functools.wraps(two)
def wrapped(*args: Any, **kwargs: Any) -> str:
    return two(*args, **kwargs)


@pytest.mark.parametrize(
    ("function", "name", "said", "names"),
    [
        (Service().method, "method", "Ask it.", ["city"]),
        (Service.of_class, "of_class", "", ["city"]),
        (Service.alone, "alone", "", ["city"]),
        (Service(), "Service", "A service.", ["city"]),
        (functools.partial(two, "Rome"), "two", "Do two.", ["country"]),
        (functools.partial(two, country="Italy"), "two", "Do two.", ["city"]),
        (functools.partial(Service().method, city="Rome"), "method", "Ask it.", []),
        (wrapped, "two", "Do two.", ["city", "country"]),
        (functools.cache(two), "two", "Do two.", ["city", "country"]),
        (staticmethod(two), "two", "Do two.", ["city", "country"]),
    ],
)
def test_kinds_of_callables(function: Callable[..., Any], name: str, said: str, names: list[str]):
    spec = FunctionTool(function).spec
    assert spec.parameters is not None
    assert (spec.name, spec.description, list(spec.parameters["properties"])) == (name, said, names)


def many(city: str, *more: str) -> None: ...
def any_names(city: str, **more: str) -> None: ...
def by_position(city: str, /) -> None: ...
def no_hint(city: str, days) -> None: ...
def path(city: Path) -> None: ...
def anything(city: object) -> None: ...
def nested(places: list[dict[str, Path]]) -> None: ...
def unknown(city: NoSuchType) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def of_pydantic(days: Annotated[int, pydantic.Field(ge=1)]) -> None: ...
def deep_inside(days: list[Annotated[int, annotated_types.Ge(1)]] | None = None) -> None: ...
def two_lists(values: list[int] | list[Place]) -> None: ...


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (many, r"tool many: parameter \*more: 'str' has no fixed names"),
        (any_names, r"tool any_names: parameter \*\*more"),
        (by_position, "tool by_position: parameter city: 'str' is positional only"),
        (no_hint, "tool no_hint: parameter days has no type hint"),
        (path, "tool path: parameter city: no model can give this: type .*Path.* is not supported"),
        (anything, "tool anything: parameter city: no model"),
        (nested, "tool nested: parameter places: no model can give this: .*Path"),
        (unknown, "tool unknown: .*NoSuchType"),
        (of_pydantic, "tool of_pydantic: parameter days: FieldInfo is not obeyed here: take msgspec's Meta"),
        (deep_inside, "tool deep_inside: parameter days: Ge is not obeyed"),
        (two_lists, "tool two_lists: parameter values: .*more than one array-like"),
        (Service.method, r"tool method: parameter self has no type hint: take the method of an object"),
        (Service, "not of the class Service"),
        (lambda: 1, "cannot be called '<lambda>': give it a name"),
        ("two", "not of str"),
        (len, "tool len: parameter obj is positional only"),
    ],
)
def test_what_cannot_be_a_tool(function: Any, says: str):
    with pytest.raises(UsageError, match=says) as caught:
        FunctionTool(function)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "a b", "é", "a" * 65, "a.b"])
def test_names_that_models_do_not_take(name: str):
    two.__name__, before = name or "<x>", two.__name__
    try:
        with pytest.raises(UsageError, match="cannot be called"):
            FunctionTool(two, name=name)
    finally:
        two.__name__ = before
    assert FunctionTool(two, name="a-b_3").name == "a-b_3"


@pytest.mark.parametrize("timeout_s", [-1, math.nan, "5"])
def test_time_limits_are_judged(timeout_s: Any):
    with pytest.raises(UsageError, match="timeout_s"):
        FunctionTool(two, timeout_s=timeout_s)


def test_a_name_that_python_has_for_itself():
    def trip(from_: str, to: str, class_: int = 2) -> None: ...

    tool = FunctionTool(trip)
    assert tool.spec.parameters is not None
    assert list(tool.spec.parameters["properties"]) == ["from", "to", "class"]
    assert tool.check('{"from": "a", "to": "b", "class": "1"}') == {"from_": "a", "to": "b", "class_": 1}
    with pytest.raises(BadArgumentsError, match="missing required field from"):
        tool.check('{"to": "b"}')


def test_the_context_is_not_for_the_model():
    def function(context: ToolContext, a: int, more: ToolContext | None = None) -> None: ...

    tool = FunctionTool(function)
    assert tool.spec.parameters is not None
    assert list(tool.spec.parameters["properties"]) == ["a"]
    with pytest.raises(BadArgumentsError, match="unknown field context"):
        tool.check('{"a": 1, "context": null}')


# --- which calls are fit to run ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hint", "given", "got"),
    [
        (int, 3, 3),
        (int, "3", 3),
        (int, "-3", -3),
        (int, 3.0, 3),
        (int, "3.0", 3),
        (int, "12345678901234567890123", 12345678901234567890123),
        (int, "9007199254740993.0", 9007199254740993),  # through a float it would be another
        (float, 3, 3.0),
        (float, "3", 3.0),
        (float, "1e3", 1000.0),
        (bool, "true", True),
        (bool, "False", False),
        (int | None, "null", None),
        (int | None, "3", 3),
        (int | bool, "true", True),
        (int | float, 3.0, 3.0),
        (Literal[1, 2], "2", 2),
        (Level, "2", Level.HIGH),
        (Annotated[int | None, Meta(description="x")], "3", 3),
        (list[int], ["1", 2.0], [1, 2]),
        (list[int] | int, "3", 3),
        (tuple[int, str], ["1", "1"], (1, "1")),
        (tuple[int, ...], ["1"], (1,)),
        (set[int], [1, 1], {1}),
        (dict[str, float], {"a": "1.5"}, {"a": 1.5}),
        (dict[int, int], {"1": "2"}, {1: 2}),
        (Place, {"name": "Rome", "at": ["1", 2]}, Place("Rome", (1.0, 2.0))),
        (Options, {"title": "1", "discriminator": "1"}, {"title": "1", "discriminator": 1}),
        (Pair, ["1", "1"], Pair(1, "1")),
        (list[Node], [{"name": "1"}], [Node("1")]),
        (str, "3", "3"),
        (str | int, "3", "3"),
        (str | None, "null", "null"),
        (Any, "3", "3"),
        (Decimal, "3.50", Decimal("3.50")),
        (Decimal, 3.5, Decimal("3.5")),
        (datetime, "2026-11-26T10:00:00", datetime(2026, 11, 26, 10)),  # noqa: DTZ001
        (timedelta, "PT90S", timedelta(seconds=90)),
        (Unit, "C", Unit.CELSIUS),
        (Even, {"number": "2"}, Even(2)),
        (Boxes, {"one": {"value": "1"}, "two": {"value": "1"}}, Boxes(Box(1), Box("1"))),
    ],
)
def test_what_is_read(hint: Any, given: Any, got: Any):
    found = read(tool_of(hint, other=int), v=given, other="1")["v"]
    assert found == got
    assert type(found) is type(got)


@pytest.mark.parametrize(
    ("hint", "given", "says"),
    [
        (int, "x", "v: Expected int, got str"),
        (int, 3.5, "v: Expected int, got float"),
        (int, "3.5", "v: Expected int, got str"),
        (int, True, "v: Expected int, got bool"),
        (int, " 3", "v: Expected int, got str"),
        (int, "1_0", "v: Expected int, got str"),
        (int, "", "v: Expected int, got str"),
        (int, "null", "v: Expected int, got str"),
        (int, None, "v: Expected int, got null"),
        (float, "nan", "v: Expected float, got str"),
        (float, "Infinity", "v: Expected float, got str"),
        (float, "1e999", "v: Number out of range"),
        (bool, 1, "v: Expected bool, got int"),
        (bool, "yes", "v: Expected bool, got str"),
        (str, 3, "v: Expected str, got int"),
        (list[int], "[1]", "v: Expected array, got str"),
        (list[int], [1, "x"], "v[1]: Expected int, got str"),
        (dict[str, int], {"a": "x"}, "v[...]: Expected int, got str"),
        (Annotated[int, Meta(le=14)], "15", "v: Expected int <= 14"),
        (Annotated[str, Meta(pattern="^a")], "b", "v: Expected str matching regex '^a'"),
        (Literal["a", "b"], "c", "v: Invalid enum value 'c'"),
        (Unit, "K", "v: Invalid enum value 'K'"),
        (datetime, "2026", "v: Invalid RFC3339 encoded datetime"),
        (datetime, 3, "v: Expected datetime, got int"),
        (timedelta, 3, "v: Expected duration, got int"),
        (Place, {"at": None}, "v: missing required field name"),
        (Even, {"number": 1}, "the arguments cannot be read: KeyError: 'odd'"),
    ],
)
def test_what_does_not_fit(hint: Any, given: Any, says: str):
    with pytest.raises(BadArgumentsError) as caught:
        read(tool_of(hint), v=given)
    assert str(caught.value) == says


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{}", "missing required field v"),
        ("", "missing required field v"),
        ('{"v": 1, "w": 2}', "unknown field w; there are: v"),
        ('{"v": 1', "the arguments are not valid JSON: Input data was truncated"),
        ("v=1", "the arguments are not valid JSON: JSON is malformed: invalid character (byte 0)"),
        ('{"v": NaN}', "the arguments are not valid JSON: JSON is malformed: invalid character (byte 6)"),
        ('{"v": 1} {}', "the arguments are not valid JSON: JSON is malformed: trailing characters (byte 10)"),
        ("[]", "Expected object, got array"),
        ("null", "Expected object, got null"),
        ('{"v": 1, "\ud800": 2}', "the arguments cannot be read: UnicodeEncodeError: "),
        ('{"v": "\\ud800x"}', "the arguments are not valid JSON: Input data was truncated"),
        ('{"v": 1, "' + "x" * 100_000 + '": 2}', "unknown field xxx"),
        ('{"v": 1, "\\u001b[31m\\n": 2}', "unknown field [31m ;"),
        ('{"v": ' + "[" * 200_000, "the arguments cannot be read: RecursionError"),
        ('{"v": ' + "9" * 5_000 + "}", "v: Integer value out of range"),
    ],
    ids=lambda text: text[:20],
)
def test_texts_that_do_not_fit(text: str, says: str):
    with pytest.raises(BadArgumentsError) as caught:
        tool_of(int).check(text)
    assert str(caught.value).startswith(says)
    assert len(str(caught.value)) <= 400
    assert str(caught.value) == one_line(str(caught.value))


def test_what_nests_too_deep():
    for hint in (Any, list[Any], Node):
        with pytest.raises(BadArgumentsError):
            tool_of(hint).check('{"v": ' + "[" * 200_000)
    with pytest.raises(BadArgumentsError):
        tool_of(Node).check('{"v": ' + '{"name": "1", "kids": [' * 20_000)


@pytest.mark.parametrize("text", ["", "  \n", "{}", " {} "])
def test_no_arguments(text: str):
    def function() -> None: ...

    assert FunctionTool(function).check(text) == {}
    assert tool_of(int, 1).check(text) == {}


def test_of_a_name_that_comes_twice_the_last_counts_as_in_all_of_python():
    text = '{"v": 1, "v": 2}'
    assert tool_of(int).check(text) == json.loads(text) == {"v": 2}


# --- the official SDK, for the same functions -------------------------------------------------------------------------


def plain(city: str, days: int = 3, exact: bool = False) -> str: ...
def of_choice(unit: Literal["C", "F"], levels: list[int], more: dict[str, float] | None = None) -> str: ...
def of_classes(place: Place, unit: Unit, pairs: list[Place] | None = None) -> str: ...
def of_nothing() -> str: ...
def of_when(at: datetime, day: date, until: timedelta | None = None) -> str: ...


@pytest.mark.parametrize("function", [plain, of_choice, of_classes, of_nothing, of_when, two, Service().method])
def test_names_and_required_are_as_the_official_sdk_has_them(function: Callable[..., Any]):
    from agents.function_schema import function_schema  # slow to import

    theirs = function_schema(function, strict_json_schema=False)
    spec = FunctionTool(function).spec
    assert spec.parameters is not None
    assert spec.name == theirs.name
    assert spec.description == (theirs.description or "")
    assert list(spec.parameters["properties"]) == list(theirs.params_json_schema["properties"])
    assert spec.parameters["required"] == theirs.params_json_schema.get("required", [])
    for name, ours in spec.parameters["properties"].items():
        their = theirs.params_json_schema["properties"][name]
        assert ours.get("default") == their.get("default")
        if "$ref" not in json.dumps(their) and "anyOf" not in their:
            assert ours.get("type") == their.get("type")


# --- any signature ----------------------------------------------------------------------------------------------------

SIMPLE: list[Any] = [str, int, float, bool, None, Any, Literal["a", 1], Unit, Level, Place, Options]
SIMPLE += [Annotated[int, Meta(ge=-3, le=3)], Annotated[str, Meta(max_length=3)]]
HINTS = st.recursive(
    st.sampled_from(SIMPLE),
    lambda inner: st.one_of(
        inner.map(lambda hint: list[hint]),
        inner.map(lambda hint: dict[str, hint]),
        inner.map(lambda hint: typing.Optional[hint]),  # noqa: UP045 - a hint may be None
    ),
    max_leaves=4,
)
NAMES = st.lists(st.sampled_from("abcdefgh"), max_size=5, unique=True)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def from_schema(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a schema of ours allows."""
    if "anyOf" in schema:
        return st.one_of(*map(from_schema, schema["anyOf"]))
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema.get("type"):
        case "string":
            return st.text(max_size=schema.get("maxLength", 8))
        case "integer":
            return st.integers(schema.get("minimum", -(2**63)), schema.get("maximum", 2**63 - 1))
        case "number":
            return st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**50), 2**50)
        case "boolean":
            return st.booleans()
        case "null":
            return st.none()
        case "array" if "prefixItems" in schema:
            return st.tuples(*map(from_schema, schema["prefixItems"])).map(list)
        case "array":
            return st.lists(from_schema(schema.get("items", {})), max_size=3)
        case "object" if "properties" in schema:
            fields = {name: from_schema(each) for name, each in schema["properties"].items()}
            required = {name: each for name, each in fields.items() if name in schema["required"]}
            return st.fixed_dictionaries(
                required, optional={name: each for name, each in fields.items() if name not in required}
            )
        case "object":
            return st.dictionaries(st.text(max_size=3), from_schema(schema.get("additionalProperties", {})), max_size=3)
        case _:
            return ANYTHING


@settings(max_examples=80, deadline=None)
@given(data=st.data(), names=NAMES)
def test_what_the_schema_allows_reaches_the_function(data: st.DataObject, names: list[str]):
    hints = {name: data.draw(HINTS) for name in names}
    try:
        tool = tool_of(data.draw(HINTS), **hints)
    except UsageError as error:
        if "Type unions may not contain" not in str(error):
            raise
        return
    schema = tool.spec.parameters
    assert schema is not None
    jsonschema.Draft202012Validator.check_schema(schema)
    arguments = data.draw(from_schema(schema))
    jsonschema.validate(arguments, schema)
    got = tool(**tool.check(json.dumps(arguments)))
    for name, value in arguments.items():
        _is_same(msgspec.to_builtins(got[name]), value)


def _is_same(got: Any, value: Any) -> None:
    """Equal, but for fields with a default that were not given."""
    if isinstance(got, dict) and isinstance(value, dict):
        for name, each in value.items():
            _is_same(got[name], each)
    elif isinstance(got, list | tuple) and isinstance(value, list):
        assert len(got) == len(value)
        for one, other in zip(got, value, strict=True):
            _is_same(one, other)
    else:
        assert got == value


# --- texts changed at random ------------------------------------------------------------------------------------------


def everything(  # noqa: PLR0917
    city: str,
    days: Annotated[int, Meta(ge=1, le=14)],
    share: float | None,
    exact: bool,
    unit: Literal["C", "F"],
    level: Level,
    tags: list[int],
    codes: set[str],
    places: dict[str, Place],
    node: Node,
    pair: Pair,
    either: int | str,
    price: Decimal,
    at: datetime,
    anything: Any = None,
) -> None: ...


FULL = {
    "city": "Rome", "days": 3, "share": 0.5, "exact": True, "unit": "C", "level": 1, "tags": [1, 2, 3], "codes": ["a", "b"],
    "places": {"here": {"name": "x", "at": [1.5, 2]}, "there": {"name": "y"}}, "node": {"name": "a", "kids": [{"name": "b"}]},
    "pair": [1, "b"], "either": 3, "price": "3.50", "at": "2026-11-26T10:00:00Z", "anything": {"a": [None, 1.5, "é"]},
}  # fmt: skip
STRANGE = [
    None,
    True,
    0,
    -1,
    3.0,
    3.5,
    1e300,
    2**70,
    "",
    "3",
    "3.0",
    "-3.5",
    "true",
    "null",
    "nan",
    "x",
    [],
    {},
    [[]],
    {"a": 1},
]
TOKENS = ['"', "{", "}", "[", "]", ",", ":", "\\", "\\ud800", "null", "NaN", "-", "1e999", "0", " ", "\x00", "\x1b", "\ud800", "é", "\ufeff"]  # fmt: skip


def change_value(value: Any, rng: random.Random) -> Any:
    """Change something in a tree of values."""
    if rng.random() < 0.25 or not value or not isinstance(value, dict | list):
        return json.dumps(value) if rng.random() < 0.4 else rng.choice(STRANGE)
    keys = list(value) if isinstance(value, dict) else range(len(value))
    key = rng.choice(list(keys))
    changed = value.copy()
    if rng.random() < 0.15:
        del changed[key]
    elif rng.random() < 0.1 and isinstance(changed, dict):
        changed[rng.choice(["title", "x", "city", ""])] = rng.choice(STRANGE)
    else:
        changed[key] = change_value(value[key], rng)
    return changed


def change_text(text: str, rng: random.Random) -> str:
    at, to = sorted((rng.randrange(len(text) + 1), rng.randrange(len(text) + 1)))
    match rng.randrange(4):
        case 0:
            return text[:at]
        case 1:
            return text[:at] + rng.choice(TOKENS) + text[at:]
        case 2:
            return text[:at] + text[min(to, at + 3) :]
        case _:
            return text[:to] + text[at:]


def loose(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> Any:
    """The reading that is documented: numbers, truth and null in quotes, where no text can be meant."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    choices = [*schema.get("anyOf", [schema])]
    types = {choice.get("type") for choice in choices}
    if isinstance(value, str) and not types & {"string", None}:
        try:
            inner = json.loads(value.lower())
        except ValueError:
            return value
        return inner if not isinstance(inner, str | list | dict) else value
    if schema.get("format") == "decimal" and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    for choice in choices:
        if isinstance(value, list) and choice.get("type") == "array":
            first = choice.get("prefixItems", [])
            return [
                loose(each, first[n] if n < len(first) else choice.get("items") or {}, root)
                for n, each in enumerate(value)
            ]
        if isinstance(value, dict) and choice.get("type") == "object":
            fields, others = choice.get("properties", {}), choice.get("additionalProperties") or {}
            return {name: loose(each, fields.get(name, others), root) for name, each in value.items()}
    return value


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_changed_argument_texts(chunk: int):
    tool = FunctionTool(everything)
    schema = tool.spec.parameters
    assert schema is not None
    judge = jsonschema.Draft202012Validator(schema)
    rng = random.Random(chunk)
    taken = refused = loosely = 0
    messages = set()
    for _ in range(COUNT // CHUNKS):
        value: Any = FULL
        for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
            value = change_value(value, rng)
        text = json.dumps(value, ensure_ascii=rng.random() < 0.5)
        for _ in range(rng.choice([0, 0, 1, 2])):
            text = change_text(text, rng)
        try:
            found = tool.check(text)
        except BadArgumentsError as error:
            refused += 1
            messages.add(str(error))
            continue
        taken += 1
        given_ = json.loads(text, parse_constant=pytest.fail)
        if not judge.is_valid(given_):
            loosely += 1
            exact = loose(given_, schema, schema)
            assert judge.is_valid(exact), text
            assert found == tool.check(json.dumps(exact)), text
    assert [each for each in messages if len(each) > 400 or each != one_line(each)] == []
    assert min(taken, refused, loosely) > COUNT // CHUNKS // 50, "each way is walked"
