"""Gemini: `POST /models/MODEL:streamGenerateContent?alt=sse`, and `:generateContent` for an answer in one piece.

The base URL ends in the version of the API (`https://generativelanguage.googleapis.com/v1beta`); the key goes into the
header `x-goog-api-key`. What the model thought goes back to it as signatures on the parts of its answers: these are
kept as they came, and in their order (https://ai.google.dev/gemini-api/docs/thought-signatures).
"""

from __future__ import annotations

import re
import urllib.parse
from typing import Any

import msgspec

from realtime_client.changes import ToolSpec
from realtime_client.history import Call, Image, Opaque, Part, ProviderState, Result, Text
from realtime_client.updates import Usage

from . import pieces as pc
from .ask import GONE, Ask, HttpRequest, Media, ModelInfo, json_request
from .faults import Fault, classify, error_in, malformed, refused
from .reader import CallBuilder, Reader, count, decode, decode_as, json_text, wanted_back
from .schema import inlined
from .turns import Turn, arguments_of, completed, image_of, state_of, turns

_PROVIDER = "gemini"
_UNSIGNED = "skip_thought_signature_validator"
"""The signature that Google documents for calls that another model made."""

# --- the request ------------------------------------------------------------------------------------------------------


class Gemini:
    """Google's own API for its models."""

    name = _PROVIDER
    prefills = False
    images = True

    def request(self, ask: Ask) -> HttpRequest:
        """Return the request. `ask.options` may add to `generationConfig`, too; `ask.without` leaves out of it."""
        where = ask.model if "/" in ask.model else f"models/{ask.model}"
        how = "streamGenerateContent?alt=sse" if ask.stream else "generateContent"
        return json_request(f"/{urllib.parse.quote(where)}:{how}", self._body(ask), stream=ask.stream)

    def _body(self, ask: Ask) -> dict[str, Any]:
        system, told = turns(ask, _PROVIDER)
        body: dict[str, Any] = {"contents": [content for turn in told for content in _contents(turn, ask.media)]}
        if system:
            body["systemInstruction"] = {"parts": [{"text": system}]}
        if ask.tools:
            body["tools"] = [{"functionDeclarations": [_declared(tool) for tool in ask.tools]}]
            body["toolConfig"] = {"functionCallingConfig": _calling(ask.tool_choice)}
        config: dict[str, Any] = {}
        if ask.max_tokens is not None:
            config["maxOutputTokens"] = ask.max_tokens
        if ask.temperature is not None:
            config["temperature"] = ask.temperature
        if ask.think is not None and "think" not in ask.without:
            config["thinkingConfig"] = {"includeThoughts": bool(ask.think)}
            if isinstance(ask.think, str):
                config["thinkingConfig"]["thinkingLevel"] = ask.think
        body["generationConfig"] = config
        return completed(body, ask)

    def reader(self, stream: str) -> Reader:
        """Return what reads the answer."""
        return GeminiReader(stream)

    def models_request(self) -> HttpRequest | None:
        """Ask for the list of models."""
        return HttpRequest(method="GET", path="/models?pageSize=1000", headers={"Accept": "application/json"})

    def models(self, body: bytes) -> list[ModelInfo]:
        """Read the models that make text. Errors: ValueError."""
        found = msgspec.json.decode(body, type=_Models)
        return [
            ModelInfo(
                name=each.name.removeprefix("models/"),
                about=each.displayName or "",
                context=each.inputTokenLimit,
                abilities=tuple(each.supportedGenerationMethods),
            )
            for each in found.models
            if not each.supportedGenerationMethods or "generateContent" in each.supportedGenerationMethods
        ]


class _Model(msgspec.Struct):
    name: str
    displayName: str | None = None  # noqa: N815 - the wire's names
    inputTokenLimit: int | None = None  # noqa: N815
    supportedGenerationMethods: list[str] = []  # noqa: N815


class _Models(msgspec.Struct):
    models: list[_Model]


def _declared(tool: ToolSpec) -> dict[str, Any]:
    declared: dict[str, Any] = {"name": tool.name}
    if tool.description:
        declared["description"] = tool.description
    if tool.parameters:
        declared["parametersJsonSchema"] = inlined(tool.parameters)
    return declared


def _calling(choice: str) -> dict[str, Any]:
    modes = {"auto": "AUTO", "none": "NONE", "required": "ANY"}
    return {"mode": modes[choice]} if choice in modes else {"mode": "ANY", "allowedFunctionNames": [choice]}


def _contents(turn: Turn, media: Media) -> list[dict[str, Any]]:
    """A turn as contents: the results of calls, which stand alone and all together, then what was said."""
    parts: list[dict[str, Any]] = []
    for part in turn.parts:
        calls_before = any("functionCall" in each for each in parts)
        parts.append(state_of(part, _PROVIDER) or _part_of(part, media, first=not calls_before))
    said = {"role": "model" if turn.assistant else "user", "parts": parts}
    answers = {"role": "user", "parts": [_response(call, result) for call, result in turn.results]}
    return [content for content in (answers, said) if content["parts"]]


