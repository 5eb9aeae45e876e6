"""Under steady load the server's memory and its write-ahead log stay as they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.soak import Sample, log_verdict, memory_verdict, soak, speed_verdicts

SECONDS = 24.0


def test_memory_and_log_stay_as_they_are_under_steady_load(tmp_path: Path) -> None:
    samples = soak(tmp_path, SECONDS, each=1.0)

    assert samples[-1].requests > 1_000
    for verdict in (memory_verdict(samples), log_verdict(samples)):
        assert verdict.good, verdict.sentence


def flat(n: int = 40) -> list[Sample]:
    """Return samples of a server that stays as it is: a thousand requests and two hundred new users each."""
    return [
        Sample(10.0 * i, 1000 * i, 200 * i, 100_000_000 + 24_000 * i, 1_000_000, 0.5, (1.0, 5.0), (2.0, 6.0))
        for i in range(1, n + 1)
    ]


def test_a_server_that_stays_as_it_is_passes() -> None:
    samples = flat()

    assert all(verdict.good for verdict in (memory_verdict(samples), log_verdict(samples), *speed_verdicts(samples)))


def test_a_leak_of_a_kilobyte_per_request_is_seen() -> None:
    samples = [replace(sample, memory=sample.memory + 1_000 * sample.requests) for sample in flat()]

    assert not memory_verdict(samples).good


@pytest.mark.parametrize("what", ["cpu", "choose", "reward"])
def test_requests_that_get_slower_are_seen(what: str) -> None:
    samples = flat()
    slower = {"cpu": 1.0, "choose": (1.0, 10.0), "reward": (4.0, 6.0)}[what]
    samples[30:] = [replace(sample, **{what: slower}) for sample in samples[30:]]  # type: ignore[arg-type]

    assert not all(verdict.good for verdict in speed_verdicts(samples))


def test_a_log_that_was_once_too_large_is_seen() -> None:
    samples = flat()
    samples[7] = replace(samples[7], log=70_000_000)

    assert not log_verdict(samples).good
