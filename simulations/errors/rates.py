"""Error rates, coverage, width and power of the inference, under the engine's own allocation."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.special as sc

from bandit.arrays import FloatArray
from bandit.errors import InvalidInput, Problem
from bandit.learning import missing_value
from bandit.wording import received, unknown_name
from simulations.errors.checks import Check, CheckRow
from simulations.errors.guardrail_checks import checks
from simulations.errors.methods import SINGLE_LEVEL, verdicts
from simulations.errors.records import epoch_ends, record_runs
from simulations.errors.scenarios import Scenario, scenarios
from simulations.records import Record
from simulations.scores import Estimate

CHUNK = 250
"""Runs at a time: bounds memory (about 100 MB with ten arms), and stays in the cache with two."""

Watch = Callable[[int], None]
"""Is told after each chunk how many users it had, over its runs."""

BOUNDS: Mapping[str, tuple[float, float]] = {
    "any_time": (0.0, 0.05),
    "decision": (0.0, 0.05),
    "wrong_deploy": (0.0, 0.025),
    "coverage": (0.93, 0.965),
}
"""Where numbers have to lie, whatever the scenario."""

DRIFT_BOUNDS: Mapping[str, tuple[float, float]] = {"fixed_end": (0.0, 0.065)}
"""Where they have to lie in addition where the base rate moves."""

LUCK = 2.0
"""Standard errors by which a number may be out of its bounds."""

Asked = Scenario | Check
"""What can be asked for."""


@dataclass(frozen=True, slots=True)
class Row:
    """What came of one scenario, read in one way.

    Attributes:
        scenario: Which.
        reading: "" as the product does, else what was done instead.
        epochs: Looks of a run.
        numbers: By name: see `simulations.errors.methods.verdicts`; and `regret` per 1,000 users.
        median_users: Median of `decided_users`; None without an effect to find.
    """

    scenario: Scenario
    reading: str
    epochs: int
    numbers: Mapping[str, Estimate]
    median_users: float | None

    @property
    def name(self) -> str:
        """The scenario, with the reading if it is not the product's."""
        return f"{self.scenario.name}:{self.reading}" if self.reading else self.scenario.name

    @property
    def bounds(self) -> dict[str, tuple[float, float]]:
        """Where its numbers have to lie; nowhere if it is read as the product does not."""
        if self.reading:
            return {}
        return {**BOUNDS, **(DRIFT_BOUNDS if self.scenario.drifts else {})}

    @property
    def missed(self) -> tuple[str, ...]:
        """Names of numbers outside their bounds by more than luck explains: by over two standard errors."""
        return tuple(name for name, bounds in self.bounds.items() if _outside(self.numbers[name], bounds))

    def to_dict(self) -> dict[str, object]:
        """Return JSON values: each number with its standard error beside it."""
        experiment = self.scenario.experiment
        return {
            "group": self.scenario.group,
            "users": self.scenario.users,
            "arms": experiment.n_arms,
            "floors": list(experiment.floors),
            "min_batch": experiment.policy.min_batch,
            "epochs": self.epochs,
            "missed": list(self.missed),
            **{key: value for name, number in self.numbers.items() for key, value in number.fields(name).items()},
            "decided_users_median": self.median_users,
        }


@dataclass(frozen=True, slots=True)
class ErrorRates:
    """What came of all scenarios asked for.

    Attributes:
        seed: Repeats the same numbers on the same versions.
        replications: Runs of each scenario.
        rows: In the order of the scenarios.
        guardrails: In the order of the checks.
    """

    seed: int
    replications: int
    rows: tuple[Row, ...]
    guardrails: tuple[CheckRow, ...] = ()

    @property
    def missed(self) -> int:
        """How many rows, of either kind, have a number out of its bounds."""
        return sum(bool(row.missed) for row in self.rows) + sum(row.missed(LUCK) for row in self.guardrails)

    def to_dict(self) -> dict[str, object]:
        """Return the JSON contract, schema 1."""
        return {
            "schema": 1,
            "seed": self.seed,
            "replications": self.replications,
            "bounds": {name: list(bounds) for name, bounds in {**BOUNDS, **DRIFT_BOUNDS}.items()},
            "scenarios": {row.name: row.to_dict() for row in self.rows},
            "guardrails": {row.name: {**row.to_dict(), "missed": row.missed(LUCK)} for row in self.guardrails},
        }


def known() -> dict[str, Asked]:
    """Return all that can be asked for by name, in the order of the tables."""
    return {**scenarios(), **checks()}


def chosen(names: Sequence[str] | None = None, *, quick: bool = False) -> list[Asked]:
    """Return the scenarios and checks asked for, in the order of the tables.

    Args:
        names: Which; None: all.
        quick: Without names: only the few of a quick run.

    Raises:
        InvalidInput: A name is unknown.
    """
    every = known()
    if names is None:
        return [asked for asked in every.values() if asked.quick or not quick]
    for name in names:
        if name not in every:
            message = f"unknown scenario {received(name)}; {unknown_name(name, every)}"
            raise InvalidInput([Problem("only", message)])
    return [asked for name, asked in every.items() if name in names]


