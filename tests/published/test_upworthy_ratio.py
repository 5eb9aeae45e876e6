"""A real fault of assignment, found from the counts: see tests/data/upworthy/README.md."""

from __future__ import annotations

import csv
import gzip
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from bandit.arrays import BoolArray, FloatArray
from bandit.inference.sample_ratio import log_e_sample_ratio
from tests.simulations.making import Z

DATA = Path(__file__).parents[1] / "data" / "upworthy" / "packages.csv.gz"
ALPHA = 0.01


@dataclass(frozen=True)
class Archive:
    """Viewers per package of each test, one array per test; the tests of the time of the fault apart."""

    good: list[FloatArray]
    faulty: list[FloatArray]


@pytest.fixture(scope="module")
def archive() -> Archive:
    viewers: dict[tuple[str, str], list[float]] = {}
    with gzip.open(DATA, "rt") as lines:
        for row in csv.DictReader(lines):
            viewers.setdefault((row["random_ok"], row["test_id"]), []).append(float(row["impressions"]))
    return Archive(*([np.array(v) for (ok, _), v in viewers.items() if ok == asked] for asked in ("1", "0")))


def flagged(tests: list[FloatArray]) -> BoolArray:
    """Return whether some arm of a test is flagged under an equal split; each test is one epoch."""
    return np.array([
        log_e_sample_ratio(viewers[None], np.full((1, len(viewers)), 1.0 / len(viewers))).max()
        >= math.log(len(viewers) / ALPHA)
        for viewers in tests
    ])  # fmt: skip


def rejected(tests: list[FloatArray]) -> BoolArray:
    """Return whether Pearson's test rejects the equal split; unlike the flag it may be made only once."""
    return np.array([stats.chisquare(viewers).pvalue < ALPHA for viewers in tests])


def test_the_archive_has_these_tests(archive: Archive) -> None:
    assert (len(archive.good), len(archive.faulty)) == (2_272, 657)
    assert sum(map(len, archive.good + archive.faulty)) == 13_613


def test_most_tests_of_the_faulty_time_are_flagged(archive: Archive) -> None:
    by_flag, by_pearson = flagged(archive.faulty), rejected(archive.faulty)

    assert by_pearson.mean() == pytest.approx(0.79, abs=0.01)
    assert by_flag.mean() > 0.6
    assert by_flag[by_pearson].mean() > 0.75  # the price of being allowed to look at any time
    assert not np.any(by_flag & ~by_pearson)


def test_hardly_any_other_test_is_flagged(archive: Archive) -> None:
    """Pearson's test rejects 2 % of them: a few seem not to have been split equally either."""
    assert rejected(archive.good).mean() == pytest.approx(0.02, abs=0.005)
    assert flagged(archive.good).mean() <= ALPHA


def test_viewers_split_at_random_are_flagged_at_the_stated_error_or_less(archive: Archive) -> None:
    rng = np.random.default_rng(1)
    tests = [
        rng.multinomial(int(viewers.sum()), np.full(len(viewers), 1.0 / len(viewers))).astype(np.float64)
        for viewers in archive.good + archive.faulty
    ]

    bound = ALPHA + Z * math.sqrt(ALPHA * (1.0 - ALPHA) / len(tests))
    assert flagged(tests).mean() <= bound
    assert rejected(tests).mean() <= bound
