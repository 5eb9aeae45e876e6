"""One run of one policy by the calendar: users come, are served, answer later, come again; somebody looks every day."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy.special as sc

from bandit import Bandit, Report
from bandit.arrays import BoolArray, FloatArray, IntArray
from bandit.experiment import Experiment, parse
from bandit.measures import metric_bounds
from simulations.calendar import DAY, Calendar, Visits, visits
from simulations.compare import under
from simulations.laws import Bounds
from simulations.worlds import World

MONDAY = 1_704_067_200.0
"""When a run begins: Monday, 1 January 2024, 0:00 UTC."""


@dataclass(frozen=True, slots=True)
class Task:
    """One run, which can be sent to another process or machine.

    Attributes:
        world: The truth, with its experiment and calendar.
        policy: Name of the policy, as `compare` takes it.
        seed: Of all runs.
        run: Number of the run: under each policy the same users come and would answer the same.
    """

    world: World
    policy: str
    seed: int
    run: int


def rehearse(task: Task) -> dict[str, float]:
    """Return what one run came to: numbers by name, nan where one does not exist.

        users                users who came
        visits               their visits
        reward_per_user      expected goal outcome of a visit, given who was served what
        regret               Σ over visits of |best true mean − true mean of what was served|
        share_best_within_limits   share of visits that were served the best of control and those that break no limit
        exposed_to_breach    visits that were served a treatment that truly breaks a limit
        decided              1 if a day's report said "deploy", or "do not deploy" of all treatments
        days_to_decision     days until then; the length of the run if it never did
        wrong_decision       1 if it was for a variant that is no better in truth or breaks a limit, or against all
                             although one is better by `mde` and breaks none
        reward_acted_on      as `reward_per_user`, if everybody gets what was decided from the decision on
        share_of.X           share of visits that were served variant X
        suspended_day.X      day after which X got no users; nan: it always did
        level.M              mean of a guarded metric M over visits, expected

    Args:
        task: Which.
    """
    world, calendar = task.world, task.world.calendar
    assert calendar is not None  # noqa: S101 - callers look
    asked = _asked(under(world.experiment, task.policy), task)
    coming, answering, deciding = (
        np.random.default_rng(c) for c in np.random.SeedSequence([task.seed, task.run]).spawn(3)
    )
    came = visits(calendar, coming)
    world = world.until(int(came.first.sum()))
    stretch = _stretches(world, came)
    values = would_answer(world, calendar, came, stretch, answering)
    delays = deciding.exponential(1.0, len(came.at)) * calendar.delay
    answers = deciding.random(len(came.at))
    served, looks = _Run(asked, calendar, came, values, delays, answers).go()
    return _numbers(world, calendar, came, stretch, served, looks)


def _asked(experiment: Experiment, task: Task) -> Experiment:
    """Return the experiment with a salt of the run: users have other variants in each."""
    return parse({**experiment.to_dict(), "salt": f"rehearsal {task.seed} {task.run}"})


def _stretches(world: World, came: Visits) -> IntArray:
    """Return which stretch of the world each visit falls into: changes come after so many users."""
    starts = np.array([change.after_users for change in world.changes], dtype=np.float64)
    users = np.cumsum(came.first) - came.first  # who came before
    return np.searchsorted(starts, users, side="right")


def would_answer(
    world: World, calendar: Calendar, came: Visits, stretch: IntArray, rng: np.random.Generator
) -> dict[str, FloatArray]:
    """Return what each visit would answer under each variant, by metric, shape (n_visits, n_arms).

    Args:
        world: The truth.
        calendar: Says how alike the visits of a user are.
        came: The visits.
        stretch: Which stretch of the world each falls into, shape (n_visits,).
        rng: Source of luck.
    """
    n, found = len(came.at), {}
    again = rng.random(n) < calendar.alike
    firsts = np.zeros(int(came.user.max(initial=-1)) + 1, np.int64)
    firsts[came.user[came.first > 0]] = np.flatnonzero(came.first > 0)
    source = np.where(again & (came.first == 0), firsts[came.user], np.arange(n))
    # A visit is as lucky under each variant, and its metrics go together as the world says.
    luck = sc.ndtr(rng.multivariate_normal(np.zeros(len(world.laws)), world.correlation_matrix, n, method="eigh"))
    luck = np.clip(luck, np.finfo(np.float64).tiny, 1.0 - np.finfo(np.float64).epsneg)
    for index, metric in enumerate(world.laws):
        bounds = Bounds(*metric_bounds(world.experiment, metric))
        drawn = np.empty((n, world.experiment.n_arms))
        for place, each in enumerate(world.stretches):
            here = stretch == place
            for arm, law in enumerate(each.laws[metric]):
                drawn[here, arm] = np.clip(law.quantile(luck[here, index]), bounds.low, bounds.high)
        found[metric] = drawn[source]
    return found


@dataclass(frozen=True, slots=True)
class _Look:
    """What the report said at the end of a day."""

    day: float
    verdict: str
    reason: str
    deployed: str | None
    suspended: tuple[str, ...]


class _Run:
    """The loop: visits and rewards in the order of time, and a look at the end of each day."""

    def __init__(
        self, asked: Experiment, calendar: Calendar, came: Visits, values: Mapping[str, FloatArray],
        delays: FloatArray, answers: FloatArray,
    ) -> None:  # fmt: skip
        self.now = MONDAY
        self.bandit = Bandit(asked, clock=lambda: self.now)
        self.calendar, self.came, self.values = calendar, came, values
        self.delays, self.answers = delays, answers
        self.due: list[tuple[float, int, int]] = []
        self.looks: list[_Look] = []

    def go(self) -> tuple[IntArray, list[_Look]]:
        """Return the variant that each visit was served, and what the report said day by day."""
        arms = {key: arm for arm, key in enumerate(self.bandit.experiment.arms)}
        served = np.empty(len(self.came.at), np.int64)
        next_look = DAY
        for visit, (at, user) in enumerate(zip(self.came.at.tolist(), self.came.user.tolist(), strict=True)):
            while next_look <= at:
                self._rewards_until(next_look)
                self._look(next_look)
                next_look += DAY
            self._rewards_until(at)
            self.now = MONDAY + at
            arm = arms[self.bandit.choose(f"user-{user}").variant]
            served[visit] = arm
            if self.answers[visit] < self.calendar.response[arm]:
                heapq.heappush(self.due, (at + self.delays[visit], visit, arm))
        end = self.calendar.days * DAY
        while next_look < end - 1.0:
            self._rewards_until(next_look)
            self._look(next_look)
            next_look += DAY
        self._rewards_until(end)
        self._look(end)
        return served, self.looks

    def _rewards_until(self, until: float) -> None:
        while self.due and self.due[0][0] <= until:
            at, visit, arm = heapq.heappop(self.due)
            self.now = MONDAY + at
            metrics = {metric: float(each[visit, arm]) for metric, each in self.values.items()}
            self.bandit.reward(f"user-{int(self.came.user[visit])}", metrics, request_id=f"visit-{visit}")

    def _look(self, at: float) -> None:
        self.now = MONDAY + at
        self.bandit.tick()
        report = self.bandit.report()
        suspended = tuple(each.key for each in report.variants if each.suspended is not None)
        decision = report.decision
        self.looks.append(_Look(at / DAY, decision.verdict, decision.reason, _deployed(report), suspended))


def _deployed(report: Report) -> str | None:
    """Return the variant that the report would deploy: of several the one with the largest gain, as it says first."""
    good = [each for each in report.variants if each.decision is not None and each.decision.verdict == "deploy"]
    sign = 1.0 if report.goal["better"] == "higher" else -1.0

    def gain(key: str) -> float:
        return next(sign * each.mean for each in good if each.key == key and each.mean is not None)

    known = [each.key for each in good if each.mean is not None]
    return max(known, key=gain) if known else None


def _numbers(
    world: World, calendar: Calendar, came: Visits, stretch: IntArray, served: IntArray, looks: list[_Look]
) -> dict[str, float]:
    experiment, control = world.experiment, world.experiment.control
    means = np.array([each.means for each in world.stretches])
    gains = means if experiment.goal.better == "higher" else -means
    broken = np.array([each.broken for each in world.stretches])
    broken[:, control] = False
    allowed = np.where(broken, -np.inf, gains)
    best = allowed == allowed.max(axis=-1, keepdims=True)
    final = ("deploy", "do_not_deploy")
    decision = next((look for look in looks if look.verdict in final and look.reason != "data"), None)
    since = math.inf if decision is None else decision.day * DAY
    chosen = control if decision is None or decision.deployed is None else experiment.arm(decision.deployed)
    acted = np.where(came.at >= since, chosen, served)
    numbers = {
        "users": float(came.first.sum()),
        "visits": float(len(served)),
        "reward_per_user": _mean(means[stretch, served]),
        "regret": float((gains.max(axis=-1)[stretch] - gains[stretch, served]).sum()),
        "share_best_within_limits": _mean(best[stretch, served]),
        "exposed_to_breach": float(broken[stretch, served].sum()),
        "decided": float(decision is not None),
        "days_to_decision": calendar.days if decision is None else decision.day,
        "wrong_decision": float(decision is not None and _is_wrong(world, decision, gains, means, broken)),
        "reward_acted_on": _mean(means[stretch, acted]),
    }
    for arm, key in enumerate(experiment.arms):
        numbers[f"share_of.{key}"] = _mean(served == arm)
        days = [look.day for look in looks if key in look.suspended]
        numbers[f"suspended_day.{key}"] = days[0] if days else math.nan
    for metric in world.laws:
        if metric != experiment.goal.metric:
            bounds = Bounds(*metric_bounds(experiment, metric))
            levels = np.array([[bounds.mean(law) for law in each.laws[metric]] for each in world.stretches])
            numbers[f"level.{metric}"] = _mean(levels[stretch, served])
    return numbers


def _mean(values: FloatArray | BoolArray) -> float:
    """Return a mean; nan of nobody."""
    return float(values.mean()) if len(values) else math.nan


def _is_wrong(world: World, decision: _Look, gains: FloatArray, means: FloatArray, broken: BoolArray) -> bool:
    """Whether what was decided is wrong in every stretch of the world."""
    control = world.experiment.control
    over = gains - gains[:, [control]]
    if decision.deployed is not None:
        arm = world.experiment.arm(decision.deployed)
        return bool(((over[:, arm] <= 0.0) | broken[:, arm]).all())
    worth = world.experiment.goal.mde * np.abs(means[:, [control]]) * (1.0 - 1e-9)
    return bool(((over >= worth) & (over > 0.0) & ~broken).all(axis=0).any())
