"""What pieces and ends of a stream mean to those who watch. Pure."""

from __future__ import annotations

from realtime_client import updates as up
from realtime_client.escape import one_line

from .answering import Answering
from .wires import pieces as pc
from .wires.faults import EMPTY, Fault

ENDS: dict[str, tuple[str, str | None]] = {
    "stop": ("completed", None),
    "tool_calls": ("completed", None),
    "refusal": ("completed", None),
    "length": ("incomplete", "max_output_tokens"),
    "content_filter": ("incomplete", "content_filter"),
}
"""Status and reason of an answer, by the reason of its end."""


def shown(answer: Answering, piece: pc.Piece) -> list[up.Update]:
    """What a piece that is no text means to those who watch."""
    if isinstance(piece, pc.ThinkingPiece):
        return [up.ThinkingDelta(response_id=answer.response_id, item_id=answer.item_id, text=piece.text)]
    if isinstance(piece, pc.CallPiece) and piece.text:
        return [
            up.ToolCallDelta(
                response_id=answer.response_id, item_id=answer.item_id, call_id=piece.call_id, text=piece.text
            )
        ]
    if isinstance(piece, pc.CallCutPiece):
        return [up.Notice(message=f"the model's call of {piece.name or 'a tool'} is not whole: it is not run")]
    if isinstance(piece, pc.ProgressPiece):
        return [up.Progress(what=piece.stage, item_id=answer.item_id, text=piece.text)]
    return []


def nobody(notice: str) -> Fault:
    """No model of the chain may be asked. notice: why the last one may not."""
    message = f"no model can be asked now: {notice}" if notice else "no model can be asked now"
    return Fault(category="network", action="retry", message=message, trips=False)


def hook_failed(message: str, fault: Fault) -> Fault:
    """A hook failed while it looked at a fault."""
    message = one_line(f"{message} ({fault.message})", 300)
    return Fault(category="screen", action="fatal", message=message, trips=False)


def empty() -> Fault:
    """Success with nothing to show for it."""
    return Fault(category="protocol", action="restart", message="the answer is empty", code=EMPTY)
