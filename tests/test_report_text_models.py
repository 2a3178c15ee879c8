"""The report of a session with text models: what it shows of models, answers and thoughts, and what hostile text does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from recording_helpers import HandClock
from report_helpers import CHROMIUM, HOSTILE, Browser
from text_server import TextServer, answers, delta, drops, ends, refuses, stream

import realtime_client
from realtime_client import updates as up
from realtime_client.recording import Recorder
from realtime_client.report import write_report
from realtime_client.report.models import Models
from realtime_client.report.plots import per_second
from realtime_client.report.session_data import read_session

LIMIT_S = 30.0
FIRST, SECOND = "openai/first-model", "ollama/second"
FACTS = up.Facts(
    model=FIRST, modalities=("text",), abilities=up.Abilities(audio_in=False, images_in=False, truncation=False)
)


class Told:
    """A session of which everything is told here, on a clock set by hand, into a recorder."""

    def __init__(self, base: Path) -> None:
        self.clock = HandClock(0.0)
        self.recorder = Recorder.create(base, settings={"model": FIRST}, clock=self.clock)
        self._n = 0
        self.tell(up.SessionStarted(session_id="chat_1", facts=FACTS, settings={"models": [FIRST, SECOND]}))

    def tell(self, *updates: up.Update, after_s: float = 0.0) -> None:
        self.clock.now += after_s
        for update in updates:
            self.recorder.noticed(update, self.clock.now)

    def user(self, text: str) -> str:
        self._n += 1
        item = f"u{self._n}"
        self.tell(up.ItemAdded(item_id=item, role="user", item_type="message", text=text, local=True), after_s=1.0)
        return item

    def begins(self) -> dict[str, str]:
        self._n += 1
        self.tell(up.ResponseStarted(response_id=f"r{self._n}", request_id=f"q{self._n}"))
        return {"response_id": f"r{self._n}", "item_id": f"a{self._n}"}

    def says(self, answer: dict[str, str], text: str, every_s: float) -> None:
        for word in text.split(" "):
            self.tell(up.TextDelta(content_index=0, text=word + " ", **answer), after_s=every_s)

    def moves(self, answer: dict[str, str], offset: int, source: str, why: str) -> None:
        self.tell(
            up.Failure(message=why, error_type="network", benign=True, action="fallback", source=FIRST),
            up.AnswerSource(offset=offset, source=source, reason=why, **answer),
        )

    def done(self, answer: dict[str, str], text: str, tokens: int = 0, status: str = "completed") -> None:
        usage = up.Usage(
            input_tokens=5, output_tokens=tokens, total_tokens=5 + tokens, input_text=5, output_text=tokens
        )
        self.tell(
            up.TextDone(content_index=0, text=text, **answer),
            up.ItemDone(item_id=answer["item_id"], role="assistant", item_type="message", text=text),
            up.ResponseDone(
                response_id=answer["response_id"],
                status=status,
                text=text,
                item_ids=(answer["item_id"],),
                usage=usage if tokens else None,
            ),
        )

    def close(self) -> Path:
        self.recorder.close(ended="closed", stats={"text": {"breakers": {FIRST: {"state": "open"}}}})
        return self.recorder.folder


def make_conversation(base: Path, foreign: str = "") -> Path:
    """A chain of two: thinking, a retry, a death in mid-stream, alternatives, a breaker that opens, a refused turn.

    foreign: put into everything that a server or a model can say.
    """
    told = Told(base)
    told.user("Why is the sky blue?" + foreign)
    answer = told.begins()
    told.tell(
        up.Failure(message="busy" + foreign, error_type="application", benign=True, action="retry", source=FIRST),
        up.Notice(message="asking again" + foreign),
        after_s=0.5,
    )
    told.tell(up.ThinkingDelta(text="Rayleigh scattering, " + foreign, **answer), after_s=0.6)
    told.tell(up.ThinkingDelta(text="so short waves.", **answer), after_s=0.4)
    told.says(answer, "Because air scatters short waves of light most, ", 0.2)
    text = "Because air scatters short waves of light most,  "
    told.moves(answer, len(text), SECOND + foreign, "the answer was cut" + foreign)
    told.says(answer, "and those are the blue ones.", 0.1)
    text += "and those are the blue ones. "
    told.done(answer, text, tokens=28)
    told.tell(up.Alternatives(item_id=answer["item_id"], texts=(text, "It is not, at night." + foreign), chosen=0))
    told.tell(up.BreakerChanged(source=FIRST + foreign, state="open", reason="5 failures in a row" + foreign))
    told.user("And at dusk?")
    answer = told.begins()
    told.tell(up.AnswerSource(offset=0, source=SECOND, reason=f"{FIRST}: left alone for now" + foreign, **answer))
    told.says(answer, "Red" + foreign, 0.8)
    told.done(answer, "Red" + foreign + " ", tokens=2)
    refused = told.user("A question that nobody takes" + foreign)
    answer = told.begins()
    told.tell(up.Failure(message="no" + foreign, error_type="application", action="fatal", source=SECOND), after_s=0.3)
    told.tell(up.ResponseDone(response_id=answer["response_id"], status="failed", error="no" + foreign))
    told.tell(up.ItemDeleted(item_id=refused))
    return told.close()


def test_it_shows_who_answered_and_what_stands_beside_it(tmp_path):
    folder = make_conversation(tmp_path)
    page = write_report(folder).path.read_text()
    assert f'most,  <span title="the answer was cut" class="mark source">{SECOND}</span>and those' in page
    assert f'<span title="{FIRST}: left alone for now" class="mark source">{SECOND}</span>Red' in page
    assert "Answer 1 of 2" in page
    assert "It is not, at night." in page
    assert "Rayleigh scattering, so short waves." in page
    assert "<summary" in page.partition("Rayleigh")[0][-200:]
    assert "circuit breaker open" in page
    for fact in ("Asked again", "Fallbacks", "Tokens a second, median", "First text, median"):
        assert f"<dt>{fact}</dt>" in page, fact
    conversation = page.partition('id="conversation"')[2].partition("</section>")[0]
    assert "nobody takes" not in conversation, "it was taken back"
    assert "nobody takes" in page.partition('id="event-data"')[2], "the events have it"


def test_of_sound_it_says_nothing(tmp_path):
    page = write_report(make_conversation(tmp_path)).path.read_text()
    shown = page.partition("<body>")[2].partition("<script")[0].lower()
    for word in ("sound", "audio", "speech", "spoken", "heard", "hear it", "gap"):
        assert word not in shown.replace('class="hear"', ""), word


def test_times_count_from_the_request_that_belongs_to_the_answer(tmp_path):
    """Who begins an answer here tells of it before the request has left."""
    told = Told(tmp_path)
    for _ in range(2):
        told.user("Hi")
        answer = told.begins()
        told.clock.now += 0.001
        told.recorder.sent(b"{}", (), (up.RequestSent(),), told.clock.now)
        told.says(answer, "Hello", 0.5)
        told.done(answer, "Hello ")
    points = read_session(told.close()).events.latencies.points
    assert [ms for _, ms in points["first_text"]] == pytest.approx([501.0, 501.0], abs=1)
    assert [ms for _, ms in points["answer"]] == pytest.approx([501.0, 501.0], abs=1)


@pytest.mark.parametrize(
    ("arrivals_s", "tokens", "rates"),
    [
        ([], None, []),
        ([1.0], 5, []),  # nothing can be said of a single moment
        ([1.0, 1.5, 2.0], None, [2.0]),
        ([0.0, 0.25, 0.5], None, [4.0]),
        ([0.0, 0.25, 0.5], 30, [40.0]),
        ([n / 10 for n in range(26)], None, [10.0, 10.0, 10.0]),
    ],
)
def test_tokens_a_second(arrivals_s, tokens, rates):
    models = Models()
    models.take(up.ResponseStarted(response_id="r"), 0.0)
    for at_s in arrivals_s:
        models.take(up.TextDelta(response_id="r", item_id="i", content_index=0, text="x"), at_s)
    usage = None if tokens is None else up.Usage(output_text=tokens)
    models.take(up.ResponseDone(response_id="r", status="completed", usage=usage), 9.0)
    series = models.rates()
    found = [] if series is None else [value for _, value in series.points]
    assert found == [pytest.approx(rate, rel=0.02) for rate in rates]
    assert per_second(12.34) == "12.3/s"


def test_what_a_live_session_leaves_makes_a_report(tmp_path):
    dies, takes_over = stream(delta("One, "), drops), stream(delta("two."), ends())
    with TextServer(refuses(503), dies, takes_over, answers("Fine.")) as server:
        with realtime_client.connect(
            model="openai/test", url=server.url, token="sk-123456789", record_dir=str(tmp_path), retry_delay_s=0.01
        ) as session:
            session.ask("Count", timeout_s=LIMIT_S)
            session.ask("And you?", timeout_s=LIMIT_S)
    (folder,) = tmp_path.iterdir()
    data = read_session(folder)
    assert [(mark.kind, mark.source) for mark in data.events.models.marks] == [("retry", "openai/test")] * 2
    assert [stretch.source for stretch in data.events.models.stretches] == ["openai/test"] * 3
    page = write_report(folder).path.read_text()
    assert "Cost: not known" in page
    assert "sk-123456789" not in page
    assert json.loads((folder / "session.json").read_text())["retries"] == {"openai/test": 2}


# --- in a browser -----------------------------------------------------------------------------------------------------

in_browser = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@in_browser
def test_it_opens_without_complaint_and_unfolds(browser, tmp_path):
    written = write_report(make_conversation(tmp_path))
    with browser.page(written.path) as page:
        page.until("document.querySelectorAll('#event-rows tr').length > 5")
        assert page.js("document.querySelectorAll('#models svg.plot rect').length") >= 6
        assert page.js("document.querySelectorAll('#models .sign').length") == 4
        assert page.js("document.querySelectorAll('#models tbody tr').length") == 4
        assert page.js("document.querySelector('#models figure:last-of-type').innerText").startswith("Tokens a second")
        assert page.js("document.querySelector('.aside').open") is False
        page.click(".aside summary")
        page.until(
            "document.querySelector('.aside').open && document.querySelector('.aside p').getClientRects().length"
        )
        assert page.js("document.querySelectorAll('.aside li[aria-current]').length") == 1
        links = page.js("[...document.querySelectorAll('nav a')].map((a) => document.querySelector(a.hash) !== null)")
        assert links == [True] * 6
        assert page.js("document.querySelectorAll('#wave, #player, audio').length") == 0
        wide = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        assert page.js(wide)
        page.look(width=390, height=800)
        page.until(wide)
        assert page.complaints() == []
        assert page.requests() == []


@in_browser
def test_hostile_words_of_models_and_servers_do_nothing(browser, tmp_path):
    written = write_report(make_conversation(tmp_path, HOSTILE))
    with browser.page(written.path) as page:
        page.until("document.querySelectorAll('#event-rows tr').length > 5")
        page.js("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        assert page.js("window.acted") == 0
        assert (
            page.js("document.querySelectorAll('img, iframe, object, embed, svg svg, [onerror], [onload]').length") == 0
        )
        assert "alert(1)" in page.js("document.querySelector('#conversation').innerText")
        assert page.complaints() == []
        assert page.requests() == []
