"""What to do: one rule, evaluated at the look, for every variant and for the experiment.

In this order, the first that applies:

1. a guardrail is broken, or the variant was suspended by hand, or the data have to be fixed first: do not deploy;
2. worse than control, or a gain of `mde` is ruled out: do not deploy;
3. better than control, every guardrail certified, old enough, and the last seven days do not say the opposite: deploy;
4. better, but one of these is lacking: keep running;
5. else keep running; at the horizon, or once stopped: inconclusive, keep control.

"Better" and "worse" are e-values of at least 1/b, b being half of the variant's share of alpha, with an estimate that
agrees, and a certificate is an e-value too. Deploying a variant that is not better takes a wrong "better", and
deploying one beyond a limit takes a wrong certificate, so each has probability b at most over all looks, and all
variants together alpha/2 at most. Nothing is remembered: a variant that was better last week and no longer is will not
be deployed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bandit.report.document import Decision, GuardrailReport, GuardrailState
from bandit.report.numbers import about, days, level, percent


@dataclass(frozen=True, slots=True)
class Situation:
    """What holds for all variants.

    Attributes:
        metric: Name of the goal.
        is_share: Whether its mean is a share.
        higher_is_better: Its direction.
        mde: Smallest relative gain that matters.
        control: Key of control.
        state: Of the experiment; "log" for a log.
        unit: What is counted: "user" or "row".
        has_propensities: Whether anybody knows how users were assigned.
        fix_first: What is wrong with the data, in words.
        age_days: Age of the experiment; None without a clock.
        min_days: No "deploy" before.
        horizon: The declared horizon if it is reached, in words; None otherwise.
        per_day: Present traffic; None if not known.
        window_days: Time until an outcome is final.
    """

    metric: str
    is_share: bool
    higher_is_better: bool
    mde: float
    control: str
    state: str
    unit: str
    has_propensities: bool
    fix_first: tuple[str, ...]
    age_days: float | None
    min_days: float
    horizon: str | None
    per_day: float | None
    window_days: float


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one treatment.

    Attributes:
        variant: Its key.
        mean: Its mean outcome on the goal.
        control_mean: Control's.
        log_better: ln E against "at no time better than control".
        log_worse: ln E against "at no time worse".
        log_threshold: ln of the e-value that decides either, ln 1/b.
        too_small: Whether a gain of `mde` is ruled out.
        gain: Estimated difference, positive is better; nan without one.
        recent_gain: The same over the last seven days; nan without one.
        guardrails: Each guardrail with the variant's state on it.
        no_response: What is wrong with how often its users have an outcome; empty: nothing.
        suspended: Why a person suspended it, empty if they did not say; None: no person did.
        users_to_decision: Further users until the goal can be expected to be decided; None: not to be told.
        assuming: What has to hold for that.
        share: Its probability now; None if there is none.
        generation_days: Age of its latest generation; None: as old as the experiment.
    """

    variant: str
    mean: float | None
    control_mean: float | None
    log_better: float
    log_worse: float
    log_threshold: float
    too_small: bool
    gain: float
    recent_gain: float
    guardrails: tuple[tuple[GuardrailReport, GuardrailState], ...]
    no_response: str
    suspended: str | None
    users_to_decision: float | None
    assuming: str
    share: float | None
    generation_days: float | None = None


def decide(now: Situation, facts: Facts) -> Decision:
    """Return what to do with a variant."""
    against = _against(now, facts)
    if against is not None:
        return against
    if not now.has_propensities:
        return _UNKNOWN
    # The evidence refutes "at no time better"; that the estimate agrees keeps an old advantage from deciding.
    return _better(now, facts) if facts.log_better >= facts.log_threshold and facts.gain > 0.0 else _open(now, facts)


