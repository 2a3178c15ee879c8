"""Whether two runs differ by more than chance. Pure; every rule names its source.

- Counts: Fisher's exact test, two-sided (Fisher, "Statistical Methods for Research Workers", 1934; the two-sided p is
  the sum over all tables that are no more likely, as in R's `fisher.test`).
- Figures: Mann and Whitney, "On a Test of Whether One of Two Random Variables is Stochastically Larger than the Other"
  (1947). Exact by the shift algorithm of Streitberg and Röhmel (1986), which allows for ties, up to `EXACT_PAIRS`
  pairs; above, the normal approximation with corrections for ties and continuity (Lehmann, "Nonparametrics", 1975).
- By how much: the median of all pairwise differences, and its interval from the same test (Hodges and Lehmann, 1963;
  Moses; in Hollander, Wolfe and Chicken, "Nonparametric Statistical Methods", 2014, section 4.2).
- Many tests at once: Holm, "A Simple Sequentially Rejective Multiple Test Procedure" (1979). Tests that could not have
  come out significant however the values had fallen do not count (Tarone, "A Modified Bonferroni Method for Discrete
  Data", 1990); which ones these are does not depend on how they came out.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

EXACT_PAIRS = 400
MAX_SIDE = 1_000  # values of each side from which pairwise differences are made
_TIE = 1 + 1e-7


class Test(NamedTuple):
    """p: how likely a difference this large is by chance alone. least_p: the smallest p for so many values."""

    p: float
    least_p: float


class Shift(NamedTuple):
    """By how much the second sample is greater, with an interval; infinite where there are too few values."""

    value: float
    low: float
    high: float


def fisher(passed_a: int, failed_a: int, passed_b: int, failed_b: int) -> Test:
    """Test whether two shares differ: two-sided exact p of a table of two by two."""
    row_a, row_b, passed = passed_a + failed_a, passed_b + failed_b, passed_a + passed_b
    chances = _table_chances(row_a, row_b, passed)
    seen = chances[passed_a - max(0, passed - row_b)] * _TIE
    rarest = min(chances) * _TIE
    return Test(
        min(1.0, math.fsum(chance for chance in chances if chance <= seen)),
        min(1.0, math.fsum(chance for chance in chances if chance <= rarest)),
    )


def _table_chances(row_a: int, row_b: int, passed: int) -> list[float]:
    """Return the chance of each table with these sums, from the fewest passed in a on (hypergeometric)."""

    def log_ways(n: int, k: int) -> float:
        return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)

    total = log_ways(row_a + row_b, passed)
    first, last = max(0, passed - row_b), min(row_a, passed)
    return [math.exp(log_ways(row_a, k) + log_ways(row_b, passed - k) - total) for k in range(first, last + 1)]


def mann_whitney(a: Sequence[float], b: Sequence[float]) -> Test:
    """Test whether one of two samples tends to be greater: two-sided p."""
    if not a or not b:
        return Test(1.0, 1.0)
    if len(a) * len(b) <= EXACT_PAIRS:
        return _exact(a, b)
    return _normal(a, b)


def shift(a: Sequence[float], b: Sequence[float], confidence: float = 0.95) -> Shift:
    """Return by how much b is greater than a: the median of b_j - a_i, with an interval.

    Of long samples evenly spaced quantiles stand for all values. Errors: ValueError for an empty sample.
    """
    import numpy as np

    if not a or not b:
        raise ValueError("both samples need values")
    left, right = _thinned(a), _thinned(b)
    differences = np.sort(np.subtract.outer(np.array(right, float), np.array(left, float)), axis=None)
    rank = _interval_rank(len(left), len(right), 1 - confidence)
    middle = float(np.median(differences))
    if rank < 1:
        return Shift(middle, -math.inf, math.inf)
    return Shift(middle, float(differences[rank - 1]), float(differences[-rank]))


def holm(tests: Sequence[Test], alpha: float = 0.05) -> list[float | None]:
    """Return each test's p corrected for their number; None for one that cannot be significant."""
    reach = _reachable([test.least_p for test in tests], alpha)
    counted = sorted((test.p, index) for index, test in enumerate(tests) if test.least_p <= reach)
    corrected: list[float | None] = [None] * len(tests)
    greatest = 0.0
    for place, (p, index) in enumerate(counted):
        greatest = max(greatest, min(1.0, (len(counted) - place) * p))
        corrected[index] = greatest
    return corrected


def can_tell(count_a: int, count_b: int, alpha: float = 0.05) -> bool:
    """Return whether so many values can prove anything: whether two entirely separate samples would be significant."""
    return 2 / math.comb(count_a + count_b, count_a) <= alpha


