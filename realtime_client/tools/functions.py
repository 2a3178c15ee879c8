"""Python functions as tools: `@tool`, or as they are in `connect(tools=[...])`."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import inspect
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar, overload

import msgspec

from realtime_client.changes import ToolSpec
from realtime_client.errors import ToolError, UsageError
from realtime_client.session.arguments import seconds

from .parameters import Parameters
from .tool import Tool, ToolCancelledError, ToolContext

P = ParamSpec("P")
R = TypeVar("R")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Progress(NamedTuple):
    """How far a tool is; a generator yields it. text: one line. done, total: how much of how much, in any unit."""

    text: str = ""
    done: float | None = None
    total: float | None = None


class FunctionTool(Tool, Generic[P, R]):
    """A function that the model may call. Called from Python, it is the function that it was.

    Schema, and how arguments are judged, come from the type hints; descriptions from the docstring. A parameter of type
    `ToolContext` gets the call's. Besides plain functions there are

    - generators: each text that they yield is a part of the output, each `Progress` is shown; what they return, if
      anything, is the output instead of the parts. They are closed between two yields when the call is cancelled.
    - coroutines and asynchronous generators: they run in the program's event loop if it has one, else in one of their
      own, and are cancelled there.

    Context variables of whoever made the tool are not kept. Errors: UsageError, which names function and parameter.
    """

    def __init__(
        self,
        function: Callable[P, R],
        *,
        name: str | None = None,
        description: str | None = None,
        reads: bool | None = None,
        allowed: bool = True,
        timeout_s: float | None = None,
        origin: str = "",
    ) -> None:
        name = name or _name_of(function)
        if isinstance(function, type) or not callable(function):
            raise UsageError(f"tool {name}: a tool is made of a function, not of {_kind_of(function)}")
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"a tool cannot be called {name!r:.80}: give it a name, tool(name=...), of A-Z a-z 0-9 _ -"
            )
        parameters = Parameters(function, name)
        said = parameters.summary if description is None else description
        spec = ToolSpec(name=name, description=said, parameters=parameters.schema)
        super().__init__(spec, origin=origin, reads=reads, allowed=allowed, timeout_s=seconds(timeout_s, "timeout_s"))
        self.function = function
        self._parameters = parameters

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function."""
        return self.function(*args, **kwargs)

    def check(self, arguments: str) -> dict[str, Any]:
        """See `Tool`. Returns the arguments that the call gives, by the names of parameters."""
        return self._parameters.read(arguments)

    def run(self, checked: dict[str, Any], context: ToolContext) -> str:
        """See `Tool`."""
        function: Callable[..., Any] = self.function
        result = function(**checked, **dict.fromkeys(self._parameters.context, context))
        in_parts = inspect.isgenerator(result) or inspect.isasyncgen(result)
        if inspect.isgenerator(result):
            result = _drained(result, context)
        elif in_parts or inspect.isawaitable(result):
            result = _awaited(result, context)
        if result is None and (parts := context.output_so_far):
            return parts
        if result is None and (in_parts or self._parameters.returns is type(None)):
            return "done"  # it is there for what it does; elsewhere `null` says that there is nothing
        return output_text(result)


@overload
def tool(function: Callable[P, R], /) -> FunctionTool[P, R]: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    reads: bool | None = None,
    allowed: bool = True,
    timeout_s: float | None = None,
) -> Callable[[Callable[P, R]], FunctionTool[P, R]]: ...
def tool(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a tool of a function: `@tool`, `@tool(reads=True, timeout_s=5)`, or `tool(it.method)`.

    name, description: what the model is told; default: the function's name, and the first paragraph of its docstring.
    reads: it only reads, and changes nothing. allowed: nobody has to be asked before it runs. timeout_s: longest work
    on one call; None for the session's limit. Errors: UsageError.
    """
    if function is not None:
        return FunctionTool(function, **options)
    return lambda function: FunctionTool(function, **options)


def as_tool(thing: Tool | Callable[..., Any]) -> Tool:
    """Return a tool: the same, or one that is made of a function. Errors: UsageError."""
    return thing if isinstance(thing, Tool) else FunctionTool(thing)


def output_text(value: object) -> str:
    """Return what a function returned as text for the model: a text as it is, everything else as JSON.

    Errors: ToolError, when it cannot be said so.
    """
    try:
        if isinstance(value, str):
            str.encode(value)
            return str.__str__(value)  # the text alone of an Enum that is one
        return msgspec.json.encode(value, enc_hook=_json_like).decode()
    except UnicodeEncodeError:
        raise ToolError("its output cannot be sent: some text in it holds half of a surrogate pair") from None
    except Exception as error:  # the hook may call what the value's class brings
        raise ToolError(f"its output ({_kind_of(value)}) cannot be said as JSON: {error}") from error


def _json_like(value: Any) -> Any:
    """What numpy's and pandas' objects, and pydantic's models, say of themselves."""
    for method in ("tolist", "model_dump"):
        if callable(found := getattr(value, method, None)):
            return found()
    raise TypeError(f"{_kind_of(value)} has no form in it")


def _name_of(function: Any) -> str:
    """The name of a function, of what a partial one calls, or of an object's class."""
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))


def _kind_of(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


# --- what takes its time ----------------------------------------------------------------------------------------------


def _tell(piece: object, context: ToolContext) -> None:
    """Take what a generator yields."""
    if isinstance(piece, str):
        context.partial(output_text(piece))
    elif isinstance(piece, Progress):
        context.progress(*piece)
    else:
        raise ToolError(f"it yields {_kind_of(piece)}: a tool yields text or Progress")


def _drained(pieces: Generator[object, Any, object], context: ToolContext) -> object:
    """Go through a generator, and return what it returns."""
    with contextlib.closing(pieces):
        while True:
            context.check_cancelled()
            try:
                piece = next(pieces)
            except StopIteration as end:
                return end.value
            _tell(piece, context)


def _awaited(work: Awaitable[object] | AsyncGenerator[object, None], context: ToolContext) -> object:
    """Wait in this thread for what runs in an event loop; when it is cancelled, until it has really ended."""
    loop = context.loop
    if loop is not None and loop.is_closed():
        if inspect.iscoroutine(work):
            work.close()
        raise ToolError("the program's event loop is closed")
    try:
        if loop is not None:
            future = asyncio.run_coroutine_threadsafe(_followed(work, context), loop)
            context.on_cancel(lambda: _let_go(future, loop))
            return future.result()
        with asyncio.Runner() as runner:
            return runner.run(_followed(work, context))
    except (asyncio.CancelledError, concurrent.futures.CancelledError):
        context.check_cancelled()
        raise ToolError("it cancelled itself") from None


def _let_go(future: concurrent.futures.Future[object], loop: asyncio.AbstractEventLoop) -> None:
    """Do not wait for what will never end: the program has stopped its event loop."""
    if loop.is_closed():
        with contextlib.suppress(concurrent.futures.InvalidStateError):
            future.set_exception(ToolCancelledError("the program's event loop is closed"))
    elif not loop.is_running():
        future.cancel()


async def _followed(work: Awaitable[object] | AsyncGenerator[object, None], context: ToolContext) -> object:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def cancel() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: it is over
            loop.call_soon_threadsafe(task.cancel)

    context.on_cancel(cancel)
    try:
        if not inspect.isasyncgen(work):
            return await work  # type: ignore[misc]  # it is awaitable then
        async with contextlib.aclosing(work):
            async for piece in work:
                _tell(piece, context)
    except SystemExit as error:  # would end the program's event loop
        raise ToolError(f"it asked to end the program: {error}") from None
    return None
