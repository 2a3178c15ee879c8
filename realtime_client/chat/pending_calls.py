"""Calls of tools and what was said meanwhile, in the order that the wires of text models demand. Pure.

While tools work, the talk goes on: the model may answer something else before a call has its result. Every wire wants
each call's result right behind the message that called, and most of them a request that does not end with an answer.
"""

from __future__ import annotations

from collections.abc import Container, Iterable

from realtime_client.history import Call, Entry, Result, Text

from .selection import GO_ON

STILL_AT_WORK = "This call is still at work; its result follows. Do not call it again."
HAS_COME = "The result of a call that was at work has come: it stands behind the call. Answer with it."
"""What the model is told last when it has answered something else meanwhile."""


def with_results(
    entries: Iterable[Entry], open_calls: Container[str], *, about_results: bool = False
) -> tuple[Entry, ...]:
    """Return the entries with each result behind its call, and a word in the place of results that are still to come.

    open_calls: the ids of the calls whose results are still to come. about_results: the model is to speak about some
    that have come.
    """
    entries = tuple(entries)
    called = {part.call_id for entry in entries for _, part in entry.tools if isinstance(part, Call)}
    if not called:
        return entries
    results = {part.call_id: entry for entry in entries for _, part in entry.tools if isinstance(part, Result)}
    told: list[Entry] = []
    for entry in entries:
        tools = [part for _, part in entry.tools]
        alone = tools and len(tools) == len(entry.parts)
        if alone and all(isinstance(part, Result) and part.call_id in called for part in tools):
            continue  # it stands behind its call
        told.append(entry)
        for part in tools:
            if isinstance(part, Call):
                result = results.get(part.call_id)
                if result is not None:
                    told.append(result)
                elif part.call_id in open_calls:
                    waits = Result(call_id=part.call_id, output=STILL_AT_WORK, name=part.name)
                    told.append(Entry(id=f"waits_{part.call_id}", role="tool", parts=(waits,)))
    if about_results and told[-1].role == "assistant":
        told.append(Entry(id=GO_ON, role="user", parts=(Text(text=HAS_COME),)))
    return tuple(told)
