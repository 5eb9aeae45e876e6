"""The checks of guardrails: arms at their limit, arms beyond it, arms that get worse, certificates, interruptions.

The bound of a suspension is the sum of the shares of alpha that its limits and windows have, which is below the 0.8
alpha that all guardrails of the arms present at the start may spend.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from bandit.arrays import FloatArray, IntArray
from bandit.experiment import Experiment
from bandit.inference.breaches import log_e_of_bets, log_e_of_limit
from bandit.inference.shares import breach_level, decision_level
from bandit.inference.windows import log_price
from bandit.limits import limit_of
from bandit.measures import guardrail_measure, measures_of
from simulations.errors.arm_users import (
    LateAnswers,
    arm_starts,
    event_users,
    information,
    looks_at_bets,
    looks_at_calls,
    looks_at_events,
    returning_events,
    shares_of_calls,
    worse_later,
)
from simulations.errors.breach_looks import ArmLooks, most_of_bets, most_of_rate, plain
from simulations.errors.certified import (
    certified_means,
    certified_rates,
    certified_ratios,
    certified_unbounded_ratios,
    mean_before_cut,
)
from simulations.errors.checks import Check, Numbers, guarded
from simulations.errors.interrupted import Operator, interrupted_runs, is_wrong
from simulations.errors.records import record_runs
from simulations.errors.scenarios import asked
from simulations.errors.steered import Relative, observed_sums, steered_runs
from simulations.errors.worlds import Skewed, Truth, moving_rates, rates
from simulations.laws import Lognormal

ALLOWED = 1.2
"""A `max_increase` of 20 %, as a ratio."""

CAP = 5.0
"""Of costs whose mean is about 1."""


def checks() -> dict[str, Check]:
    """Return all checks by name, in the order of the table."""
    at_limits = (_rates, _calls, _means, _relative, _late_answers, _returning, _many)
    parts = (*at_limits, _delays, _changes, _certificates, _interrupted)
    return {check.name: check for part in parts for check in part()}


def _harm(limit: float, number: int = 0, per_user: str = "any") -> dict[str, object]:
    return {"metric": f"harm{number}", "kind": "binary", "max": limit, "per_user": per_user}


def _rates() -> Iterator[Check]:
    for limit, users in ((0.05, 10_000), (0.01, 20_000)):
        experiment = guarded([_harm(limit)])
        yield Check(
            f"at-limit-rate-{limit:g}", "an arm at its limit, a look at every value", "false suspension",
            breach_level(experiment), users, partial(_events, experiment, limit, users), quick=limit == 0.01,
        )  # fmt: skip


def _events(experiment: Experiment, rate: float, users: int, runs: int, seeds: np.random.SeedSequence) -> Numbers:
    rng = np.random.default_rng(seeds)
    return {"": np.isfinite(until_breach(experiment, event_users(rng, rate, users, runs), users)).astype(np.float64)}


def until_breach(experiment: Experiment, places: IntArray, users: int, window: int = 1) -> FloatArray:
    """Return the users of the arm until its first guardrail, of a rate, breaks its limit, shape (n_runs,).

    Args:
        experiment: Levels, epochs.
        places: Which users have an event, as from `event_users`.
        users: Of the arm.
        window: Which one of the users.

    Returns:
        Infinity where the limit is not broken.
    """
    return _until(experiment, looks_at_events(places, users, arm_starts(experiment, users)), places, window)


def _until(experiment: Experiment, looks: ArmLooks, places: IntArray, window: int = 1) -> FloatArray:
    limit = limit_of(experiment.guardrails[0])
    threshold = -math.log(breach_level(experiment)) + float(log_price(window)) - math.log(2.0)
    first = looks.first(log_e_of_limit(limit), most_of_rate(limit.declared), threshold)
    padded = np.concatenate([places.astype(np.float64), np.full((len(places), 1), np.inf)], axis=1)
    return np.asarray(padded[np.arange(len(places)), first])


def _calls() -> Iterator[Check]:
    rail = {"metric": "latency", "kind": "numeric", "quantile": 0.95, "max": 1.0}
    experiment, users, calls = guarded([rail]), 3_000, 3

    def numbers(runs: int, seeds: np.random.SeedSequence) -> Numbers:
        limit = limit_of(experiment.guardrails[0])
        rng = np.random.default_rng(seeds)
        found = shares_of_calls(rng, limit.declared, calls, 0.2, users, runs, apart=200.0)
        looks = looks_at_calls(*found, arm_starts(experiment, users))
        first = looks.first(log_e_of_limit(limit), most_of_rate(limit.declared), -math.log(breach_level(experiment)))
        return {"": (first < looks.looks.shape[1]).astype(np.float64)}

    yield Check(
        "at-limit-p95-calls", "an arm at its limit, a look at every value", "false suspension",
        breach_level(experiment), users * calls, numbers, chunk=100,
    )  # fmt: skip


def _means() -> Iterator[Check]:
    users = 4_000
    for metric, sigma in (("latency", 0.5), ("cost", 1.0), ("cost", 2.0)):
        experiment = guarded([{"metric": metric, "kind": "numeric", "max": 1.0}])
        yield Check(
            f"at-limit-mean-{sigma:g}", "an arm at its limit, a look at every value", "false suspension",
            breach_level(experiment), users, partial(_lognormals, experiment, sigma, users), chunk=50,
            quick=sigma == 2.0,
        )  # fmt: skip


def _lognormals(experiment: Experiment, sigma: float, users: int, runs: int, seeds: np.random.SeedSequence) -> Numbers:
    (rail,) = experiment.guardrails
    law = Lognormal(1.0, math.sqrt(math.expm1(sigma**2)))
    outcomes = law.draw(np.random.default_rng(seeds), runs * users).reshape(runs, users)
    measure = measures_of(experiment)[guardrail_measure(experiment, rail)]
    looks = looks_at_bets(measure, outcomes, arm_starts(experiment, users))
    first = looks.first(log_e_of_limit(limit_of(rail)), most_of_bets, -math.log(breach_level(experiment)))
    return {"": (first < users).astype(np.float64)}


def _relative() -> Iterator[Check]:
    group = "an arm at 1.2 × control, limits steer the allocation"
    harm = {"metric": "harm", "kind": "binary", "max_increase": ALLOWED - 1.0}
    cost = {"metric": "cost", "kind": "numeric", "max_increase": ALLOWED - 1.0, "cap": CAP}
    for name, rail, truth, bounds, users in (
        ("at-limit-ratio-drift", harm, _drifting, (0.0, 1.0), 10_000),
        ("at-limit-ratio-cost-cap", cost, _cut_costs, (0.0, CAP), 5_000),
    ):
        experiment = guarded([rail], kind="thompson", floor=0.05, control_floor=0.05)
        yield Check(
            name, group, "false suspension", breach_level(experiment), users,
            partial(_steered, experiment, truth, bounds, users), quick=rail is harm,
        )  # fmt: skip


def _drifting() -> Truth:
    """A base rate of 0.05 that swings by three fifths, twice in a run; the arm is at 1.2 times it."""

    def both(moment: float) -> list[float]:
        base = 0.05 * (1.0 + 0.6 * math.sin(4.0 * math.pi * moment))
        return [base, ALLOWED * base]

    return moving_rates(both)


def _cut_costs() -> Truth:
    """Costs with a log-sd of 1 that are cut; what is left has means of 0.8 and 1.2 times that."""
    return Skewed(1.0, (mean_before_cut(0.8, 1.0, CAP), mean_before_cut(0.8 * ALLOWED, 1.0, CAP)), CAP)


def _steered(
    experiment: Experiment,
    truth: Callable[[], Truth],
    bounds: tuple[float, float],
    users: int,
    runs: int,
    seeds: np.random.SeedSequence,
) -> Numbers:
    (rail,) = experiment.guardrails
    limited = Relative(limit_of(rail), truth(), bounds, rail.kind == "numeric")
    found = steered_runs(experiment, rates(0.5, 0.5), limited, users, runs, seeds)
    looks = found.looks(1)
    first = looks.first(log_e_of_bets, most_of_bets, -math.log(breach_level(experiment)))
    return {"": (first < looks.looks.shape[1]).astype(np.float64)}


def _late_answers() -> Iterator[Check]:
    limit, users = 0.01, 20_000
    experiment = guarded([_harm(limit)])
    for delay in (500, 2_000):

        def numbers(runs: int, seeds: np.random.SeedSequence, delay: int = delay) -> Numbers:
            places = event_users(np.random.default_rng(seeds), limit, users, runs)
            late, at = LateAnswers(experiment.guardrails[0], delay), arm_starts(experiment, users)
            readings = {"": True, "those-who-answered": False}
            return {
                name: np.isfinite(
                    _until(experiment, late.looks(places, users, at, all_at_risk=all_at_risk), places)
                ).astype(np.float64)
                for name, all_at_risk in readings.items()
            }

        yield Check(
            f"late-answers-{delay}", "an arm at 0.01: harm at once, clean answers later", "false suspension",
            breach_level(experiment), users, numbers, quick=delay == 500,
        )  # fmt: skip


def _returning() -> Iterator[Check]:
    limit, users, windows = 0.05, 4_000, 4
    experiment = guarded([_harm(limit, per_user="mean")])
    parts = sum(1.0 / (d * (d + 1.0)) for d in range(1, windows + 1))
    for correlation in (0.2, 0.5):

        def numbers(runs: int, seeds: np.random.SeedSequence, correlation: float = correlation) -> Numbers:
            rng = np.random.default_rng(seeds)
            each = returning_events(rng, limit, correlation, windows, users, runs)
            until = [until_breach(experiment, places, users, window) for window, places in enumerate(each, start=1)]
            return {"": np.isfinite(np.min(until, axis=0)).astype(np.float64)}

        yield Check(
            f"returning-{correlation:g}", f"an arm at 0.05: everybody comes back, {windows} windows",
            "false suspension", 2.0 * parts * breach_level(experiment), users * windows, numbers,
            quick=correlation == 0.5,
        )  # fmt: skip


def _many() -> Iterator[Check]:
    limits, users = (0.05, 0.01, 0.05), 20_000
    for treatments in (1, 3, 8):
        # The limits are tested one after the other, each as the first of an experiment of that size.
        sized = [guarded([_harm(limit, place) for place in range(3)], treatments + 1) for limit in limits]
        own = users // (treatments + 1)

        def numbers(
            runs: int, seeds: np.random.SeedSequence, sized: list[Experiment] = sized, own: int = own
        ) -> Numbers:
            rng = np.random.default_rng(seeds)
            until = [
                until_breach(experiment, event_users(rng, limit, own, runs), own)
                for experiment, limit in zip(sized, limits, strict=True)
                for _ in range(experiment.n_arms - 1)
            ]
            return {"": np.isfinite(np.min(until, axis=0)).astype(np.float64)}

        yield Check(
            f"at-limit-{treatments}x3", "treatments × 3 guardrails, all at their limits", "false suspension",
            treatments * 3 * breach_level(sized[0]), users, numbers, quick=treatments == 8,
        )  # fmt: skip


def _delays() -> Iterator[Check]:
    for limit in (0.05, 0.01):
        for treatments, rails in ((1, 1), (1, 3), (3, 1), (3, 3)):
            experiment = guarded([_harm(limit, place) for place in range(rails)], treatments + 1)
            for times in (1.5, 2.0, 3.0):
                target = -math.log(breach_level(experiment)) / information(times * limit, limit)
                users = math.ceil(2.0 * target)

                def numbers(
                    runs: int,
                    seeds: np.random.SeedSequence,
                    experiment: Experiment = experiment,
                    rate: float = times * limit,
                    users: int = users,
                ) -> Numbers:
                    rng = np.random.default_rng(seeds)
                    return {"": until_breach(experiment, event_users(rng, rate, users, runs), users)}

                yield Check(
                    f"delay-{limit:g}-{treatments}x{rails}-{times:g}",
                    f"limit {limit:g}, treatments × guardrails, level / limit", "delay", 1.2, users, numbers,
                    target=target, quick=(treatments, rails, times) == (3, 3, 2.0),
                )  # fmt: skip


def _changes() -> Iterator[Check]:
    for limit, change in ((0.05, 5_000), (0.01, 20_000)):
        experiment = guarded([_harm(limit)])
        for times in (2.0, 3.0):
            users = change + math.ceil(2.0 * change / times)

            def numbers(
                runs: int,
                seeds: np.random.SeedSequence,
                experiment: Experiment = experiment,
                change: int = change,
                rates: tuple[float, float] = (0.8 * limit, times * limit),
                users: int = users,
            ) -> Numbers:
                places = worse_later(np.random.default_rng(seeds), *rates, change, users, runs)
                looks = looks_at_events(places, users, arm_starts(experiment, users))
                both = {"": looks, "plain": plain(looks)}
                until = {name: _until(experiment, read, places) for name, read in both.items()}
                return {name: np.where(at <= change, np.nan, at - change) for name, at in until.items()}

            yield Check(
                f"change-{limit:g}-{times:g}", f"at 0.8 × {limit:g} for {change:,} users, then worse", "late change",
                1.0 / 3.0, users, numbers, quick=limit == 0.05,
            )  # fmt: skip


def _certificates() -> Iterator[Check]:
    group, users = "an arm at its limit, at every closing", 10_000
    rate = guarded([_harm(0.05)])
    at_least = -math.log(decision_level(rate))

    def of_rate(runs: int, seeds: np.random.SeedSequence) -> Numbers:
        found = certified_rates(rate, np.random.default_rng(seeds), 0.05, at_least, users, runs)
        return {"": found.astype(np.float64)}

    capped = guarded([{"metric": "cost", "kind": "numeric", "max": 1.0, "cap": CAP}])

    def of_mean(runs: int, seeds: np.random.SeedSequence) -> Numbers:
        measure = measures_of(capped)[guardrail_measure(capped, capped.guardrails[0])]
        found = certified_means(capped, np.random.default_rng(seeds), measure, 1.0, at_least, 4_000, runs)
        return {"": found.astype(np.float64)}

    adaptive = asked(users=users)

    def of_ratio(runs: int, seeds: np.random.SeedSequence, truth: Truth, *, bounded: bool) -> Numbers:
        running, limiting = seeds.spawn(2)
        record = record_runs(adaptive, rates(0.5, 0.5), users, runs, running)
        rng = np.random.default_rng(limiting)
        sums = np.stack(
            [truth.draw(rng, record.assigned[:, epoch], float(moment)) for epoch, moment in enumerate(record.moments)],
            axis=1,
        )
        observed = observed_sums(record.p, sums, (0.0, 1.0) if bounded else None)
        if bounded:
            found = certified_ratios(observed, adaptive.control, ALLOWED, at_least)
        else:
            found = certified_unbounded_ratios(adaptive, observed, ALLOWED, at_least)
        return {"": found[:, 1].astype(np.float64)}

    b = decision_level(rate)
    yield Check("certified-rate", group, "false certificate", b, users, of_rate, quick=True)
    yield Check("certified-mean-cap", group, "false certificate", b, 4_000, of_mean)
    yield Check(
        "certified-ratio", group, "false certificate", b, users, partial(of_ratio, truth=_drifting(), bounded=True)
    )
    yield Check(
        "certified-ratio-mean-1", group, "false certificate", b, users,
        partial(of_ratio, truth=Skewed(1.0, (1.0, ALLOWED)), bounded=False),
    )  # fmt: skip


def _interrupted() -> Iterator[Check]:
    experiment, users = asked(users=6_000, kind="fixed", min_batch=150), 6_000

    def numbers(runs: int, seeds: np.random.SeedSequence) -> Numbers:
        every = interrupted_runs(experiment, Operator(), users, runs, np.random.default_rng(seeds))
        return {
            name: is_wrong(experiment, every, whole=whole).astype(np.float64)
            for name, whole in (("", True), ("cut-short", False))
        }

    yield Check(
        "interrupted", "equal arms at 0.5; taken away after bad streaks, let in again", "goal",
        experiment.policy.alpha, users, numbers, quick=True,
    )  # fmt: skip
