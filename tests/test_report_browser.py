"""Reports in a real Chromium: what is seen, heard, typed and clicked, and what hostile text does (nothing)."""

import json

import numpy as np
import pytest
import soundfile
from report_helpers import CHROMIUM, Browser, make_hostile, make_run, make_session

from realtime_client.report import write_report

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    folder = make_session(tmp_path_factory.mktemp("session"))
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = make_run(tmp_path_factory.mktemp("run"))
    write_report(folder)
    return folder


def transcript(folder):
    return [json.loads(line) for line in (folder / "transcript.jsonl").read_text().splitlines()]


def position(page):
    return float(page.js("document.getElementById('wave').getAttribute('aria-valuenow')"))


def test_it_opens_without_complaint_and_asks_for_nothing(browser, session):
    with browser.page(session / "report.html") as page:
        page.until("document.querySelectorAll('#event-rows tr').length > 10")
        assert page.js("document.querySelectorAll('.turn').length") == len(transcript(session))
        text = page.js("document.body.innerText")
        for part in (
            "What happened then?",
            "get_weather",
            "Paris",
            "cut after 2.00 s",
            "the cable",
            "First audio",
            "1,234",
        ):
            assert part in text, part
        assert page.js("document.querySelectorAll('svg.plot circle').length") > 3
        drawn = "(() => { const c = document.getElementById('wave'); const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; return d.some((v) => v); })()"
        assert page.js(drawn)
        assert page.complaints() == []
        assert page.requests() == []


def test_a_turn_is_heard_from_its_start_to_its_end(browser, session):
    turn = transcript(session)[0]
    with browser.page(session / "report.html") as page:
        page.click("#turn-1 .hear")
        heard = page.until("window.heard.length && window.heard")
        page.until("document.getElementById('play').textContent === 'Stop'")
        page.until(f"Number(document.getElementById('wave').getAttribute('aria-valuenow')) > {turn['start_s'] + 0.1}")
        assert page.js("document.querySelector('.turn.now').id") == "turn-1"
        page.until("document.getElementById('play').textContent === 'Play'")  # by itself, at the end of the turn
        assert position(page) == pytest.approx(turn["end_s"], abs=0.02)
        assert page.complaints() == []
    wave, rate = soundfile.read(session / "conversation.wav")
    said = wave[round(turn["start_s"] * rate) : round(turn["end_s"] * rate), 0]
    assert sum(piece["duration"] for piece in heard) == pytest.approx(turn["end_s"] - turn["start_s"], abs=0.35)
    energy = sum(piece["rms"] ** 2 * piece["duration"] for piece in heard) / (turn["end_s"] - turn["start_s"])
    assert np.sqrt(energy) == pytest.approx(np.sqrt((said**2).mean()), rel=0.05)


def test_a_cut_answer_is_heard_as_far_as_it_was_heard(browser, session):
    turn = transcript(session)[1]
    with browser.page(session / "report.html") as page:
        last = "[...document.querySelectorAll('#turn-2 .s')].pop()"
        assert page.js(f"Number({last}.dataset.end)") == turn["end_s"]
        assert (
            page.js("[...document.querySelectorAll('#turn-2 .s')].map((s) => s.textContent).join(' ')")
            == turn["heard"].strip()
        )
        assert (
            page.js("document.querySelector('#turn-2 del').textContent").strip()
            == turn["text"][len(turn["heard"]) :].strip()
        )
        page.click("#turn-2 .s")
        [first, *_] = page.until("window.heard.length && window.heard")
        start = page.js("Number(document.querySelector('#turn-2 .s').dataset.start)")
        assert first["duration"] <= page.js("Number(document.querySelector('#turn-2 .s').dataset.end)") - start + 0.01
        assert first["rms"] > 0.01


def test_the_page_decodes_what_libsndfile_encoded(browser, session):
    with browser.page(session / "report.html") as page:
        clips = page.js("dataOf('about').clips")
        wave, rate = soundfile.read(session / "conversation.wav")
        for index, (side, start, frames) in enumerate(clips):
            decode = f"Array.from(decodeAdpcm(bytesOf('clip-{index}'), dataOf('about').blockBytes, {frames}))"
            heard = np.array(page.js(decode))
            said = wave[start : start + frames, side]
            assert 10 * np.log10((said**2).sum() / ((heard - said) ** 2).sum()) > 20
        assert page.js("dataOf('about').rate") == rate