def decide_all(now: Situation, decisions: Mapping[str, Decision], facts: Sequence[Facts]) -> Decision:
    """Return what to do with the experiment, from what to do with its variants."""
    if now.fix_first:
        return Decision("do_not_deploy", "data", f"Fix the data first: {'; '.join(now.fix_first)}.")
    good = [each for each in facts if decisions[each.variant].verdict == "deploy"]
    if good:
        best = max(good, key=lambda each: each.gain)
        others = [each.variant for each in good if each is not best]
        also = f" {_listed(others)} may be deployed too, with a smaller gain." if others else ""
        return Decision("deploy", "better", decisions[best.variant].sentence + also)
    every = list(decisions.values())
    undecided = [each for each in every if each.verdict != "do_not_deploy"]
    if undecided:
        # A variant that is better already is what people wait for; else the one that takes longest.
        return min(undecided, key=lambda each: (each.reason == "not_enough_data", -(each.expected_users or 0)))
    keep = f"Keep {now.control}. "
    return Decision("do_not_deploy", every[0].reason, keep + " ".join(each.sentence for each in every))


_UNKNOWN = Decision(
    "unknown",
    "no_propensities",
    "No decision: the probabilities with which variants were assigned are not known. Declare the split if it was fixed "
    "(--split), or give the probability of each variant (columns propensity.<variant>).",
)


def _against(now: Situation, facts: Facts) -> Decision | None:
    """Return why a variant is not to be deployed, or None."""
    broken = [pair for pair in facts.guardrails if pair[1].state == "breached"]
    named = [*(_broken(rail, state) for rail, state in broken), *filter(None, [facts.no_response])]
    if named:
        return Decision("do_not_deploy", "guardrail", f"Do not deploy {facts.variant}: {'; '.join(named)}.")
    if facts.suspended is not None:
        why = f" ({facts.suspended})" if facts.suspended else ""
        return Decision("do_not_deploy", "suspended", f"Do not deploy {facts.variant}: it was suspended by hand{why}.")
    if now.fix_first:
        return Decision("do_not_deploy", "data", f"Do not deploy {facts.variant}: fix the data first.")
    if facts.log_worse >= facts.log_threshold and facts.gain < 0.0:
        return Decision("do_not_deploy", "worse", f"Do not deploy {facts.variant}: {_compared(now, facts)}.")
    if facts.too_small:
        ruled_out = f"a gain of {percent(now.mde)} or more in {now.metric} is ruled out{_seen(now, facts)}"
        return Decision("do_not_deploy", "too_small", f"Do not deploy {facts.variant}: {ruled_out}.")
    return None


def _better(now: Situation, facts: Facts) -> Decision:
    """Return the decision on a variant that is better than control."""
    better = _compared(now, facts)
    age = now.age_days if facts.generation_days is None else facts.generation_days
    lacking = [(rail, state) for rail, state in facts.guardrails if state.state != "ok"]
    if lacking:
        users = _users_for_guardrails(facts, [state for _, state in lacking])
        named = "; ".join(_uncertified(now, rail, state) for rail, state in lacking)
        sentence = f"Keep running {facts.variant}: {better}, but {named}."
        expected = _days(now, users)
        if expected is not None and age is not None:
            expected = max(expected, now.min_days - age)
        assuming = "" if users is None else "the guardrails stay as they are seen"
        return Decision("keep_running", "guardrail_unknown", sentence, _count(users), expected, assuming)
    if age is None and now.min_days > 0:
        sentence = (
            f"Keep running {facts.variant}: {better}, but there are no times to say whether that has held for "
            f"{now.min_days:g} days; set min_days (--min-days) to 0 if it need not."
        )
        return Decision("keep_running", "too_young", sentence)
    if age is not None and age < now.min_days:
        what = "the experiment" if facts.generation_days is None else "what it is now"
        sentence = (
            f"Keep running {facts.variant}: {better}, but {what} is {age:.1f} of {now.min_days:g} "
            "days old, and days of a week differ."
        )
        return Decision("keep_running", "too_young", sentence, None, now.min_days - age)
    if facts.recent_gain < 0.0:
        sentence = (
            f"Keep running {facts.variant}: {better}, but over the last seven days it is worse; a new thing fades."
        )
        return Decision("keep_running", "novelty", sentence)
    kept = ""
    if facts.guardrails:
        kept = ", and its guardrail is kept" if len(facts.guardrails) == 1 else ", and every guardrail is kept"
    return Decision("deploy", "better", f"Deploy {facts.variant}: {better}{kept}.")