def _part_of(part: Part, media: Media, *, first: bool) -> dict[str, Any]:
    """A part that no Gemini made. first: no call stands before it in its content, so a call needs a signature."""
    if isinstance(part, Call):
        call = {"id": part.call_id, "name": part.name, "args": arguments_of(part)}
        return {"functionCall": call} | ({"thoughtSignature": _UNSIGNED} if first else {})
    if isinstance(part, Image):
        image = image_of(part, media)
        if image is None:
            return {"text": GONE}
        kind, data = image
        return {"inlineData": {"mimeType": kind, "data": data}} if kind else {"fileData": {"fileUri": data}}
    assert isinstance(part, Text)
    return {"text": part.text}


def _response(call: Call, result: Result) -> dict[str, Any]:
    """What a tool returned; an object, so anything else is put into one. Without an id, the order tells whose it is."""
    state = state_of(call, _PROVIDER)
    call_id = state["functionCall"].get("id") if state else call.call_id
    try:
        value = decode(result.output.encode("utf-8", "replace"))
    except msgspec.DecodeError:
        value = result.output
    response = value if isinstance(value, dict) else {"result": value}
    return {"functionResponse": ({"id": call_id} if call_id else {}) | {"name": call.name, "response": response}}


# --- the answer -------------------------------------------------------------------------------------------------------

_FILTERED = "SAFETY RECITATION BLOCKLIST PROHIBITED_CONTENT SPII MODEL_ARMOR IMAGE_SAFETY IMAGE_PROHIBITED_CONTENT"
_REASONS: dict[str, pc.Reason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
    **dict.fromkeys(_FILTERED.split(), "content_filter"),
}
_MALFORMED = {"MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE", "OTHER"}


class _Content(msgspec.Struct, gc=False):
    parts: list[dict[str, Any]] | None = None


class _Candidate(msgspec.Struct, gc=False):
    content: _Content | None = None
    finishReason: str | None = None  # noqa: N815
    index: int | None = None


class _Chunk(msgspec.Struct, gc=False):
    candidates: list[_Candidate] | None = None
    promptFeedback: dict[str, Any] | None = None  # noqa: N815
    usageMetadata: dict[str, Any] | None = None  # noqa: N815
    error: Any = None


_CHUNKS = msgspec.json.Decoder(_Chunk | list[_Chunk])  # a list where `alt=sse` is not understood


