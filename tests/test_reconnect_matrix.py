"""Faults at all moments of a conversation, one alone and several together: what was said, and what became of it, is the
same on both sides afterwards (see `ledger` and `reconnect_stage`).

A sample here, drawn with REALTIME_SEED; `scripts/soak` runs all of it.
"""

from __future__ import annotations

import os
import random
import tempfile
from array import array
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, note, seed, settings
from hypothesis import strategies as st
from ledger import BLOCK_SAMPLES, block, order_of, read, samples_of, within, written
from reconnect_faults import ENDS, FAULTS, LINES, MOMENTS, REFUSALS, WHEN_FIRST, WHEN_LATER, Case
from reconnect_stage import run

SOAK = bool(os.environ.get("REALTIME_SOAK"))
SEED = int(os.environ.get("REALTIME_SEED") or 14)
SAMPLE = 16
PARTS, EXAMPLES = (40, 25) if SOAK else (2, 6)
PHASES = list(Phase) if SOAK else [Phase.generate]  # to make an example smaller takes minutes
ALL = [(case, moment) for case in FAULTS for moment in MOMENTS]
TELLING = {"quota, then close", "an error, then close 1000", "reset, and at the next answer"}
"""They found faults, and are always run."""


def sample() -> list[tuple[Case, str]]:
    told = [each for each in ALL if each[0].name in TELLING and each[1] in MOMENTS[:2]]
    return [*told, *random.Random(SEED).sample([each for each in ALL if each not in told], SAMPLE)]


@pytest.mark.parametrize(
    ("case", "moment"), [pytest.param(*each, id=f"{each[0].name}-{each[1]}-seed {SEED}") for each in sample()]
)
def test_a_fault_at_a_moment(case: Case, moment: str, tmp_path: Path) -> None:
    run(case, moment, tmp_path)


@st.composite
def several(draw: st.DrawFn) -> str:
    """One to three faults, each on the connection after the one before; and perhaps a bad line."""
    specs = [f"{draw(st.sampled_from(ENDS))}{draw(st.sampled_from(WHEN_FIRST))}@connections=1"]
    for connection in range(2, 2 + draw(st.integers(0, 2))):
        spec = draw(
            st.sampled_from(REFUSALS) | st.builds(str.__add__, st.sampled_from(ENDS), st.sampled_from(WHEN_LATER))
        )
        specs.append(f"{spec}@connections={connection}")
    return "; ".join([*specs, *draw(st.lists(st.sampled_from(LINES), max_size=1))])


@pytest.mark.parametrize("part", range(PARTS))
def test_several_faults(part: int) -> None:
    @seed(SEED * 1000 + part)
    @settings(
        max_examples=EXAMPLES, phases=PHASES, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(several(), st.sampled_from(MOMENTS))
    def hold(spec: str, moment: str) -> None:
        note(f"seed {SEED}, part {part}: {spec}, {moment}")
        with tempfile.TemporaryDirectory() as folder:
            run(Case("several", spec, heals=None), moment, Path(folder))

    hold()


# --- the ledger itself ------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(1, 3000), st.integers(0, 2 * BLOCK_SAMPLES)), unique_by=lambda each: each[0]))
def test_what_was_heard_can_be_written_down(counts: list[tuple[int, int]]) -> None:
    samples = Counter({number: count for number, count in counts if count})
    assert read(written(samples)) == samples


def test_what_is_missing_and_what_comes_twice_is_seen() -> None:
    sound = b"".join(block(number, speech=number > 1) for number in (1, 2, 3, 3, 5)) + block(6)[:100]
    assert samples_of(sound) == {2: 480, 3: 960, 5: 480, 6: 50}
    assert order_of(sound) == [2, 3, 5, 6]
    assert read(written(samples_of(sound))) == samples_of(sound)
    assert read("ok mic 1-2") == {}
    assert array("h", block(7, speech=False))[0] == -7


def test_stretches_that_were_lost_name_their_blocks() -> None:
    assert within([(10, 50)], {1: 0, 2: 20, 3: 40, 4: 60}) == {1: 240, 2: 480, 3: 240}
