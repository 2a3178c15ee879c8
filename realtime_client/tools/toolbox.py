"""The tools of a session, by name. A source of tools, such as a server, may change its own while the session runs."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable

from realtime_client.changes import ToolSpec
from realtime_client.errors import UsageError

from .tool import Tool

MOST_TOOLS = 128
"""The most that OpenAI's models take (platform.openai.com/docs/guides/function-calling)."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_UNFIT = re.compile(r"[^A-Za-z0-9_-]+")


class Toolbox:
    """Tools by the names that the model sees. All methods may be called from any thread.

    tools: the program's own; two of one name are a UsageError. on_change: called after a source has changed its tools,
    in the thread that told so.
    """

    def __init__(self, tools: Iterable[Tool] = ()) -> None:
        self.on_change: Callable[[], object] = bool
        self._lock = threading.Lock()
        self._own: dict[str, Tool] = {}
        self._sources: dict[str, tuple[Tool, ...]] = {}
        self._by_name: dict[str, Tool] = {}
        for tool in tools:
            if not _NAME.fullmatch(tool.name):
                raise UsageError(f"a tool cannot be called {tool.name!r}: take letters, digits, _ and -, at most 64")
            if tool.name in self._own:
                both = dict.fromkeys((_where(self._own[tool.name]), _where(tool)))
                raise UsageError(f"there are two tools {tool.name}: {' and '.join(both)}")
            self._own[tool.name] = tool
        if len(self._own) > MOST_TOOLS:
            raise UsageError(f"{len(self._own)} tools are more than models take: at most {MOST_TOOLS}")
        self._by_name = dict(self._own)

    def __len__(self) -> int:
        return len(self._by_name)

    def set(self, source: str, tools: Iterable[Tool]) -> None:
        """These are the tools of a source now, in place of those that it had. source: a short name, such as `time`."""
        with self._lock:
            self._sources[source] = tuple(tools)
            self._by_name = self._named()
        self.on_change()

    def get(self, name: str) -> Tool | None:
        """The tool that the model calls so."""
        return self._by_name.get(name)

    @property
    def named(self) -> dict[str, Tool]:
        """All tools, by the names that the model sees."""
        return dict(self._by_name)

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """What the model is told of them."""
        return tuple(
            ToolSpec(name=name, description=tool.spec.description, parameters=tool.spec.parameters)
            for name, tool in self._by_name.items()
        )

    def _named(self) -> dict[str, Tool]:
        """Give each tool a name of its own that models take: where another one has it, with its source before it."""
        named = dict(self._own)
        for source, tools in self._sources.items():
            for tool in tools:
                plain = _UNFIT.sub("_", tool.name)[:64] or "tool"
                prefix = _UNFIT.sub("_", source)[:30]
                wanted = [plain, f"{prefix}_{plain}"[:64], *(f"{plain[:60]}_{n}" for n in range(2, MOST_TOOLS))]
                free = next((name for name in wanted if name not in named), None)
                if free is not None and len(named) < MOST_TOOLS:
                    named[free] = tool
        return named


def _where(tool: Tool) -> str:
    return f"in {tool.origin}" if tool.origin else "of the program"
