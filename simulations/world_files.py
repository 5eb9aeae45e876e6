"""World files: text to `World`, with every fault in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import inf, isfinite
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, Field, ValidationError, ValidationInfo, field_validator

from bandit.errors import InvalidInput, Problem
from bandit.experiment import Experiment
from bandit.experiment_parts import NotNegative, Part, must, refuse
from bandit.experiment_problems import problems
from bandit.experiment_text import read_json, read_toml
from bandit.measures import FAILED, metric_bounds, metric_kinds
from bandit.wording import listed, path, received, unknown_name
from simulations.calendar_files import read_calendar
from simulations.correlation_files import read_correlations
from simulations.laws import Bounds, Discrete, Law, Lognormal, Normal, Rate
from simulations.worlds import Change, World, gradual

LARGEST = 1e12
"""Means and standard deviations beyond are refused: squares of outcomes would lose their digits."""

_MOST_USERS = 10**15
_KEYS = ("variants", "changes", "arrivals", "answers", "correlations")
_CHANGE_KEYS = ("after_users", "over_users", "variants")

_MOST_VALUES = 100_000

_finite: AfterValidator = must(isfinite, "a finite number")
_small: AfterValidator = must(lambda x: abs(x) <= LARGEST, "a number of size up to 1e12")


class InvalidWorld(InvalidInput):
    """A world file is not right for its experiment."""


class DiscreteTable(Part):
    """A numeric metric that has some values: scores, or a sample that was recorded.

    Attributes:
        law: `discrete`.
        values: The values, 1 to 100,000.
        weights: How often each comes, in any unit; default: all alike, as in a sample.
    """

    law: Literal["discrete"]
    values: list[Annotated[float, _finite, _small]] = Field(description="the values, such as [1, 2, 3, 4, 5]")
    weights: list[NotNegative] | None = Field(default=None, description="how often each comes, in any unit")

    @field_validator("values")
    @classmethod
    def _some_values(cls, values: list[float]) -> list[float]:
        if not 1 <= len(values) <= _MOST_VALUES:
            refuse("", f"received {len(values)} values, allowed: 1 to {_MOST_VALUES}")
        return values

    @field_validator("weights")
    @classmethod
    def _weight_each(cls, weights: list[float] | None, info: ValidationInfo) -> list[float] | None:
        values = info.data.get("values")
        if weights is not None and values is not None and (len(weights) != len(values) or not 0 < sum(weights) < inf):
            allowed = f"one for each of the {len(values)} values, not all 0"
            refuse("", f"received {len(weights)} weights that sum to {sum(weights):g}, allowed: {allowed}")
        return weights


class LawTable(Part):
    """How a numeric metric is distributed.

    Attributes:
        mean: Expected outcome of a user.
        sd: Standard deviation of the outcome, 0 or more.
        law: `normal` or `lognormal` (outcomes above 0, long right tail; both numbers are those of the outcome).
    """

    mean: Annotated[float, _small] = Field(description="the expected outcome of a user")
    sd: Annotated[NotNegative, _small] = Field(description="the standard deviation of a user's outcome")
    law: Literal["normal", "lognormal"] = "normal"


_LAWS = ("normal", "lognormal", "discrete")
_DISCRETE_KEYS = {"": {name: field.description for name, field in DiscreteTable.model_fields.items()}}
_LAW_KEYS = {"": {name: field.description for name, field in LawTable.model_fields.items()}}


def parse_world(experiment: Experiment, document: Mapping[str, object]) -> World:
    """Return the world that a mapping of plain values declares for an experiment.

    Args:
        experiment: Its variants and metrics may be named, and its goal must be.
        document: `{"variants": {variant: {metric: law}}}`; a law is a rate for a binary metric, a table of
            mean, sd and law for a numeric one. `"changes"`, a list of `{"after_users": N, "variants": …}`, gives new
            laws from the N-th user on, for whatever changes, gradually with `"over_users": M`. `"arrivals"` and
            `"answers"` give the world a clock: see `calendar_files`.

    Raises:
        InvalidWorld: With every fault of the mapping.
    """
    reader = _Reader(experiment)
    world = reader.world(document)
    if reader.found:
        raise InvalidWorld(reader.found)
    return world


def parse_world_toml(experiment: Experiment, text: str) -> World:
    """Return the world that a TOML text declares; see `parse_world`."""
    return parse_world(experiment, read_toml(text, "a world"))


def parse_world_json(experiment: Experiment, text: str | bytes) -> World:
    """Return the world that a JSON text declares; see `parse_world`."""
    return parse_world(experiment, read_json(text, "a world"))


class _Reader:
    """Reads a document and collects its faults in `found`."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.kinds = metric_kinds(experiment)
        self.found: list[Problem] = []

    def world(self, document: Mapping[str, object]) -> World:
        """Return the world, whole only if nothing was found."""
        for key in document:
            if key not in _KEYS:
                self._fault([key], f"unknown key; {unknown_name(str(key), _KEYS)}")
        laws = [self._variant(["variants"], arm, metrics) for arm, metrics in self._tables(document)]
        shared: dict[str, tuple[Law, ...]] = {}
        for metric in self.kinds:
            having = [arm for arm, known in zip(self.experiment.arms, laws, strict=False) if metric in known]
            if having and len(having) == len(laws) == self.experiment.n_arms:
                shared[metric] = tuple(found for known in laws if (found := known[metric]) is not None)
            elif laws:
                self._incomplete(metric, having)
        changes = self._changes(document.get("changes", []), shared)
        calendar, faults = read_calendar(self.experiment, document.get("arrivals"), document.get("answers"))
        self.found += faults
        correlations, faults = read_correlations(document.get("correlations", []), shared)
        self.found += faults
        world = World(self.experiment, shared, changes, calendar, correlations)
        if correlations and not faults and np.linalg.eigvalsh(world.correlation_matrix).min() < -1e-9:
            self._fault(["correlations"], "contradict each other: no metrics go together so")
        return world

    def _changes(self, given: object, laws: Mapping[str, tuple[Law, ...]]) -> tuple[Change, ...]:
        """Return what becomes of laws, change by change."""
        if not isinstance(given, (list, tuple)):
            self._fault(["changes"], f"received {received(given)}, allowed: tables [[changes]], one for each change")
            return ()
        found: list[Change] = []
        for place, change in enumerate(given):
            where: list[str | int] = ["changes", place]
            if not isinstance(change, Mapping):
                self._fault(where, f"received {received(change)}, allowed: a table of {listed(_CHANGE_KEYS)}")
                continue
            for key in change:
                if key not in _CHANGE_KEYS:
                    self._fault([*where, key], f"unknown key; {unknown_name(str(key), _CHANGE_KEYS)}")
            after = self._after(
                [*where, "after_users"], change.get("after_users"), found[-1].after_users if found else 0
            )
            new = Change(after, self._changed([*where, "variants"], change.get("variants"), laws))
            found += self._steps(where, change.get("over_users"), laws, new)
            laws = new.laws
        return tuple(found)

    def _steps(
        self, where: list[str | int], over: object, laws: Mapping[str, tuple[Law, ...]], new: Change
    ) -> tuple[Change, ...]:
        """Return a change at once, or in steps over so many users."""
        if over is None or self.found:  # of a world that is at fault anyway steps are not made
            return (new,)
        if not isinstance(over, int) or isinstance(over, bool) or not 1 <= over <= _MOST_USERS:
            message = f"received {received(over)}, allowed: a whole number of users from 1 to 10^15"
            self._fault([*where, "over_users"], message)
            return (new,)
        steps = gradual(laws, new, over)
        if steps is None:
            message = "a gradual change needs laws of one kind before and after, and no discrete ones"
            self._fault([*where, "over_users"], message)
            return (new,)
        return steps

    def _after(self, where: list[str | int], given: object, before: int) -> int:
        """Return after how many users a change comes; it has to be later than the one before."""
        if isinstance(given, int) and not isinstance(given, bool) and before < given <= _MOST_USERS:
            return given
        told = "missing" if given is None else f"received {received(given)}, allowed"
        later = "" if before == 0 else f", later than the change before it (at {before})"
        self._fault(where, f"{told}: a whole number of users from {before + 1} to 10^15{later}")
        return before

    def _changed(
        self, where: list[str | int], given: object, laws: Mapping[str, tuple[Law, ...]]
    ) -> Mapping[str, tuple[Law, ...]]:
        """Return laws with those that a change names put in."""
        if not isinstance(given, Mapping) or not given:
            told = "missing" if given is None else f"received {received(given)}, allowed"
            self._fault(where, f"{told}: a table of variants with the laws that change")
            return laws
        new = dict(laws)
        for arm, metrics in given.items():
            if arm not in self.experiment.arms:
                self._fault([*where, arm], f"unknown variant; {unknown_name(str(arm), self.experiment.arms)}")
                continue
            for metric, law in self._variant(where, arm, metrics).items():
                if metric not in laws:
                    if metric in self.kinds and law is not None:
                        message = "has no law before the change; give each variant one in [variants]"
                        self._fault([*where, arm, metric], message)
                elif law is not None:
                    place = self.experiment.arm(arm)
                    new[metric] = (*new[metric][:place], law, *new[metric][place + 1 :])
        return new

    def _tables(self, document: Mapping[str, object]) -> Iterator[tuple[str, object]]:
        """Yield each variant of the experiment with what the document says of it."""
        variants = document.get("variants")
        if not isinstance(variants, Mapping):
            given = "missing" if "variants" not in document else f"received {received(variants)}"
            self._fault(["variants"], f"{given}; a table [variants.{self.experiment.arms[0]}] for each variant")
            return
        for arm in variants:
            if arm not in self.experiment.arms:
                message = f"unknown variant; {unknown_name(str(arm), self.experiment.arms)}"
                self._fault(["variants", arm], message)
        for arm in self.experiment.arms:
            yield arm, variants.get(arm, {})

    def _variant(self, inside: Sequence[str | int], arm: str, metrics: object) -> dict[str, Law | None]:
        """Return the laws of one variant by metric; None where the law is at fault."""
        if not isinstance(metrics, Mapping):
            self._fault([*inside, arm], f"received {received(metrics)}, allowed: a table of metrics")
            return dict.fromkeys(self.kinds)
        laws: dict[str, Law | None] = {}
        for metric, value in metrics.items():
            where = [*inside, arm, metric]
            if metric == FAILED:
                self._fault(where, "cannot be simulated; a failure is also a goal outcome: lower the goal's rate")
            elif metric not in self.kinds:
                self._fault(where, f"unknown metric; {unknown_name(str(metric), self.kinds)}")
            else:
                laws[metric] = self._law(where, metric, value)
        return laws

    def _law(self, where: Sequence[str | int], metric: str, value: object) -> Law | None:
        if self.kinds[metric] == "numeric":
            return self._number(where, metric, value)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1:
            return Rate(float(value))
        self._fault(where, f"received {received(value)}, allowed for a binary metric: a rate from 0 to 1")
        return None

    def _number(self, where: Sequence[str | int], metric: str, value: object) -> Law | None:
        if not isinstance(value, Mapping):
            shape = '{ mean = …, sd = …, law = "normal" or "lognormal" } or { law = "discrete", values = […] }'
            self._fault(where, f"received {received(value)}, allowed for a numeric metric: {shape}")
            return None
        law = value.get("law", "normal")
        if law == "discrete":
            return self._discrete(where, metric, value)
        if law not in _LAWS:
            self._fault([*where, "law"], f"received {received(law)}, allowed: {listed(_LAWS)}")
            return None
        try:
            table = LawTable.model_validate(dict(value))
        except ValidationError as error:
            for problem in problems(error.errors(include_url=False), _LAW_KEYS):
                self.found.append(Problem(path(where, problem.field), problem.message))
            return None
        fault = _impossible(table, Bounds(*metric_bounds(self.experiment, metric)))
        if fault:
            self._fault([*where, "mean"], fault)
            return None
        return (Lognormal if table.law == "lognormal" else Normal)(table.mean, table.sd)

    def _discrete(self, where: Sequence[str | int], metric: str, value: Mapping[str, object]) -> Law | None:
        try:
            table = DiscreteTable.model_validate(dict(value))
        except ValidationError as error:
            for problem in problems(error.errors(include_url=False), _DISCRETE_KEYS):
                self.found.append(Problem(path(where, problem.field), problem.message))
            return None
        bounds = Bounds(*metric_bounds(self.experiment, metric))
        outside = [each for each in table.values if not bounds.low <= each <= bounds.high]
        if outside:
            allowed = f"inside the values of the metric, {bounds.low:g} to {bounds.high:g}"
            self._fault([*where, "values"], f"received {outside[0]:g}, allowed: {allowed}")
            return None
        return Discrete.of(table.values, table.weights)

    def _incomplete(self, metric: str, having: list[str]) -> None:
        """Refuse a metric that only some variants have; the goal must be there for all."""
        if not having and metric != self.experiment.goal.metric:
            return
        why = "the goal" if metric == self.experiment.goal.metric else f"given for {listed(having)}"
        for arm in self.experiment.arms:
            if arm not in having:
                self._fault(["variants", arm, metric], f"missing; {why} needs a law for each variant")

    def _fault(self, where: Sequence[str | int], message: str) -> None:
        self.found.append(Problem(path(where), message))


def _impossible(table: LawTable, bounds: Bounds) -> str | None:
    """Say why a mean cannot be that of the metric, or None."""
    if table.law == "lognormal" and table.mean <= 0:
        return f"received {table.mean:g}, allowed for a lognormal law: above 0"
    if table.law == "lognormal" and table.sd > 1e6 * table.mean:
        return f"received {table.mean:g} with sd {table.sd:g}, allowed for a lognormal law: an sd of at most 1e6 means"
    if not bounds.low <= table.mean <= bounds.high:
        return f"received {table.mean:g}, allowed: inside the values of the metric, {bounds.low:g} to {bounds.high:g}"
    return None
