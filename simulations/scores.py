"""Numbers with their standard errors, and what a policy's runs are worth."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bandit.arrays import BoolArray, FloatArray
from bandit.best_arm import probability_best
from bandit.engine import posterior_of
from bandit.experiment import Experiment
from bandit.inference.welch import welch_p_value
from bandit.policies import largest
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

    def fields(self, name: str) -> dict[str, float | None]:
        """Return the value and its standard error as JSON fields."""
        return {name: self.value, f"{name}_se": self.error}


@dataclass(frozen=True, slots=True)
class GuardrailScore:
    """How a guardrail metric fares; reported, not enforced.

    Attributes:
        metric: Its name.
        statistic: What is averaged over users: "rate", "mean" or "share above the limit".
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
class Score:
    """What a policy came to over many runs; see `score` for the definitions.

    Attributes:
        numbers: By name, in the order in which they are shown.
        welch: The same for Welch's test at the end of a run.
        guardrails: In file order.
    """

    numbers: Mapping[str, Estimate]
    welch: Mapping[str, Estimate]
    guardrails: tuple[GuardrailScore, ...]

    def to_dict(self) -> dict[str, object]:
        """Return JSON values: each number with its standard error beside it."""
        return {
            **_fields(self.numbers),
            "welch": _fields(self.welch),
            "guardrails": [guardrail.to_dict() for guardrail in self.guardrails],
        }


def _fields(numbers: Mapping[str, Estimate]) -> dict[str, object]:
    return {key: value for name, estimate in numbers.items() for key, value in estimate.fields(name).items()}


def score(experiment: Experiment, world: World, runs: Runs) -> Score:
    """Return what the runs of one policy are worth.

    Rewards are expected ones given the assignments, Σ users × true mean, not those drawn: the same
    expectation with less noise.

        reward_per_user   expected goal outcome per user, unit of the metric
        gain_over_fixed   its advantage over the equal split's, as a fraction of that; positive is better
        regret            Σ over the users of a run of |best true mean − true mean of their arm|
        share_best        share of users on an arm that is best (any, if several tie in truth)
        picked_best       1 if the arm with the largest P(best) at the end is such an arm
        epochs            allocations used

    Welch at the end of a run, read once: `significant`, 1 if any arm differs from control at
    alpha/(K − 1), two-sided; `mean_difference`, observed mean of the treatment that is best in truth minus
    control's (several: their average), so its distance from the true difference is Welch's bias.
    """
    means = world.means
    gains = means if experiment.goal.better == "higher" else -means
    best = gains == gains.max()
    users = runs.assigned.sum(axis=-1)
    share = runs.assigned / users[:, np.newaxis]
    reward, equal = share @ means, float(means.mean())
    advantage = share @ (gains - gains.mean())
    numbers = {
        "reward_per_user": reward,
        "gain_over_fixed": advantage / abs(equal) if equal else np.full(len(users), math.nan),
        "regret": runs.assigned @ (gains.max() - gains),
        "share_best": share @ best.astype(np.float64),
        "picked_best": _picked(experiment, runs, best),
        "epochs": runs.epochs.astype(np.float64),
    }
    significant, difference = _welch(experiment, gains, runs)
    welch = {"significant": significant, "mean_difference": difference}
    return Score(
        {name: Estimate.of(values) for name, values in numbers.items()},
        {name: Estimate.of(values) for name, values in welch.items()},
        _guardrails(world, share),
    )


def _picked(experiment: Experiment, runs: Runs, best: BoolArray) -> FloatArray:
    """Whether the arm with the largest P(best), by all data of the run, is one of the best; ties count in part."""
    pick = largest(probability_best(posterior_of(experiment, runs.totals)))
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
            statistic = "share above the limit"
        level = Estimate.of(share @ world.guardrail_means(guardrail))
        scores.append(GuardrailScore(guardrail.metric, statistic, guardrail.max, level))
    return tuple(scores)