def _open(now: Situation, facts: Facts) -> Decision:
    """Return the decision on a variant of which the goal says nothing yet."""
    if now.horizon is not None:
        sentence = f"Inconclusive: {facts.variant} could not be told from {now.control} by {now.horizon}. "
        return Decision("inconclusive", "horizon", f"{sentence}Keep {now.control}.")
    if now.state == "stopped":
        sentence = f"Inconclusive: stopped before {facts.variant} could be told from {now.control}. "
        return Decision("inconclusive", "stopped", f"{sentence}Keep {now.control}.")
    users = facts.users_to_decision
    expected = _days(now, users)
    if users is None:
        more = "what it takes cannot be said yet (bandit-sim plan says what to expect)"
    else:
        time = "" if expected is None else f", {days(expected)} at the present traffic,"
        more = f"about {about(users)} more {now.unit}s{time} if {facts.assuming}"
    sentence = f"Keep running: not enough data to tell {facts.variant} from {now.control}; {more}."
    return Decision("keep_running", "not_enough_data", sentence, _count(users), expected, facts.assuming)


def _compared(now: Situation, facts: Facts) -> str:
    """Return the difference on the goal in words: larger than chance shows, whatever the moment of the look."""
    side = "higher" if (facts.gain > 0) == now.higher_is_better else "lower"
    size = f"{100.0 * abs(facts.gain):.2g} points" if now.is_share else f"{abs(facts.gain):.3g}"
    if not math.isfinite(facts.gain) or facts.gain == 0.0:
        return f"{now.metric} differs from {now.control}'s"
    return f"{now.metric} is {size} {side} than under {now.control}{_seen(now, facts)}"


def _seen(now: Situation, facts: Facts) -> str:
    """Return both means in brackets; nothing where traffic that moved makes them say the opposite."""
    if facts.mean is None or facts.control_mean is None:
        return ""
    raw = (facts.mean - facts.control_mean) * (1.0 if now.higher_is_better else -1.0)
    if raw * facts.gain < 0.0:
        return ""
    means = (level(mean, is_share=now.is_share) for mean in (facts.mean, facts.control_mean))
    return " ({} against {})".format(*means)


def _broken(rail: GuardrailReport, state: GuardrailState) -> str:
    return f"{rail.metric} breaks its limit ({_state_in_words(rail, state)}; allowed: {rail.limit})"


def _uncertified(now: Situation, rail: GuardrailReport, state: GuardrailState) -> str:
    if state.users == 0:
        return f"no {now.unit} has a value of {rail.metric}, so nobody knows whether it keeps its limit"
    need = "at its present level it never will be, so unless that changes it cannot be deployed"
    if state.users_needed is not None:
        need = f"about {about(state.users_needed)} more {now.unit}s of {state.variant} are needed"
    return f"{rail.metric} is not yet certain to keep its limit ({_state_in_words(rail, state)}; {rail.limit}): {need}"


def _state_in_words(rail: GuardrailReport, state: GuardrailState) -> str:
    if state.relative is not None:
        side = "above" if state.relative >= 0.0 else "below"
        return f"{percent(abs(state.relative))} {side} control"
    return level(state.level, is_share=rail.statistic != "mean")


def _users_for_guardrails(facts: Facts, states: Sequence[GuardrailState]) -> float | None:
    """Return the users of the experiment until every guardrail can be certified, None where one never is."""
    needed = [state.users_needed for state in states]
    if not facts.share or any(users is None for users in needed):
        return None
    return max(users for users in needed if users is not None) / facts.share


def _days(now: Situation, users: float | None) -> float | None:
    if users is None or not now.per_day or now.state not in {"running", "log"}:
        return None
    return users / now.per_day + now.window_days


def _count(users: float | None) -> int | None:
    return None if users is None else math.ceil(users)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
