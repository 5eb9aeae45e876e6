"""Recorded experiments as worlds: what would a policy have gained where a fixed split was used?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bandit.arrays import FloatArray, IntArray
from bandit.errors import Problem
from bandit.experiment import Experiment, parse
from bandit.experiment_rules import MOST_VARIANTS
from simulations.compare import Watcher, under
from simulations.recorded import InvalidRecords, RecordedTest
from simulations.runner import run_epochs
from simulations.scores import Estimate
from simulations.worlds import Successes


@dataclass(frozen=True, slots=True)
class Truths:
    """Tests with an estimate of what was true in them.

    Attributes:
        tests: Those that are replayed.
        rates: True click rate per arm of each test, shapes (n_arms of the test,).
        spread: τ, the standard deviation between arms relative to the rate of their test, of all tests.
        left_out: How many tests are not replayed, by reason: `no_clicks`, `one_arm`, `too_many_arms`.
    """

    tests: Sequence[RecordedTest]
    rates: Sequence[FloatArray]
    spread: float
    left_out: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ReplayScore:
    """What a policy gains over the equal split, summed over all tests.

    Attributes:
        gain_over_fixed: Σ expected clicks / Σ those of the equal split − 1.
        regret_removed: 1 − Σ regret / Σ that of the equal split.
    """

    gain_over_fixed: Estimate
    regret_removed: Estimate

    def to_dict(self) -> dict[str, object]:
        """Return JSON values."""
        return {**self.gain_over_fixed.fields("gain_over_fixed"), **self.regret_removed.fields("regret_removed")}


@dataclass(frozen=True, slots=True)
class Replay:
    """What policies came to on recorded tests.

    Attributes:
        truths: The tests.
        seed: Repeats the same numbers on the same versions.
        replications: Runs of each test.
        policies: Scores by name; beside a policy the same one under the other choice of floors.
    """

    truths: Truths
    seed: int
    replications: int
    policies: Mapping[str, ReplayScore]

    def to_dict(self) -> dict[str, object]:
        """Return the JSON contract, schema 1."""
        return {
            "schema": 1,
            "seed": self.seed,
            "replications": self.replications,
            "tests": len(self.truths.tests),
            "left_out": dict(self.truths.left_out),
            "policies": {name: score.to_dict() for name, score in self.policies.items()},
        }


def truths_of(records: Sequence[RecordedTest]) -> Truths:
    """Return what is replayed, with the arms' rates shrunk toward the rate of their test.

    With m the pooled rate of a test, the rate of arm i is m + w_i (c_i/n_i − m), where
    w_i = τ²m² / (τ²m² + m(1−m)/n_i): the share of the observed spread that is not sampling noise. Unshrunk
    rates would promise gains that are luck. τ² is one number for all tests, by moments:

        Σ over tests of [Σ_i (c_i/(n_i m) − 1)² − (1 − 1/K) Σ_i (1−m)/(m n_i)]  /  Σ (K − 1),  at least 0.

    Tests without clicks have no rate, tests with one arm no choice: they are left out, as are those with more arms
    than an experiment can have.

    Raises:
        InvalidRecords: No test is left.
    """
    reasons = [_why_left_out(test) for test in records]
    tests = [test for test, reason in zip(records, reasons, strict=True) if reason is None]
    left_out = {why: reasons.count(why) for why in ("no_clicks", "one_arm", "too_many_arms")}
    if not tests:
        counted = ", ".join(f"{why} {count}" for why, count in left_out.items())
        raise InvalidRecords([Problem("", f"no test to replay ({counted}); needs two arms or more and a click")])
    variance = between_arm_variance(tests)
    return Truths(tests, [_rates(test, variance) for test in tests], math.sqrt(variance), left_out)


def _why_left_out(test: RecordedTest) -> str | None:
    if len(test.clicks) < 2:
        return "one_arm"
    if len(test.clicks) > MOST_VARIANTS:
        return "too_many_arms"
    return None if any(test.clicks) else "no_clicks"


def between_arm_variance(tests: Sequence[RecordedTest]) -> float:
    """Return τ², see `truths_of`, of one test or more."""
    excess, freedom = 0.0, 0
    for test in tests:
        n, c, m = _counts(test)
        k = len(n)
        excess += float(((c / (n * m) - 1.0) ** 2).sum() - (1.0 - 1.0 / k) * ((1.0 - m) / (m * n)).sum())
        freedom += k - 1
    return max(excess / freedom, 0.0)


def _rates(test: RecordedTest, variance: float) -> FloatArray:
    n, c, m = _counts(test)
    between = variance * m * m
    if between == 0.0:
        return np.full(len(n), m)
    return np.asarray(m + between / (between + m * (1.0 - m) / n) * (c / n - m))


def _counts(test: RecordedTest) -> tuple[FloatArray, FloatArray, float]:
    """Return impressions and clicks per arm, and the pooled rate."""
    n, c = np.asarray(test.impressions, np.float64), np.asarray(test.clicks, np.float64)
    return n, c, float(c.sum() / n.sum())


def replay(
    truths: Truths,
    policies: Sequence[str],
    *,
    floor: float | None = None,
    control_floor: float | None = None,
    seed: int = 1,
    replications: int = 1,
    watch: Watcher | None = None,
) -> Replay:
    """Return what policies gain over the equal split on recorded tests.

    Each test is an experiment with its number of arms, a binary goal, no baseline, no warm-up (where one visitor in
    a hundred clicks, fifty users an arm tell nothing) and as many users as it had impressions; all else is the
    engine's default. Beside each policy that has floors the same one is run under the other choice: with the default
    floors if others are asked for, else without any, so that the price of floors can be read off.

    Args:
        truths: The tests.
        policies: Names among `simulations.compare.POLICIES`.
        floor: Least share of each arm; None: the engine's default.
        control_floor: Least share of control; None: the engine's default.
        seed: Not negative.
        replications: Runs of each test, 1 or more.
        watch: Called after each epoch with the name and users.

    Raises:
        InvalidInput: A policy is unknown or the floors do not fit a test.
    """
    for policy in policies:
        for size in sorted({len(rates) for rates in truths.rates}, reverse=True):
            under(_experiment(size), policy, floor, control_floor)  # floors must fit before minutes are spent
    scores: dict[str, ReplayScore] = {}
    for policy in policies:
        for name, floors in entries(policy, floor, control_floor).items():
            scores[name] = _replayed(truths, policy, floors, seed, replications, name, watch)
    return Replay(truths, seed, replications, scores)


Floors = tuple[float | None, float | None]


def entries(policy: str, floor: float | None, control_floor: float | None) -> dict[str, Floors]:
    """Return the runs that a policy is given, by name: its floors, and the other choice of floors."""
    if policy == "fixed":
        return {policy: (None, None)}
    if floor is None and control_floor is None:
        return {policy: (None, None), f"{policy} (no floors)": (0.0, 0.0)}
    return {policy: (floor, control_floor), f"{policy} (default floors)": (None, None)}


def _replayed(
    truths: Truths, policy: str, floors: Floors, seed: int, replications: int, name: str, watch: Watcher | None
) -> ReplayScore:
    """Run all tests, those of equally many arms together; rows are tests × replications."""
    arms = np.array([len(rates) for rates in truths.rates], dtype=np.int64)
    sums = np.zeros((4, len(arms)))
    sizes = np.unique(arms)
    for size, seeds in zip(sizes, np.random.SeedSequence(seed).spawn(len(sizes)), strict=True):
        which = np.flatnonzero(arms == size).tolist()
        rates = np.array([truths.rates[test] for test in which])
        horizons = np.array([sum(truths.tests[test].impressions) for test in which], dtype=np.int64)
        runs = run_epochs(
            under(_experiment(int(size)), policy, *floors),
            Successes(np.repeat(rates, replications, axis=0)),
            np.repeat(horizons, replications),
            seeds,
            None if watch is None else lambda users: watch(name, users),
        )
        mean_users = runs.assigned.reshape(len(which), replications, int(size)).mean(axis=1)
        sums[:, which] = _expected(mean_users, rates, horizons)
    return _score(*sums)


def _experiment(n_arms: int) -> Experiment:
    variants = [{"key": str(arm), "control": arm == 0} for arm in range(n_arms)]
    goal = {"metric": "clicked", "kind": "binary"}
    return parse({"key": "replay", "variants": variants, "goal": goal, "policy": {"warmup": 0}})


def _expected(users: FloatArray, rates: FloatArray, horizons: IntArray) -> FloatArray:
    """Return clicks and regret under the policy and under the equal split per test, shape (4, n_tests)."""
    clicks = (users * rates).sum(axis=-1)
    equal = horizons * rates.mean(axis=-1)
    most = horizons * rates.max(axis=-1)
    return np.array([clicks, equal, most - clicks, most - equal])


def _score(clicks: FloatArray, equal: FloatArray, regret: FloatArray, equal_regret: FloatArray) -> ReplayScore:
    gain, removed = ratio(clicks, equal), ratio(regret, equal_regret)
    return ReplayScore(
        Estimate(None if gain.value is None else gain.value - 1.0, gain.error),
        Estimate(None if removed.value is None else 1.0 - removed.value, removed.error),
    )


def ratio(above: FloatArray, below: FloatArray) -> Estimate:
    """Return Σ above / Σ below over tests, with its standard error over tests as the sample.

    It covers both sources of chance, which tests there were and the luck of each run. Reference: the ratio
    estimator, Cochran, Sampling Techniques (3rd ed.), section 6.4.
    """
    total, count = float(below.sum()), len(below)
    if total == 0.0:
        return Estimate(None, None)
    value = float(above.sum()) / total
    if count < 2:
        return Estimate(value, None)
    residuals = above - value * below
    return Estimate(value, math.sqrt(count / (count - 1.0) * float((residuals**2).sum())) / total)