def error_rates(
    asked: Sequence[Asked], *, replications: int = 2_000, seed: int = 1, watch: Watch | None = None
) -> ErrorRates:
    """Return how often the inference errs in some scenarios, how much it finds, and whether guardrails keep promises.

    A scenario's numbers depend on the seed and its name alone, not on the others asked for.

    Args:
        asked: From `chosen`.
        replications: Runs of each, 1 or more.
        seed: Not negative.
        watch: Called after each chunk of runs.
    """
    rows: list[Row] = []
    guardrails: list[CheckRow] = []
    for one in asked:
        if isinstance(one, Check):
            guardrails += measure_check(one, replications, seed, watch)
        else:
            rows += measure(one, replications, seed, watch)
    return ErrorRates(seed, replications, tuple(rows), tuple(guardrails))


def measure_check(check: Check, replications: int, seed: int, watch: Watch | None = None) -> list[CheckRow]:
    """Return the rows of one check, one per reading."""
    parts = []
    for size, chunk in _chunks(check.name, check.chunk, replications, seed):
        parts.append(check.numbers(size, chunk))
        if watch is not None:
            watch(size * check.users)
    return check.rows({reading: np.concatenate([part[reading] for part in parts]) for reading in parts[0]})


def measure(scenario: Scenario, replications: int, seed: int, watch: Watch | None = None) -> list[Row]:
    """Return the rows of one scenario, one per reading."""
    parts: dict[str, list[Mapping[str, FloatArray]]] = {reading: [] for reading in scenario.readings}
    for size, chunk in _chunks(scenario.name, CHUNK, replications, seed):
        for reading, numbers in _chunk(scenario, size, chunk).items():
            parts[reading].append(numbers)
        if watch is not None:
            watch(size * scenario.users)
    return [_row(scenario, reading, numbers) for reading, numbers in parts.items()]


def _chunks(name: str, most: int, replications: int, seed: int) -> list[tuple[int, np.random.SeedSequence]]:
    """Return how many runs at a time, and the seed of each time."""
    seeds = np.random.SeedSequence([seed, zlib.crc32(name.encode())])
    sizes = [min(most, replications - start) for start in range(0, replications, most)]
    return list(zip(sizes, seeds.spawn(len(sizes)), strict=True))


def _chunk(scenario: Scenario, runs: int, seeds: np.random.SeedSequence) -> dict[str, Mapping[str, FloatArray]]:
    """Return the numbers of some runs, by reading."""
    experiment = scenario.experiment
    running, reading_seed = seeds.spawn(2)
    record = record_runs(experiment, scenario.truth, scenario.users, runs, running, scenario.window)
    means, welch_width = truths(scenario, record)
    effects = np.round(means - means[:, [experiment.control]], 12)
    treatments = np.arange(experiment.n_arms) != experiment.control
    regret = _regret(means, record) if effects.any() else {}
    found: dict[str, Mapping[str, FloatArray]] = {}
    for name, reading in scenario.readings.items():
        looks, users = reading(experiment, record, effects, np.random.default_rng(reading_seed))
        numbers = verdicts(experiment, looks, effects[:, treatments], users, welch_width[treatments])
        found[name] = {**numbers, **regret}
    return found


def truths(scenario: Scenario, record: Record) -> tuple[FloatArray, FloatArray]:
    """Return the true mean of each arm by epoch, and how wide Welch's 95 % interval is after an equal split.

    Returns:
        Shapes (n_epochs, n_arms) and (n_arms,). Means are those of users who count.
    """
    experiment = scenario.experiment
    value = missing_value(experiment)
    moments = np.stack([scenario.truth.moments(float(moment), value) for moment in record.moments])
    means = moments[..., 1] / moments[..., 0]
    users = np.diff(record.ends, prepend=0)
    overall = np.average(moments, axis=0, weights=users)
    variance = overall[:, 2] / overall[:, 0] - (overall[:, 1] / overall[:, 0]) ** 2
    error2 = variance / (overall[:, 0] * scenario.users / experiment.n_arms)
    return means, 2.0 * float(sc.ndtri(1.0 - SINGLE_LEVEL / 2.0)) * np.sqrt(error2 + error2[experiment.control])


def _regret(means: FloatArray, record: Record) -> dict[str, FloatArray]:
    """Return the expected reward that was given away, per 1,000 users."""
    gaps = means.max(axis=-1, keepdims=True) - means
    return {"regret": 1_000.0 * (record.assigned * gaps).sum(axis=(1, 2)) / record.ends[-1]}


def _row(scenario: Scenario, reading: str, parts: Sequence[Mapping[str, FloatArray]]) -> Row:
    numbers = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    median = float(np.median(numbers["decided_users"])) if "decided_users" in numbers else None
    epochs = len(epoch_ends(scenario.experiment.policy, scenario.users))
    return Row(scenario, reading, epochs, {name: Estimate.of(values) for name, values in numbers.items()}, median)


def _outside(number: Estimate, bounds: tuple[float, float]) -> bool:
    if number.value is None:
        return False
    room = LUCK * (number.error or 0.0)
    return not bounds[0] - room <= number.value <= bounds[1] + room