def test_the_keyboard_is_enough(browser, session):
    with browser.page(session / "report.html") as page:
        page.key(" ")
        page.until("document.getElementById('play').textContent === 'Stop'")
        page.key(" ")
        page.until("document.getElementById('play').textContent === 'Play'")
        page.js("document.getElementById('wave').focus()")
        page.key("Home")
        assert position(page) == 0
        page.key("ArrowRight", shift=True)
        assert position(page) == pytest.approx(1)
        page.key("End")
        assert position(page) == pytest.approx(page.js("dataOf('about').seconds"), abs=0.01)
        page.js("document.querySelector('.hear').focus()")
        for key, expected in (
            ("ArrowDown", "turn-2"),
            ("ArrowDown", "turn-5"),
            ("ArrowDown", "turn-5"),
            ("ArrowUp", "turn-2"),
        ):
            page.key(key)
            assert page.js("document.activeElement.closest('.turn').id") == expected
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        assert page.js(outline) == "solid"
        page.key("ArrowRight")
        assert page.js("document.activeElement.className") == "s"
        page.key("Enter")
        page.until("document.getElementById('play').textContent === 'Stop'")
        assert page.js("document.querySelector('.turn.now').id") == "turn-2"


def test_tab_goes_through_the_page(browser, session):
    with browser.page(session / "report.html") as page:
        page.until("document.querySelectorAll('#event-rows tr').length")
        seen = []
        for _ in range(24):
            page.key("Tab")
            seen.append(
                page.js(
                    "document.activeElement.id || document.activeElement.className || document.activeElement.tagName"
                )
            )
        wanted = [
            "skip",
            "theme",
            "play",
            "left",
            "right",
            "wave",
            "who",
            "words",
            "hear",
            "direction",
            "type",
            "search",
        ]
        assert [name for name in seen if name in wanted] == wanted
        names = "[...document.querySelectorAll('button, input, select, [role=slider], [role=img]')].filter((e) => !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length)).length"
        assert page.js(names) == 0


def test_turns_and_events_are_filtered(browser, session):
    with browser.page(session / "report.html") as page:
        page.until("document.querySelectorAll('#event-rows tr').length")
        page.js("{ const w = document.getElementById('who'); w.value = 'tool'; w.dispatchEvent(new Event('change')); }")
        assert page.js("[...document.querySelectorAll('.turn:not([hidden])')].every((t) => t.matches('.tool'))")
        page.js("{ const w = document.getElementById('who'); w.value = ''; w.dispatchEvent(new Event('change')); }")
        page.js("document.getElementById('words').focus()")
        page.type("TRUMPET")
        page.until("document.getElementById('turns-shown').textContent.startsWith('1 of')")
        page.js(
            "{ const t = document.getElementById('type'); t.value = 'response.done'; t.dispatchEvent(new Event('change')); }"
        )
        rows = "[...document.querySelectorAll('#event-rows tr')].map((r) => r.children[2].textContent)"
        assert page.js(rows) == ["response.done"] * 3
        page.click("#event-rows summary")
        assert '"resp_1"' in page.until("document.querySelector('#event-rows pre')?.textContent")
        page.js("document.getElementById('search').focus()")
        page.type("cancelled")
        page.until("document.querySelectorAll('#event-rows tr').length === 1")


def test_light_and_dark(browser, session):
    ground = "getComputedStyle(document.body).backgroundColor"
    with browser.page(session / "report.html") as page:
        light = page.js(ground)
        page.look(dark=True)
        page.until(f"{ground} !== {json.dumps(light)}")
        dark = page.js(ground)
        page.click("#theme")
        assert page.js(ground) == light
        page.look(dark=False)
        page.click("#theme")
        assert page.js(ground) == dark
        assert page.js("document.getElementById('theme').getAttribute('aria-pressed')") == "true"


@pytest.mark.parametrize("kind", ["session", "run"])
def test_it_fits_a_narrow_window_and_paper(browser, request, kind):
    folder = request.getfixturevalue(kind)
    with browser.page(folder / "report.html", width=360, height=700) as page:
        assert page.js("document.documentElement.scrollWidth") <= 360
        page.call("Emulation.setEmulatedMedia", media="print")
        hidden = "[...document.querySelectorAll('.filters, #play')].every((e) => !e.getClientRects().length)"
        assert page.js(hidden)


def still(page):
    """Nothing has acted, nothing was added, nothing was asked for."""
    assert page.js("window.acted") == 0
    foreign = "document.querySelectorAll('img, iframe, object, embed, link, base, form, [onload], [onerror], svg script').length"
    assert page.js(foreign) == 0
    assert page.js("[...document.scripts].filter((s) => !s.type).length") == 1
    assert page.complaints() == []
    assert page.requests() == []
    bidi = "/[\\u202a-\\u202e\\u2066-\\u2069]/.test(document.documentElement.textContent)"
    assert not page.js(bidi)


def test_a_hostile_session_does_nothing(browser, tmp_path):
    folder = make_hostile(tmp_path)
    write_report(folder)
    with browser.page(folder / "report.html") as page:
        page.until("document.querySelectorAll('#event-rows tr').length")
        page.js("document.querySelectorAll('details').forEach((d) => (d.open = true))")
        page.until("document.querySelectorAll('#event-rows pre').length")
        assert "<img src=x onerror=alert(2)>" in page.js("document.querySelector('#turn-1').innerText")
        page.click("#turn-1 .hear")
        page.until("window.heard.length")
        assert page.js("document.documentElement.scrollWidth <= innerWidth")
        assert page.js("document.body.textContent.length") < 2_000_000
        still(page)


