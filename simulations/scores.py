"""Numbers with their standard errors, and what a policy's runs are worth."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from bandit.arrays import BoolArray, FloatArray, IntArray
from bandit.best_arm import probability_best
from bandit.engine import posterior_of
from bandit.experiment import Experiment
from bandit.inference.welch import welch_p_value
from bandit.measures import N, Z
from bandit.policies import largest
from simulations.decisions import decisions
from simulations.records import Tape
from simulations.runner import Runs
from simulations.worlds import World


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over runs.

    Attributes:
        value: The mean; None where no run has a value.
        error: Its standard error; None with fewer than two runs.
    """

    value: float | None
    error: float | None

    @classmethod
    def of(cls, values: FloatArray) -> Estimate:
        """Return the mean over runs of one number per run; runs in which it does not exist (nan) are left out."""
        values = values[np.isfinite(values)]
        if len(values) == 0:
            return cls(None, None)
        error = float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else None
        return cls(float(values.mean()), error)

    @classmethod
    def median(cls, values: FloatArray) -> Estimate:
        """Return the median over runs of one number per run; runs in which it does not exist (nan) are left out.

        Its standard error is half the distance of the order statistics one standard error of their rank, √n / 2, below
        and above: they enclose the true median in two of three samples, whatever the law. Reference: David, Nagaraja
        (2003), Order Statistics (3rd ed.), section 7.1.
        """
        values = np.sort(values[np.isfinite(values)])
        n = len(values)
        if n == 0:
            return cls(None, None)
        low, high = (int(min(max(round(n / 2.0 - 0.5 + side * math.sqrt(n) / 2.0), 0), n - 1)) for side in (-1, 1))
        return cls(float(np.median(values)), float(values[high] - values[low]) / 2.0 if n > 1 else None)

    def fields(self, name: str) -> dict[str, float | None]:
        """Return the value and its standard error as JSON fields."""
        return {name: self.value, f"{name}_se": self.error}


@dataclass(frozen=True, slots=True)
class GuardrailScore:
    """How a guardrail metric fares.

    Attributes:
        metric: Its name.
        statistic: What is averaged over users: "rate", "mean", "share above the limit" or, of a quantile relative to
            control, "share above the reference".
        limit: The limit on the metric, if absolute.
        level: Expected value per user.
    """

    metric: str
    statistic: str
    limit: float | None
    level: Estimate

    def to_dict(self) -> dict[str, object]:
        """Return JSON values."""
        return {
            "metric": self.metric,
            "statistic": self.statistic,
            "limit": self.limit,
            **self.level.fields("per_user"),
        }


@dataclass(frozen=True, slots=True)
class SuspensionScore:
    """How often and how soon a variant was suspended.

    Attributes:
        breaks: Whether it truly breaks a limit, before or after some change of the world.
        suspended: Share of runs that suspended it.
        after: Median over these runs: users of the run, of all variants, when it was suspended.
    """

    breaks: bool
    suspended: Estimate
    after: Estimate

    def to_dict(self) -> dict[str, object]:
        """Return JSON values."""
        return {
            "breaks_limit": self.breaks,
            **self.suspended.fields("suspended"),
            **self.after.fields("suspended_after"),
        }


@dataclass(frozen=True, slots=True)
class Score:
    """What a policy came to over many runs; see `score` for the definitions.

    Attributes:
        numbers: By name, in the order in which they are shown.
        welch: The same for Welch's test at the end of a run.
        guardrails: In file order.
        limits: Numbers by name: users exposed to variants that break a limit, false suspensions.
        suspensions: By variant, without control.
        deciding: Numbers by name: when the report's rule on the goal decides, and how well; empty: nobody looked.
        each: By name what `numbers` and `deciding` are means of, shape (n_runs,): for differences of pairs of runs.
    """

    numbers: Mapping[str, Estimate]
    welch: Mapping[str, Estimate]
    guardrails: tuple[GuardrailScore, ...]
    limits: Mapping[str, Estimate]
    suspensions: Mapping[str, SuspensionScore]
    deciding: Mapping[str, Estimate]
    each: Mapping[str, FloatArray] = field(compare=False, repr=False)

    @property
    def until_decision(self) -> float:
        """Mean users to a decision; nan if nobody looked for one."""
        found = self.deciding.get("users_to_decision")
        return math.nan if found is None or found.value is None else found.value

    def to_dict(self) -> dict[str, object]:
        """Return JSON values: each number with its standard error beside it."""
        return {
            **_fields(self.numbers),
            **_fields(self.deciding),
            "welch": _fields(self.welch),
            "guardrails": [guardrail.to_dict() for guardrail in self.guardrails],
            **_fields(self.limits),
            "suspensions": {arm: suspension.to_dict() for arm, suspension in self.suspensions.items()},
        }