def repeats_needed(tests: int, alpha: float = 0.05) -> int:
    """Return how many values each side needs for each of so many comparisons to be able to be significant."""
    count = 1
    while not can_tell(count, count, alpha / max(1, tests)):
        count += 1
    return count


def _reachable(least: Sequence[float], alpha: float) -> float:
    """Return alpha / K for the smallest K such that no more than K tests can come below it (Tarone)."""
    for k in range(1, len(least) + 1):
        if sum(p <= alpha / k for p in least) <= k:
            return alpha / k
    return alpha


def _share(part: int, whole: int) -> float:
    return min(1.0, part / whole)


def _ranks(a: Sequence[float], b: Sequence[float]) -> tuple[list[int], list[int]]:
    """Return twice the rank of each value (tied ones share the middle), first a's, then b's; and sizes of the ties."""
    values = [*a, *b]
    order = sorted(range(len(values)), key=values.__getitem__)
    doubled = [0] * len(values)
    ties: list[int] = []
    start = 0
    while start < len(order):
        end = start
        while end + 1 < len(order) and values[order[end + 1]] == values[order[start]]:
            end += 1
        for place in range(start, end + 1):
            doubled[order[place]] = start + end + 2
        ties.append(end - start + 1)
        start = end + 1
    return doubled, ties


def _exact(a: Sequence[float], b: Sequence[float]) -> Test:
    """Count the ways to draw len(a) of all ranks, by their sum."""
    doubled, _ = _ranks(a, b)
    ways = _rank_sums(doubled, len(a))
    total = math.comb(len(doubled), len(a))
    middle = len(a) * (len(doubled) + 1)  # twice the expected sum of ranks
    seen = abs(sum(doubled[: len(a)]) - middle)
    distances = {s: abs(s - middle) for s, count in enumerate(ways) if count}
    farthest = max(distances.values())
    p = sum(ways[s] for s, distance in distances.items() if distance >= seen)
    least = sum(ways[s] for s, distance in distances.items() if distance >= farthest)
    return Test(_share(p, total), _share(least, total))


def _rank_sums(doubled: Sequence[int], size: int) -> list[int]:
    """Return for each sum how many subsets of this size have it: a polynomial packed into one whole number for each k.

    Python multiplies whole numbers of any length at once, so one shift adds one rank to all sums.
    """
    bits = math.comb(len(doubled), size).bit_length() + 1
    packed = [1] + [0] * size
    for done, rank in enumerate(doubled, 1):
        for k in range(min(size, done), 0, -1):
            packed[k] += packed[k - 1] << (rank * bits)
    mask, counts, rest = (1 << bits) - 1, [], packed[size]
    while rest:
        counts.append(rest & mask)
        rest >>= bits
    return counts


def _normal(a: Sequence[float], b: Sequence[float]) -> Test:
    n, m = len(a), len(b)
    doubled, ties = _ranks(a, b)
    u = sum(doubled[:n]) / 2 - n * (n + 1) / 2
    spread = _spread(n, m, ties)
    if spread == 0:
        return Test(1.0, 1.0)
    z = max(0.0, abs(u - n * m / 2) - 0.5) / spread
    farthest = (n * m / 2 - 0.5) / spread
    return Test(math.erfc(z / math.sqrt(2)), math.erfc(farthest / math.sqrt(2)))


def _spread(n: int, m: int, ties: Sequence[int]) -> float:
    """Return the standard deviation of U under the hypothesis of no difference."""
    total = n + m
    tied = sum(t**3 - t for t in ties) / (total * (total - 1))
    return math.sqrt(max(0.0, n * m / 12 * (total + 1 - tied)))


@functools.lru_cache(maxsize=256)
def _interval_rank(n: int, m: int, alpha: float) -> int:
    """Return which of the sorted differences is the interval's end (from 1, from both sides); 0 for none."""
    if n * m > EXACT_PAIRS:
        from statistics import NormalDist

        z = NormalDist().inv_cdf(1 - alpha / 2)
        return math.floor(n * m / 2 - z * _spread(n, m, ()))
    ways = _rank_sums([2 * rank for rank in range(1, n + m + 1)], n)
    total, below, rank = math.comb(n + m, n), 0, 0
    for u in range(n * m + 1):
        below += ways[n * (n + 1) + 2 * u]
        if 2 * below > alpha * total:
            break
        rank = u + 1
    return rank


def _thinned(values: Sequence[float]) -> list[float]:
    ordered = sorted(values)
    if len(ordered) <= MAX_SIDE:
        return ordered
    step = (len(ordered) - 1) / (MAX_SIDE - 1)
    return [ordered[round(index * step)] for index in range(MAX_SIDE)]