def test_a_hostile_run_does_nothing(browser, tmp_path):
    folder = make_run(tmp_path, hostile=True)
    write_report(folder)
    with browser.page(folder / "report.html") as page:
        page.js("document.querySelectorAll('details').forEach((d) => (d.open = true))")
        assert page.js("[...document.querySelectorAll('a')].every((a) => a.protocol === 'file:')")
        still(page)


def test_the_policy_stops_what_escaping_would_have_missed(browser, session):
    with browser.page(session / "report.html") as page:
        page.js(
            'document.body.insertAdjacentHTML(\'beforeend\', \'<img src="http://127.0.0.1:9/x" onerror="alert(1)"><p style="color:red">x</p>\')'
        )
        page.js("document.body.append(Object.assign(document.createElement('script'), {textContent: 'alert(2)'}))")
        assert page.js("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'stopped')") == "stopped"
        assert page.js("window.acted") == 0
        assert len(page.complaints()) >= 3


def test_a_runs_cases_are_filtered_sorted_and_lead_to_their_sessions(browser, run):
    shown = "[...document.querySelectorAll('#case-rows > tr:not([hidden]) .name')].map((n) => n.textContent)"

    def choose(field, value):
        page.js(
            f"{{ const f = document.getElementById('{field}'); f.value = {json.dumps(value)}; f.dispatchEvent(new Event('change')); }}"
        )

    with browser.page(run / "report.html") as page:
        assert page.js(shown) == ["weather-2", "greeting", "weather-1"], "what failed comes first"
        closed = page.js("[...document.querySelectorAll('#case-rows > tr')].map((r) => r.innerText)")
        assert "turn 1, contains: expected sunny, seen rainy" in closed[0]
        assert "HostUnreachableError: nothing listens there" in closed[1]
        assert page.js("document.querySelectorAll('#case-rows .reason').length") == 2
        choose("order", "planned")
        assert page.js(shown) == ["weather-1", "weather-2", "greeting"]
        choose("order", "duration")
        assert page.js(shown) == ["weather-2", "weather-1", "greeting"]
        choose("status", "failed")
        assert page.js(shown) == ["weather-2"]
        page.click("#case-rows > tr:not([hidden]) summary")
        inside = page.js("document.querySelector('#case-rows > tr:not([hidden]) details').innerText")
        for part in ("contains", "sunny", "rainy", "a.yaml:3:5", "get_weather", "cut after 0.30 s", "321 ms"):
            assert part in inside, part
        choose("status", "")
        tag = "[...document.getElementById('tag').options].find((o) => o.textContent === 'smoke').value"
        choose("tag", page.js(tag))
        assert page.js(shown) == ["weather-2", "weather-1"]
        page.js("document.getElementById('words').focus()")
        page.type("It is sunny")
        page.until(f"({shown}).length === 1")
        assert page.complaints() == []
        assert page.requests() == []
        page.click("#case-rows > tr:not([hidden]) a")
        page.until("document.getElementById('wave')")
        assert page.js("document.querySelectorAll('.turn').length") > 3
        assert page.js("document.querySelector('h1').textContent") == "weather-1"
        assert page.js("document.querySelector('.verdict').innerText") == "passed"
        page.click("a.back")
        page.until("document.getElementById('case-rows')")
        assert page.js("document.querySelector('h1').textContent") == "nightly"


@pytest.mark.parametrize(("width", "height", "share"), [(1100, 900, 0.3), (360, 740, 0.2)])
def test_the_player_covers_no_heading_and_is_small_on_a_phone(browser, session, width, height, share):
    box = "document.getElementById('player').getBoundingClientRect()"
    with browser.page(session / "report.html", width=width, height=height) as page:
        page.js("document.documentElement.style.scrollBehavior = 'auto'")
        for _ in range(2):  # the overview comes and goes with the stretch that is shown
            for part in ("conversation", "latency", "events", "usage", "turn-5"):
                page.until(f"parseFloat(getComputedStyle(document.documentElement).scrollPaddingTop) >= {box}.height")
                page.js(f"location.hash = '{part}'")
                heading = f"document.getElementById('{part}')"
                clear = f"{box}.top < 1 && {heading}.getBoundingClientRect().top >= {box}.bottom"
                page.until(f"({heading}.scrollIntoView(), {clear})")  # turns get their height when they come in sight
            assert page.js(f"{box}.height") < share * height
            page.js("document.getElementById('wider').click()")
        assert page.js("document.documentElement.scrollWidth") <= width
