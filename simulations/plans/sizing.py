"""What an experiment needs: the sizes of `bandit.planning`, all of them, turned into a calendar."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from bandit.errors import InvalidInput, Problem
from bandit.experiment import Experiment
from bandit.inference.shares import fixed_time_level
from bandit.planning import (
    Certification,
    Effect,
    Expectations,
    FloorUsers,
    Plan,
    SampleSize,
    Schedule,
    Traffic,
    any_time,
    certifications,
    effect_of,
    not_worse,
    one_look,
    plan,
    shares_of,
    smallest_mde,
    total_users,
    traffic_of,
    two_sided_shift,
    users_at_floors,
)


@dataclass(frozen=True, slots=True)
class Row:
    """One size of the goal, with its calendar.

    Attributes:
        size: Users with an outcome.
        schedule: When they have come and their reward windows are over.
    """

    size: SampleSize
    schedule: Schedule


@dataclass(frozen=True, slots=True)
class GuardrailRow:
    """One guardrail, with its calendar.

    Attributes:
        certification: Users of an arm.
        schedule: When the smallest treatment has that many; None: never.
    """

    certification: Certification
    schedule: Schedule | None


@dataclass(frozen=True, slots=True)
class Sizing:
    """What an experiment needs.

    Attributes:
        experiment: What was planned.
        plan: Users per variant, for two variants, one look and an equal split.
        total_users: These × all variants of the file.
        days: Whole days until they have come, rounded up; no reward window, every user with an outcome.
        shares: Share of each arm that the sizes below count with, in file order.
        rows: Sizes of the goal by name. `two_variants`: as `plan`; `all_variants`: each treatment against
            control at alpha/(K − 1), equal split; `split`: the same under `shares`, if they are unequal; `any_time`:
            under `shares`, until the report finds the effect at looks at any time, absent if it never does;
            `not_worse`: under `shares`, if a margin was given.
        margin: Loss accepted by `not_worse`, relative; None: not asked for.
        guardrails: One per guardrail, in file order.
        floors: Events at the floors; None without floors or for a numeric goal.
        traffic: Users a day, exposure, response, window.
        response_rate: As given; None: not given.
        max_days: Longest acceptable time.
        smallest: Smallest relative effect that `max_days` finds with one look and with any-time looks; None: none.
    """

    experiment: Experiment
    plan: Plan
    total_users: int
    days: int
    shares: tuple[float, ...]
    rows: Mapping[str, Row]
    margin: float | None
    guardrails: tuple[GuardrailRow, ...]
    floors: FloorUsers | None
    traffic: Traffic
    response_rate: float | None
    max_days: float
    smallest: Mapping[str, float | None]

    @property
    def one_look(self) -> Row:
        """The size for one look under the split in force."""
        return self.rows["split"] if "split" in self.rows else self.rows["all_variants"]

    @property
    def any_time(self) -> Row | None:
        """The size for looks at any time; None: they never find the effect."""
        return self.rows.get("any_time")

    @property
    def inflation(self) -> float | None:
        """Users of the any-time size / users of the size for one look, under the same split."""
        return None if self.any_time is None else self.any_time.size.total / self.one_look.size.total

    @property
    def decision(self) -> Schedule | None:
        """When the goal, every guardrail and `min_days` allow "deploy"; None: one of them never does."""
        schedules = [row.schedule for row in (self.any_time, *self.guardrails) if row is not None]
        known = [schedule for schedule in schedules if schedule is not None]
        if self.any_time is None or len(known) < len(schedules):
            return None
        days = max(math.ceil(self.traffic.min_days), *(schedule.days for schedule in known))
        return Schedule(max(schedule.enrolled for schedule in known), days, math.ceil(days / 7))

    @property
    def out_of_reach(self) -> bool:
        """Whether one look or any-time looks need more than `max_days`."""
        always = self.any_time
        return always is None or max(self.one_look.schedule.days, always.schedule.days) > self.max_days

    def to_dict(self) -> dict[str, object]:
        """Return the JSON contract, schema 1."""
        return {
            "schema": 1,
            "users_per_variant": self.plan.users_per_variant,
            "total_users": self.total_users,
            "days": self.days,
            "effect_size": self.plan.effect_size,
            "cohens_h": self.plan.cohens_h,
            "method": self.plan.method,
            "experiment": self.experiment.key,
            "baseline": self.plan.baseline,
            "target": self.plan.target,
            "mde": self.experiment.goal.mde,
            "alpha": self.plan.alpha,
            "power": self.plan.power,
            "split": dict(zip(self.experiment.arms, self.shares, strict=True)),
            "sizes": {"any_time": None} | {name: self._row(row) for name, row in self.rows.items()},
            "any_time_inflation": self.inflation,
            "non_inferiority": self.margin,
            "guardrails": [asdict(row.certification) | {"schedule": _dict(row.schedule)} for row in self.guardrails],
            "floors": _dict(self.floors),
            "traffic": asdict(self.traffic) | {"response_rate": self.response_rate},
            "decision": _dict(self.decision),
            "reach": {
                "max_days": self.max_days,
                "out_of_reach": self.out_of_reach,
                "smallest_mde": dict(self.smallest),
            },
        }

    def _row(self, row: Row) -> dict[str, object]:
        size = row.size
        return {
            "level": size.level,
            "sides": size.sides,
            "power": size.power,
            "users": dict(zip(self.experiment.arms, size.users, strict=True)),
            "total_users": size.total,
            **asdict(row.schedule),
        }


def _dict(found: Schedule | FloorUsers | None) -> dict[str, object] | None:
    return None if found is None else asdict(found)


def sizing(
    experiment: Experiment,
    users_per_day: float,
    *,
    baseline: float | None = None,
    sd: float | None = None,
    power: float = 0.8,
    split: Mapping[str, float] | None = None,
    expectations: Expectations | None = None,
    response_rate: float | None = None,
    margin: float | None = None,
    max_days: float = 90.0,
) -> Sizing:
    """Return users and days; the share `rollout.exposure` of a day's users is enrolled.

    Args:
        experiment: Variants, goal, guardrails, alpha, exposure, reward window, analysis.
        users_per_day: New users a day, above 0.
        baseline: Control's mean outcome instead of `goal.baseline`.
        sd: Standard deviation of a user's outcome; numeric goals only.
        power: Probability of finding an effect of the size mde in one given arm.
        split: Share of each variant instead of the file's.
        expectations: Expected levels of the guardrails.
        response_rate: Share of users with a goal outcome, in (0, 1].
        margin: Loss relative to the baseline that is accepted, to plan for "not worse".
        max_days: Longest acceptable time, above 0.

    Raises:
        InvalidInput: A number is missing or out of range, or nobody is enrolled.
    """
    traffic = traffic_of(experiment, users_per_day, response_rate)
    if not 0 < max_days < math.inf:
        raise InvalidInput([Problem("max-days", f"received {max_days:g}, allowed: a finite number above 0")])
    needed = plan(experiment, baseline, sd, power)
    shares = shares_of(experiment, split)
    total = needed.users_per_variant * experiment.n_arms
    return Sizing(
        experiment=experiment,
        plan=needed,
        total_users=total,
        days=math.ceil(traffic.enrolment_days(total)),
        shares=shares,
        rows=_rows(experiment, needed, shares, traffic, sd=sd, margin=margin),
        margin=margin,
        guardrails=_guardrail_rows(experiment, shares, expectations, traffic),
        floors=users_at_floors(experiment, needed.baseline),
        traffic=traffic,
        response_rate=response_rate,
        max_days=max_days,
        smallest=_smallest(experiment, needed, shares, sd, traffic.users_in(max_days)),
    )


def _rows(
    experiment: Experiment,
    needed: Plan,
    shares: tuple[float, ...],
    traffic: Traffic,
    *,
    sd: float | None,
    margin: float | None,
) -> dict[str, Row]:
    baseline, power = needed.baseline, needed.power
    effect = effect_of(experiment, baseline, sd)
    pair = (needed.users_per_variant,) * experiment.n_arms
    equal = (1.0 / experiment.n_arms,) * experiment.n_arms
    sizes: dict[str, SampleSize | None] = {
        "two_variants": SampleSize(needed.alpha, 2, power, pair),
        "all_variants": one_look(experiment, effect, equal, power),
    }
    if max(shares) - min(shares) > 1e-9:
        sizes["split"] = one_look(experiment, effect, shares, power)
    sizes["any_time"] = any_time(experiment, effect, shares, power)
    if margin is not None:
        sizes["not_worse"] = not_worse(experiment, margin, shares, baseline=baseline, sd=sd, power=power)
    return {name: Row(size, traffic.schedule(size.total)) for name, size in sizes.items() if size is not None}


def _smallest(
    experiment: Experiment, needed: Plan, shares: tuple[float, ...], sd: float | None, users: float
) -> dict[str, float | None]:
    """Return the smallest effects that so many users with an outcome find, by one look and by looks at any time."""
    shift = two_sided_shift(fixed_time_level(experiment), needed.power)

    def once(effect: Effect) -> float:
        return total_users(effect, shift, shares, experiment.control)

    def always(effect: Effect) -> int | None:
        size = any_time(experiment, effect, shares, needed.power)
        return None if size is None else size.total

    return {
        "one_look": smallest_mde(experiment, needed.baseline, sd, once, users),
        "any_time": smallest_mde(experiment, needed.baseline, sd, always, users),
    }


def _guardrail_rows(
    experiment: Experiment, shares: tuple[float, ...], expectations: Expectations | None, traffic: Traffic
) -> tuple[GuardrailRow, ...]:
    """Return the guardrails with the time until the smallest treatment is certified, if every user has a value."""
    traffic = replace(traffic, response=1.0)  # the response rate is the goal's
    smallest = min(share for arm, share in enumerate(shares) if arm != experiment.control)
    found = certifications(experiment, shares, expectations)
    return tuple(
        GuardrailRow(each, None if each.users is None else traffic.schedule(each.users / smallest)) for each in found
    )
