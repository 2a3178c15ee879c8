"""How soon a lost session listens again, and what it costs in the user's words.

While a microphone sends 20 ms blocks in step with the clock, in a turn that is not over, the server resets the
connection. Measured is the time from the message that causes the reset until the session that takes its place has its
first block of the microphone; and, where the server refuses everybody for a while (HTTP 503), from the moment at which
it takes them again. The milliseconds of the user's sound that were lost, or came twice, are counted by their numbers
(`tests/ledger`).

How soon a connection that is half-open is noticed is measured by `half_open.py`.

    python scripts/bench/reconnect.py [TRIES] [GAP_S...]
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from ledger import BLOCK_MS, BLOCK_SAMPLES, LedgerServer, block

from realtime_client import updates as up
from realtime_client.batch.results.summary import spread
from realtime_client.client.client import RealtimeClient
from realtime_client.client.endpoint import Endpoint
from realtime_client.protocol import events as ev
from realtime_client.protocol import session as wire
from realtime_client.session.limits import Recovery

WAIT_S = 120.0
BEFORE, AFTER = 25, 25  # blocks of the microphone before the loss, and after the return
CONFIG = wire.RealtimeConfig(
    audio=wire.Audio(input=wire.AudioInput(transcription=wire.Transcription(model="x"), turn_detection=None))
)


class Server(LedgerServer):
    """Resets its first connection when it is told to, and refuses others until `opens_s`."""

    def __init__(self) -> None:
        super().__init__(faults="rst@conversation.item.retrieve@connections=1")
        self.opens_s = 0.0
        self.heard_s = 0.0
        self.heard = threading.Event()

    def _engine(self, connection: Any) -> Any:
        engine = super()._engine(connection)
        later, conversation = len(self.books) > 1, self.books[-1].conversation
        receive = conversation.receive

        def noted(event: Any) -> Any:
            out = receive(event)
            if later and isinstance(event, ev.InputAudioBufferAppend) and not self.heard.is_set():
                self.heard_s = time.monotonic()
                self.heard.set()
            return out

        conversation.receive = noted
        return engine

    def _answer(self, *request: Any) -> Any:
        from realtime_client.local.http import Refused

        if time.monotonic() < self.opens_s:
            return Refused(status=503, code="server_busy", message="Not yet.")
        return super()._answer(*request)


def one(gap_s: float) -> tuple[float, int, int]:
    """(seconds until the first block, ms lost, ms twice)."""
    with Server() as server:
        recovery = Recovery(reconnect_s=WAIT_S)
        lost = threading.Event()
        with RealtimeClient(Endpoint(url=server.url, proxy=None), session=CONFIG, recovery=recovery) as client:
            client.observe(lambda update, _at_s: lost.set() if isinstance(update, up.ConnectionLost) else None)
            item_id = client.send_text("hello", respond=False).item_id
            due_s, number, stop_at, asked_s = time.monotonic(), 0, None, 0.0
            while stop_at is None or number < stop_at:
                time.sleep(max(0.0, due_s - time.monotonic()))
                due_s += BLOCK_MS / 1000
                number += 1
                client.send_audio(block(number))
                if number == BEFORE:
                    asked_s = time.monotonic()
                    server.opens_s = asked_s + gap_s
                    client.send_event(ev.ConversationItemRetrieve(item_id=item_id))
                    assert lost.wait(WAIT_S)
                if stop_at is None and server.heard.is_set():
                    stop_at = number + AFTER
                assert number * BLOCK_MS < WAIT_S * 1000
            client.commit()
            client.next_answer(after=client.respond, timeout_s=WAIT_S)
        heard = server.books[-1].heard
        spoken = Counter(dict.fromkeys(range(1, number + 1), BLOCK_SAMPLES))
        ms = BLOCK_SAMPLES // BLOCK_MS
        return server.heard_s - (asked_s + gap_s), (spoken - heard).total() // ms, (heard - spoken).total() // ms


def main() -> None:
    tries = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    gaps = [float(each) for each in sys.argv[2:]] or [0.0, 1.0, 5.0, 25.0, 60.0]
    print("gap (s)  tries  first block: p50 (ms)   p95   max  lost (ms)  twice (ms)")
    for gap_s in gaps:
        count = tries if gap_s == 0 else max(1, min(tries, round(20 / gap_s)))
        found = [one(gap_s) for _ in range(count)]
        took = spread([1000 * seconds for seconds, _, _ in found])
        assert took is not None
        lost, twice = sum(each for _, each, _ in found), sum(each for _, _, each in found)
        print(
            f"{gap_s:>7g}  {count:>5}  {took.p50:>21.0f} {took.p95:>5.0f} {took.max:>5.0f}  {lost:>9}  {twice:>10}",
            flush=True,
        )


if __name__ == "__main__":
    main()