class GeminiReader(Reader):
    """Reads the answer of a Gemini."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._thoughts: list[str] = []  # unsigned, in a row
        self._figures: dict[str, Any] = {}
        self._stop = False  # "STOP" came, before anything else did

    def _message(self, name: str, data: bytes) -> None:
        del name
        chunks = decode_as(_CHUNKS, data)
        for chunk in chunks if isinstance(chunks, list) else [chunks]:
            if self.over:
                return
            known = chunk.candidates or chunk.promptFeedback or chunk.usageMetadata
            if (chunk.error or not known) and self._refuse({"error": chunk.error} if chunk.error else decode(data)):
                return
            self._chunk(chunk)

    def _answer(self, body: bytes) -> None:
        self._message("", body)
        if not (self.over or self.began or self._reason or self._stop):
            raise msgspec.ValidationError("there is no answer in it")

    def _chunk(self, chunk: _Chunk) -> None:
        if chunk.usageMetadata:
            self._spent(chunk.usageMetadata)
        blocked = (chunk.promptFeedback or {}).get("blockReason")
        if blocked and not chunk.candidates:
            self._blocked(str(blocked))
            return
        for candidate in (chunk.candidates or ())[:1]:
            if candidate.index:
                continue  # one of several answers at once, which nobody asked for
            for part in (candidate.content and candidate.content.parts) or ():
                self._part(part)
            if candidate.finishReason:
                self._ended(candidate.finishReason)

    def _spent(self, figures: dict[str, Any]) -> None:
        """Take figures, which come with each chunk; one that is left out stays as it was."""
        figures = {**self._figures, **figures}
        if figures != self._figures:
            self._figures = figures
            self._used(usage_of(figures))

    def _blocked(self, reason: str) -> None:
        if self.began:
            self._ended(reason if reason in _REASONS else "SAFETY")
        else:
            self._fail(classify(None, f"content_filter {reason}", f"the provider does not answer this: {reason}"))

    def _ended(self, reason: str) -> None:
        """Note why it ends. What comes after a "STOP" says more, and some send one before anything else."""
        if reason == "STOP" and not self.began:
            self._stop = True
        elif self._reason is None or self._reason[0] == "stop":
            self._reason, self.finished = (_REASONS.get(reason, "other"), reason), True

    def _end(self) -> None:
        if self._whole is None and not self.over:
            self._take(self._frames.end())
        self.finished = self.finished or self._stop
        super()._end()

    def _finish(self) -> None:
        words = self._reason[1] if self._reason else "STOP"
        self._close_text()
        if words in _MALFORMED and not any(isinstance(part, Text | CallBuilder) for part in self._parts):
            self._fail(malformed(f"the model made an answer that its provider cannot read ({words})"))
            return
        self._reason = self._reason or ("stop", words)
        super()._finish()

    # --- its parts ----------------------------------------------------------------------------------------------------

    def _part(self, part: dict[str, Any]) -> None:
        call, text = part.get("functionCall"), part.get("text")
        if isinstance(call, dict):
            self._function(call, part)
        elif not isinstance(text, str):
            if part:  # code that ran, and what comes next year
                self._opaque(wanted_back(_PROVIDER, part))
        elif part.get("thought"):
            self._thought(text, part)
        else:
            if self._thoughts or "thoughtSignature" in part:  # signed parts stay as they are: never one with another
                self._close_text()
            self._text(text)
            if "thoughtSignature" in part:
                self._close_text(wanted_back(_PROVIDER, part))

    def _thought(self, text: str, part: dict[str, Any]) -> None:
        self._thinking(text)
        if "thoughtSignature" in part:
            self._opaque(wanted_back(_PROVIDER, part), text)
        elif text:
            if self._said:
                self._close_text()
            self._thoughts.append(text)

    def _close_text(self, state: ProviderState | None = None) -> None:
        if self._thoughts:
            text, self._thoughts = "".join(self._thoughts), []
            data = {"text": text, "thought": True}
            self._parts.append(Opaque(text=text, provider_state=wanted_back(_PROVIDER, data)))
        super()._close_text(state)

    def _function(self, call: dict[str, Any], part: dict[str, Any]) -> None:
        """Take a call. They come whole; in pieces, of which only the first has a name, only where that is asked for."""
        name, call_id = str(call.get("name") or ""), str(call.get("id") or "")
        pieces = bool(call.get("willContinue") or call.get("partialArgs")) or not name
        if name:
            arguments = "" if pieces else json_text(call.get("args") or {})
            self._call(object(), call_id, name, arguments).state = wanted_back(_PROVIDER, part)
        if pieces and self._calls:
            self._calls[-1].pieces = ["{"]  # never whole: it is shown, and not run

    # --- its errors ---------------------------------------------------------------------------------------------------

    def _refuse(self, value: Any) -> bool:
        found = error_in(value)
        if found is None:
            return False
        error = value.get("error")
        status = error.get("code") if isinstance(error, dict) else None
        if isinstance(status, int):  # it is what would have come with that status
            self._fail(_with_field(refused(status, {}, json_text(value).encode())))
        else:
            self._fail(classify(None, *found))
        return True

    def _judged(self, body: bytes) -> Fault:
        return _with_field(super()._judged(body))


def _with_field(fault: Fault) -> Fault:
    """Name the field that models which do not think refuse."""
    refuses = fault.status == 400 and re.search(r"\bthinking", fault.message, re.IGNORECASE)
    return msgspec.structs.replace(fault, field="thinkingConfig") if refuses else fault


def usage_of(figures: dict[str, Any]) -> Usage:
    """Read `usageMetadata`, which counts up: thoughts are made, too, and what tools gave was read."""
    taken = count(figures.get("promptTokenCount")) + count(figures.get("toolUsePromptTokenCount"))
    made = count(figures.get("candidatesTokenCount")) + count(figures.get("thoughtsTokenCount"))
    read, cached = _by_kind(figures, "promptTokensDetails"), _by_kind(figures, "cacheTokensDetails")
    spoken = _by_kind(figures, "candidatesTokensDetails").get("AUDIO", 0)
    kept = count(figures.get("cachedContentTokenCount"))
    sounds, images = read.get("AUDIO", 0), read.get("IMAGE", 0)
    kept_sounds, kept_images = cached.get("AUDIO", 0), cached.get("IMAGE", 0)
    return Usage(
        input_tokens=taken,
        output_tokens=made,
        total_tokens=max(count(figures.get("totalTokenCount")), taken + made),
        input_text=max(0, taken - sounds - images),
        input_audio=sounds,
        input_image=images,
        cached=kept,
        cached_text=max(0, kept - kept_sounds - kept_images),
        cached_audio=kept_sounds,
        cached_image=kept_images,
        output_text=max(0, made - spoken),
        output_audio=spoken,
    )


def _by_kind(figures: dict[str, Any], name: str) -> dict[str, int]:
    details = figures.get(name)
    if not isinstance(details, list):
        return {}
    return {str(each.get("modality")): count(each.get("tokenCount")) for each in details if isinstance(each, dict)}