def _fields(numbers: Mapping[str, Estimate]) -> dict[str, object]:
    return {key: value for name, estimate in numbers.items() for key, value in estimate.fields(name).items()}


def score(experiment: Experiment, world: World, runs: Runs, tape: Tape | None = None) -> Score:
    """Return what the runs of one policy are worth.

    Rewards are expected ones given the assignments, Σ users × true mean, not those drawn: the same expectation with
    less noise. True is what is so when a user comes: a world may change.

        reward_per_user   expected goal outcome per user, unit of the metric
        gain_over_fixed   its advantage over the equal split's, as a fraction of that; positive is better
        regret            Σ over the users of a run of |best true mean − true mean of their arm|
        share_best        share of users on an arm that is best (any, if several tie in truth)
        picked_best       1 if the arm with the largest P(best) at the end is such an arm then
        epochs            allocations used

    The P(best) that picks reads all data of the run, or what is left of them if the policy forgets; a suspended arm is
    out of the contest.

    Welch at the end of a run, read once: `significant`, 1 if any arm differs from control at
    alpha/(K − 1), two-sided; `mean_difference`, observed mean of the treatment that is best in truth (at the end) minus
    control's (several: their average), so its distance from the true difference is Welch's bias.

    Limits, of treatments, since control is never suspended:

        exposed_to_breach         users of a run on an arm that truly breaks a limit
        false_suspensions         1 if an arm was suspended that had at no time before truly broken one
        share_best_within_limits  share of users on an arm that is best among control and those that break none

    Decisions, by `decisions.decisions`, if the epochs of the runs were kept:

        decided            1 if there was one by the horizon
        users_to_decision  users until then; the horizon if there was none
        wrong_decision     1 if it was for an arm that is at no time better than control in truth, or for keeping
                           control although an arm that breaks no limit is always better by `mde` or more
        reward_acted_on    as `reward_per_user`, if from the decision on everybody gets what it was for: of several
                           arms the one with the highest mean so far (an epoch in which the world changes counts as
                           after the change)
    """
    stretches = world.stretches
    means = np.array([each.means for each in stretches])
    gains = means if experiment.goal.better == "higher" else -means
    best = gains == gains.max(axis=-1, keepdims=True)
    users = runs.assigned.sum(axis=-1)
    share = runs.in_phases / users[:, np.newaxis]
    equal = share.sum(axis=-1).T @ means.mean(axis=-1)
    advantage = _over(share, gains - gains.mean(axis=-1, keepdims=True))
    numbers = {
        "reward_per_user": _over(share, means),
        "gain_over_fixed": np.divide(advantage, abs(equal), out=np.full(len(users), math.nan), where=equal != 0.0),
        "regret": _over(runs.in_phases, gains.max(axis=-1, keepdims=True) - gains),
        "share_best": _over(share, best),
        "picked_best": _picked(experiment, runs, best[-1]),
        "epochs": runs.epochs.astype(np.float64),
    }
    decided = {} if tape is None else _deciding(experiment, world, tape)
    significant, difference = _welch(experiment, gains[-1], runs)
    welch = {"significant": significant, "mean_difference": difference}
    limits, suspensions = _suspensions(world, gains, runs)
    return Score(
        {name: Estimate.of(values) for name, values in numbers.items()},
        {name: Estimate.of(values) for name, values in welch.items()},
        _guardrails(world, share),
        limits,
        suspensions,
        {name: Estimate.of(values) for name, values in decided.items()},
        {**numbers, **decided},
    )


def _deciding(experiment: Experiment, world: World, tape: Tape) -> dict[str, FloatArray]:
    """Return what decisions come to, one number per run."""
    found, record, control = decisions(experiment, tape), tape.record, experiment.control
    horizon = float(record.ends[-1])
    stretches, starts = world.stretches, np.array([0, *(change.after_users for change in world.changes)])
    means = np.array([each.means for each in stretches])
    sign = 1.0 if experiment.goal.better == "higher" else -1.0
    gains = sign * (means - means[:, [control]])
    allowed = ~np.array([each.broken for each in stretches])
    ever = ~np.isinf(found.users)
    none = ever & ~found.better.any(axis=-1)
    worth = experiment.goal.mde * abs(means[:, [control]]) * (1.0 - 1e-9)  # sums of decimals are off by a digit
    missed = bool(((gains >= worth) & (gains > 0.0) & allowed).all(axis=0).any())
    wrong = (found.better & ~(gains > 0.0).any(axis=0)).any(axis=-1) | (none & missed)

    # Users of each stretch that came by the end of each epoch, and so what had been given by the decision.
    at = np.where(ever, np.searchsorted(record.ends, found.users), len(record.ends) - 1)
    ends = np.append(starts[1:], np.inf)
    run = np.arange(len(at))
    by_epoch = np.minimum(np.searchsorted(starts, record.ends, side="left") - 1, len(starts) - 1)
    given = np.cumsum((record.assigned * means[by_epoch][np.newaxis]).sum(axis=-1), axis=1)[run, at]
    known = np.cumsum(record.sums, axis=1)[run, at]
    with np.errstate(divide="ignore", invalid="ignore"):
        seen = np.where(found.better, sign * known[..., Z] / known[..., N], -np.inf)
    chosen = np.where(found.better.any(axis=-1), seen.argmax(axis=-1), control)
    since = np.where(ever, found.users, horizon)[:, np.newaxis]
    after = np.maximum(np.minimum(ends, horizon) - np.maximum(starts, since), 0.0)
    rest = (after * means[:, chosen].T).sum(axis=-1)
    return {
        "decided": ever.astype(np.float64),
        "users_to_decision": np.minimum(found.users, horizon),
        "wrong_decision": wrong.astype(np.float64),
        "reward_acted_on": (given + rest) / horizon,
    }


