"""Which set-up to launch, in words: a policy that moves traffic, or a fixed split, and why."""

from __future__ import annotations

from simulations.compare import FIXED, UNGUARDED, Comparison
from simulations.scores import Score

WORTH = 0.001
"""Least relative gain, over all users of a run, for which traffic is worth moving."""

SURE = 1.96
"""Standard errors of a paired difference that luck exceeds once in 20 worlds."""

ENOUGH = 0.8
"""Share of runs that should be decided by the horizon."""


def advice(result: Comparison) -> list[str]:
    """Return a recommendation and its reasons, one sentence each; none where there is nothing to choose from.

    What counts is the reward of all users of a run, if everybody gets what was decided from the decision on: it weighs
    what a policy gains while it learns against how long it takes to decide.
    """
    base = result.policies.get(FIXED)
    others = [name for name in result.policies if name != FIXED and not name.endswith(UNGUARDED)]
    if base is None or not others or not base.deciding:
        return []
    if result.replications < 2:
        return ["One run advises nothing; more (--replications) say how much of a difference is luck."]
    best = max(others, key=lambda name: _advantage(result, name)[0])
    gain, error = _advantage(result, best)
    reward = base.numbers["reward_per_user"].value or 0.0
    worth = gain > SURE * error and gain > WORTH * abs(reward)
    chosen, other = (best, FIXED) if worth else (FIXED, best)
    size = f"{100 * gain / abs(reward):+.2g} ± {100 * error / abs(reward):.1g} %" if reward else f"{gain:+.3g}"
    sentences = [_verdict(result, best, size, worth=worth)]
    sentences.append(f"{_decides(result, chosen)}; {_decides(result, other)}.")
    if result.world.simulated:
        exposed = " and ".join(
            f"{_number(result.policies[name], 'exposed_to_breach'):,.0f} ({name})" for name in (chosen, other)
        )
        if any(_number(result.policies[name], "exposed_to_breach") for name in (chosen, other)):
            sentences.append(f"Users of a run on a variant that breaks a limit: {exposed}.")
    if _share(result.policies[chosen], "decided") < ENOUGH:
        sentences.append(
            f"{result.users:,} users are too few: only {_share(result.policies[chosen], 'decided'):.0%} of the runs are"
            " decided by then. More users, or a bolder variant, are needed; `bandit-sim plan` says how many."
        )
    return sentences


def _advantage(result: Comparison, name: str) -> tuple[float, float]:
    """Return how much more reward per user a policy gives than the fixed split, positive is better, and its error."""
    found = result.against_fixed(name)["reward_acted_on"]
    sign = 1.0 if result.experiment.goal.better == "higher" else -1.0
    return sign * (found.value or 0.0), found.error or 0.0


def _verdict(result: Comparison, best: str, gain: str, *, worth: bool) -> str:
    size = f"{gain} of {result.experiment.goal.metric} over {result.users:,} users"
    if worth:
        return (
            f"Launch {best}: it gives {size} against the fixed split, if everybody gets what was decided from then on."
        )
    if len(result.policies) > 2:
        return f"Launch a fixed split: the best of the policies that move traffic, {best}, gives {size}."
    return f"Launch a fixed split: {best} gives {size}, which is not worth moving traffic for."


def _decides(result: Comparison, name: str) -> str:
    found = result.policies[name]
    return (
        f"{name} decides {_share(found, 'decided'):.0%} of the runs by the horizon, after"
        f" {found.deciding['users_to_decision'].value or 0.0:,.0f} users in the mean, and"
        f" {_share(found, 'wrong_decision'):.1%} wrongly"
    )


def _share(found: Score, name: str) -> float:
    return found.deciding[name].value or 0.0


def _number(found: Score, name: str) -> float:
    return found.limits[name].value or 0.0