def _over(users: FloatArray | IntArray, each: FloatArray | BoolArray) -> FloatArray:
    """Return per run Σ users × what each gives, from (n_phases, n_runs, n_arms) and (n_phases, n_arms)."""
    return np.asarray(np.einsum("pra,pa->r", users, each.astype(np.float64)))


def _picked(experiment: Experiment, runs: Runs, best: BoolArray) -> FloatArray:
    """Whether the arm with the largest P(best), by all that is remembered, is one of the best; ties count in part."""
    known = runs.totals if runs.remembered is None else runs.remembered
    after = runs.suspended_after
    there = None if after is None or np.isnan(after).all() else np.isnan(after).astype(np.float64)
    pick = largest(probability_best(posterior_of(experiment, known), there))
    return np.asarray(pick @ best.astype(np.float64))


def _welch(experiment: Experiment, gains: FloatArray, runs: Runs) -> tuple[FloatArray, FloatArray]:
    """Return per run whether any arm is significant, and the observed difference of the best treatment."""
    control = experiment.control
    treatments = np.arange(experiment.n_arms) != control
    n = runs.totals.n
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = runs.totals.z / n
        variance = np.maximum(runs.totals.z2 - n * mean**2, 0.0) / (n - 1.0)
        error2 = variance / n
        difference = mean - mean[:, [control]]
    p = welch_p_value(difference, error2, error2[:, [control]], n, n[:, [control]])
    level = experiment.policy.alpha / (experiment.n_arms - 1)
    significant = np.asarray((p[:, treatments] <= level).any(axis=-1), dtype=np.float64)
    tops = treatments & (gains == gains[treatments].max())
    sign = 1.0 if experiment.goal.better == "higher" else -1.0
    return significant, np.asarray(sign * difference[:, tops].mean(axis=-1))


def _guardrails(world: World, share: FloatArray) -> tuple[GuardrailScore, ...]:
    scores = []
    for guardrail in world.simulated:
        statistic = "rate" if guardrail.kind == "binary" else "mean"
        if guardrail.quantile is not None:
            statistic = "share above the limit" if guardrail.at is None else "share above the reference"
        levels = np.array([each.guardrail_means(guardrail) for each in world.stretches])
        scores.append(GuardrailScore(guardrail.metric, statistic, guardrail.max, Estimate.of(_over(share, levels))))
    return tuple(scores)


def _suspensions(world: World, gains: FloatArray, runs: Runs) -> tuple[dict[str, Estimate], dict[str, SuspensionScore]]:
    """Return the numbers about limits, and those of each treatment."""
    experiment = world.experiment
    treatments = np.arange(experiment.n_arms) != experiment.control
    broken = np.array([each.broken for each in world.stretches]) & treatments
    never = np.full(runs.assigned.shape, math.nan)
    after = never if runs.suspended_after is None else runs.suspended_after
    # An arm had broken a limit when it was suspended if it does so in a stretch that had begun by then.
    begun = np.array([0, *(change.after_users for change in world.changes)])[:, np.newaxis, np.newaxis] < after
    false = ~np.isnan(after) & ~(begun & broken[:, np.newaxis, :]).any(axis=0)
    allowed = np.where(broken, -np.inf, gains)
    numbers = {
        "exposed_to_breach": _over(runs.in_phases, broken),
        "false_suspensions": np.asarray(false.any(axis=-1), dtype=np.float64),
        "share_best_within_limits": _over(
            runs.in_phases / runs.assigned.sum(axis=-1, keepdims=True), allowed == allowed.max(axis=-1, keepdims=True)
        ),
    }
    scores = {}
    for index in np.flatnonzero(treatments):
        own = after[:, index]
        suspended = Estimate.of((~np.isnan(own)).astype(np.float64))
        breaks = bool(broken[:, index].any())
        scores[experiment.arms[index]] = SuspensionScore(breaks, suspended, Estimate.median(own))
    return {name: Estimate.of(values) for name, values in numbers.items()}, scores
