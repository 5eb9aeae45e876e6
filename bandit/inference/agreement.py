"""Agreement of a judge with human labels of the same items: how often, how far off, for whom, and since when.

A judge that is off by the same amount everywhere shifts all arms alike, and a comparison of arms survives it. What
misleads is a bias that differs between arms, moves over time, or follows the length or the place of an answer.
`prediction_powered.py` corrects estimates for all of these; the figures here say whether that is needed. All of them
take the labelled items as independent draws.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.special as sc

from bandit.arrays import BoolArray, FloatArray, IntArray
from bandit.errors import InvalidInput, Problem
from bandit.inference.welch import Sample, Welch, welch

MOST_VALUES = 20
"""With more different values than this there is no table: scores that fine are read by their bias."""

FEWEST_DIFFERENCES = 5
"""With fewer labels on which judge and human differ, in the arm or in control, their variances are hardly known."""

POOLED_LABELS = 4.0
"""Labels with the variance of both arms together that join the variance of each.

An arm whose few labels all agree would else look known without error. With 30 labels against 300, of which 2 to 5 %
differ, a test at 0.05 was wrong in 0.16 to 0.17 of 20,000 runs without them and in 0.01 to 0.08 with them; arms of
equal size do not change."""

FEWEST_IN_ORDER = 20
"""From so many labels on the drift test may be trusted: with normal, skewed and binary errors it then was wrong in
at most 0.055 of 8,000 to 20,000 runs at 0.05, and in 0.012 at 0.01. Where few labels differ, or with fewer labels, it
is wrong less often than that and finds less."""

LARGEST = 1e100
"""Largest size of a number, so that squares stay finite."""

_OVERSHOOT = 0.5826  # −ζ(1/2) / √(2π): mean overshoot of a normal random walk, in its standard deviations
_ROUNDING = 1e-12  # a spread below this part of the numbers is a rounding error


@dataclass(frozen=True, slots=True)
class Share:
    """A share with its exact interval.

    Attributes:
        events: How many had it.
        n: Of how many, at least 1.
        share: events / n.
        interval: Clopper-Pearson, at the level asked for.
    """

    events: int
    n: int
    share: float
    interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Kappa:
    """Cohen's kappa: agreement beyond what two raters with these shares of values would have by chance.

    Attributes:
        value: At most 1; 0 is chance. None where it is undefined.
        standard_error: Of large samples. None where it says nothing.
        note: Why something is None, in words; else empty.
    """

    value: float | None
    standard_error: float | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Confusion:
    """Labels counted by both values.

    Attributes:
        values: Those that occur, ascending.
        counts: A row per value of the human, a column per value of the judge.
    """

    values: tuple[float, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Bias:
    """Mean of judge − human.

    Attributes:
        n: Labels.
        mean: In the unit of the scores; above 0 the judge is too kind.
        standard_error: None where no two differences differ.
        interval: Student's, at the level asked for; None likewise.
        note: Why there is no interval, in words; else empty.
    """

    n: int
    mean: float
    standard_error: float | None
    interval: tuple[float, float] | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How a judge agrees with human labels.

    Attributes:
        n: Labels.
        accuracy: Share of labels on which both give the same value.
        kappa: Every disagreement counts alike.
        quadratic_kappa: A disagreement counts by its square, for ordinal and numeric scores.
        confusion: None with more than `MOST_VALUES` values.
        bias: Of all labels.
        bias_by_variant: By index of the variant; empty without variants.
        sensitivity: Share of the human's ones that the judge gives a one. None unless all values are 0 or 1.
        specificity: Share of the human's zeros that the judge gives a zero. None likewise.
    """

    n: int
    accuracy: Share
    kappa: Kappa
    quadratic_kappa: Kappa
    confusion: Confusion | None
    bias: Bias
    bias_by_variant: dict[int, Bias]
    sensitivity: Share | None
    specificity: Share | None


@dataclass(frozen=True, slots=True)
class DifferentialBias:
    """Whether the judge is biased differently in a variant than in control.

    Attributes:
        variant: Index.
        test: Of bias(variant) − bias(control), which is the error of a comparison by the judge alone. None where it
            cannot be made; `test.trustworthy` is false where few labels differ.
        differs: Whether the interval excludes 0; None without a test.
        note: Why there is no test, in words; else empty.
    """

    variant: int
    test: Welch | None
    differs: bool | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class BiasDrift:
    """Whether the judge's bias changed over time.

    Attributes:
        n: Labels.
        statistic: Largest standardised sum of (judge − human) − mean, in order of time; None where nothing varied.
        p_value: Against "the bias never changed"; None likewise.
        last_before: Time of the last label before the likeliest change; None likewise.
        before: Bias up to and with that time; None likewise.
        after: Bias later on; None likewise.
        trustworthy: Whether there are `FEWEST_IN_ORDER` labels and something varied.
        note: Why not, in words; else empty.
    """

    n: int
    statistic: float | None
    p_value: float | None
    last_before: float | None
    before: float | None
    after: float | None
    trustworthy: bool
    note: str = ""


@dataclass(frozen=True, slots=True)
class VerbosityBias:
    """Whether the judge's error goes with the length of the answer.

    Attributes:
        n: Labels.
        rho: Spearman's correlation of judge − human with the length; above 0 the judge favours long answers. None
            where one of them does not vary, or with fewer than 3 labels.
        p_value: Two-sided; None likewise.
        note: Why there is none, in words; else empty.
    """

    n: int
    rho: float | None
    p_value: float | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class PositionBias:
    """Whether the verdict of a pairwise judge depends on the order of the answers.

    Attributes:
        flips: Share of pairs whose verdict changes when the order is swapped.
        first: Share of the flips that lean to the answer shown first; 1/2 is no bias. None without flips.
    """

    flips: Share
    first: Share | None


def agreement(
    human: npt.ArrayLike, judge: npt.ArrayLike, variant: npt.ArrayLike | None = None, alpha: float = 0.05
) -> Agreement:
    """Return how a judge agrees with human labels.

    Args:
        human: Labels, shape (n,): 0 and 1, ordinal or numeric.
        judge: The judge's scores of the same items on the same scale, shape (n,).
        variant: Index of each item's variant, whole numbers of shape (n,); for the bias by variant.
        alpha: Intervals have level 1 − alpha, each by itself.

    Raises:
        InvalidInput: Columns of different length, empty, or with something that is no finite number.

    Example:
        >>> found = agreement([1, 1, 0, 0, 1], [1, 1, 1, 0, 1])
        >>> found.accuracy.share, round(found.kappa.value, 3), found.bias.mean
        (0.8, 0.545, 0.2)

    Reference:
        Cohen (1960), A coefficient of agreement for nominal scales; Cohen (1968), Weighted kappa; Clopper and
        Pearson (1934), The use of confidence or fiducial limits.
    """
    (h, j), index = _read({"human": human, "judge": judge}, variant, alpha)
    values, place = np.unique(np.concatenate([h, j]), return_inverse=True)
    row, column = place[: len(h)], place[len(h) :]
    binary = bool(np.isin(values, (0.0, 1.0)).all())
    one, zero = h == 1.0, h == 0.0
    return Agreement(
        n=len(h),
        accuracy=exact_share(h == j, alpha),
        kappa=_nominal_kappa(row, column, len(values)),
        quadratic_kappa=_quadratic_kappa(h, j),
        confusion=_confusion(values, row, column) if len(values) <= MOST_VALUES else None,
        bias=_bias(h, j, alpha),
        bias_by_variant={int(k): _bias(h[index == k], j[index == k], alpha) for k in np.unique(index)},
        sensitivity=exact_share(j[one] == 1.0, alpha) if binary and one.any() else None,
        specificity=exact_share(j[zero] == 0.0, alpha) if binary and zero.any() else None,
    )


def differential_bias(
    human: npt.ArrayLike, judge: npt.ArrayLike, variant: npt.ArrayLike, control: int = 0, alpha: float = 0.05
) -> tuple[DifferentialBias, ...]:
    """Return for every variant with labels whether the judge's bias differs from that in control.

    Welch's test; the variance of each arm is joined by `POOLED_LABELS` labels with the variance of both together.

    Args:
        human: Labels, shape (n,).
        judge: The judge's scores of the same items, shape (n,).
        variant: Index of each item's variant, whole numbers of shape (n,).
        control: Index of control.
        alpha: Level of each test. Divide it by the number of variants to be right about all of them together.

    Raises:
        InvalidInput: As `agreement`.
    """
    (h, j), index = _read({"human": human, "judge": judge}, variant, alpha)
    error, scale = j - h, _size(h, j)
    base = error[index == control]
    others = [int(k) for k in np.unique(index) if k != control]
    return tuple(_differential(k, error[index == k], base, scale, alpha) for k in others)


def bias_drift(human: npt.ArrayLike, judge: npt.ArrayLike, time: npt.ArrayLike) -> BiasDrift:
    """Return whether the judge's bias changed over time, by its largest standardised CUSUM.

    With errors d in order of time the statistic is max |Σ_{i≤k} (d_i − d̄)| / (s √n). Its law under no change is that
    of the largest size of a Brownian bridge, Kolmogorov's. A walk of n steps stays below the bridge by 0.5826 / √n in
    the mean, which the p-value allows for. Labels of the same time count together, so their order does not matter.

    Args:
        human: Labels, shape (n,).
        judge: The judge's scores of the same items, shape (n,).
        time: When each item was judged, any unit, shape (n,); any order.

    Raises:
        InvalidInput: As `agreement`.

    Reference:
        Ploberger and Krämer (1992), The CUSUM test with OLS residuals; Siegmund (1985), Sequential analysis,
        chapter X, for the correction of the step.
    """
    (h, j, t), _ = _read({"human": human, "judge": judge, "time": time})
    order = np.argsort(t, kind="stable")
    error, at = (j - h)[order], t[order]
    n, centred = len(error), error - error.mean()
    last = np.flatnonzero(np.append(at[1:] != at[:-1], False))  # a change needs labels after it
    if not _varies(error, _size(h, j)) or len(last) == 0:
        reason = "all labels have the same time" if len(last) == 0 else "judge − human is the same for all labels"
        return BiasDrift(n, None, None, None, None, None, False, reason)
    walk = np.abs(np.cumsum(centred)[last]) / (math.sqrt(float((centred**2).mean())) * math.sqrt(n))
    top = int(walk.argmax())
    cut = int(last[top]) + 1
    p_value = float(sc.kolmogorov(walk[top] + _OVERSHOOT / math.sqrt(n)))
    enough = n >= FEWEST_IN_ORDER
    note = "" if enough else f"{n} labels, {FEWEST_IN_ORDER} are needed"
    before, after = float(error[:cut].mean()), float(error[cut:].mean())
    return BiasDrift(n, float(walk[top]), p_value, float(at[cut - 1]), before, after, enough, note)


def verbosity_bias(human: npt.ArrayLike, judge: npt.ArrayLike, length: npt.ArrayLike) -> VerbosityBias:
    """Return whether judge − human goes with the length of the answer, by Spearman's correlation.

    The p-value is that of Student's law with n − 2 degrees of freedom, good from about 10 labels on.

    Args:
        human: Labels, shape (n,).
        judge: The judge's scores of the same items, shape (n,).
        length: Length of each answer, any unit, shape (n,).

    Raises:
        InvalidInput: As `agreement`.

    Reference:
        Kendall and Stuart (1973), The advanced theory of statistics, volume 2, section 31.19.
    """
    (h, j, size), _ = _read({"human": human, "judge": judge, "length": length})
    n, error = len(h), j - h
    if n < 3:
        return VerbosityBias(n, None, None, f"{n} labels, 3 are needed")
    if not _varies(error, _size(h, j)):
        return VerbosityBias(n, None, None, "judge − human is the same for all labels")
    if size.min() == size.max():
        return VerbosityBias(n, None, None, "all answers have the same length")
    a, b = (ranks - ranks.mean() for ranks in (_ranks(np.round(error / _size(h, j), 12)), _ranks(size)))
    rho = float(np.clip((a @ b) / math.sqrt(float(a @ a) * float(b @ b)), -1.0, 1.0))
    t = math.inf if abs(rho) == 1.0 else abs(rho) * math.sqrt((n - 2) / ((1.0 - rho) * (1.0 + rho)))
    return VerbosityBias(n, rho, float(2.0 * sc.stdtr(n - 2, -t)))


def position_bias(verdict: npt.ArrayLike, swapped: npt.ArrayLike, alpha: float = 0.05) -> PositionBias:
    """Return how often a pairwise judge changes its verdict with the order, and to which place it then leans.

    Args:
        verdict: Verdict on answers A and B shown in this order, shape (n,): larger is more in favour of B, for
            example 0 for A, 1 for B, 0.5 for a tie.
        swapped: Verdict on the same two answers with B shown first, on the same scale: still larger for B.
        alpha: Intervals have level 1 − alpha.

    Raises:
        InvalidInput: As `agreement`.

    Example:
        >>> found = position_bias([0, 0, 1, 0], [0, 1, 1, 1])
        >>> found.flips.share, found.first.share
        (0.5, 1.0)
    """
    (shown, back), _ = _read({"verdict": verdict, "swapped": swapped}, alpha=alpha)
    flipped = shown != back
    first = exact_share((back > shown)[flipped], alpha) if flipped.any() else None
    return PositionBias(exact_share(flipped, alpha), first)


def exact_share(events: BoolArray, alpha: float) -> Share:
    """Return a share with its Clopper-Pearson interval.

    Args:
        events: Shape (n,), n >= 1.
        alpha: The interval has level 1 − alpha or more.
    """
    n, k = len(events), int(events.sum())
    low = float(sc.betaincinv(k, n - k + 1, alpha / 2.0)) if k > 0 else 0.0
    high = float(sc.betaincinv(k + 1, n - k, 1.0 - alpha / 2.0)) if k < n else 1.0
    return Share(k, n, k / n, (low, high))


def column_problems(columns: dict[str, npt.ArrayLike], least: int = 1) -> list[Problem]:
    """Return what is wrong with columns that belong together: not numbers, too few, of different length, not finite.

    Args:
        columns: By name.
        least: Fewest items.
    """
    problems: list[Problem] = []
    sizes: dict[str, int] = {}
    for name, values in columns.items():
        array = _as_numbers(values)
        if array is None or array.ndim != 1:
            problems.append(Problem(name, "allowed: one column of numbers"))
            continue
        sizes[name] = len(array)
        odd = np.flatnonzero(~(np.abs(array) <= LARGEST))
        if len(array) < least:
            problems.append(Problem(name, f"received {len(array)} items, allowed: {least} or more"))
        elif len(odd):
            message = f"received {array[odd[0]]:g} as item {odd[0]}, allowed: finite numbers up to {LARGEST:g} in size"
            problems.append(Problem(name, message))
    first = next(iter(sizes), "")
    for name, size in sizes.items():
        if size != sizes[first]:
            problems.append(Problem(name, f"received {size} items, allowed: {sizes[first]}, as many as {first}"))
    return problems


def alpha_problems(alpha: float) -> list[Problem]:
    """Return what is wrong with a level."""
    return [] if 0.0 < alpha < 1.0 else [Problem("alpha", f"received {alpha!r}, allowed: above 0, below 1")]


def _as_numbers(values: npt.ArrayLike) -> FloatArray | None:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return None


def _read(
    columns: dict[str, npt.ArrayLike], variant: npt.ArrayLike | None = None, alpha: float = 0.5
) -> tuple[list[FloatArray], IntArray]:
    """Return the columns as arrays, and the variants (none: an empty array)."""
    whole = {} if variant is None else {"variant": variant}
    problems = column_problems({**columns, **whole}) + alpha_problems(alpha)
    if not problems and variant is not None and (np.asarray(variant, dtype=np.float64) % 1.0 != 0.0).any():
        problems = [Problem("variant", "allowed: whole numbers, the index of each item's variant")]
    if problems:
        raise InvalidInput(problems)
    index = np.array([], dtype=np.int64) if variant is None else np.asarray(variant).astype(np.int64)
    return [np.asarray(values, dtype=np.float64) for values in columns.values()], index


def _size(*columns: FloatArray) -> float:
    return max(float(np.abs(column).max()) for column in columns)


def _varies(values: FloatArray, scale: float) -> bool:
    return bool(values.max() - values.min() > _ROUNDING * scale)


def _confusion(values: FloatArray, row: IntArray, column: IntArray) -> Confusion:
    n = len(values)
    counts = np.bincount(row * n + column, minlength=n * n).reshape(n, n)
    return Confusion(tuple(values.tolist()), tuple(tuple(line) for line in counts.tolist()))


def _bias(human: FloatArray, judge: FloatArray, alpha: float) -> Bias:
    error, n = judge - human, len(human)
    mean = float(error.mean())
    if not _varies(error, _size(human, judge)):
        why = "one label has no interval" if n == 1 else "judge − human is the same for all labels: no interval"
        return Bias(n, mean, None, None, why)
    standard_error = float(error.std(ddof=1)) / math.sqrt(n)
    half = float(sc.stdtrit(n - 1, 1.0 - alpha / 2.0)) * standard_error
    return Bias(n, mean, standard_error, (mean - half, mean + half))


def _differential(k: int, error: FloatArray, base: FloatArray, scale: float, alpha: float) -> DifferentialBias:
    both = np.concatenate([error, base])
    if min(len(error), len(base)) < 2:
        which = f"variant {k}" if len(error) < 2 else "control"
        return DifferentialBias(k, None, None, f"fewer than 2 labels of {which}")
    if not _varies(both, scale):
        return DifferentialBias(k, None, None, "judge − human is the same for all labels: nothing to test")
    sides = ((f"variant {k}", error), ("control", base))
    few = [(side, int((np.abs(values) > _ROUNDING * scale).sum())) for side, values in sides]
    reasons = [
        f"{count} labels of {side} on which judge and human differ, {FEWEST_DIFFERENCES} are needed"
        for side, count in few
        if count < FEWEST_DIFFERENCES
    ]
    samples = [_joined(values, both) for _, values in sides]
    test = welch(samples[0], samples[1], alpha, reasons)
    return DifferentialBias(k, test, None if test is None else test.p_value < alpha)


def _joined(error: FloatArray, both: FloatArray) -> Sample:
    df = len(error) - 1.0
    squares = df * float(error.var(ddof=1)) + POOLED_LABELS * float(both.var(ddof=1))
    return Sample(len(error), float(error.mean()), squares / (df + POOLED_LABELS))


def _nominal_kappa(row: IntArray, column: IntArray, n_values: int) -> Kappa:
    n = len(row)
    human, judge = (np.bincount(place, minlength=n_values) / n for place in (row, column))
    return _kappa((row != column).astype(np.float64), 2.0 - judge[row] - human[column], human, judge)


def _quadratic_kappa(human: FloatArray, judge: FloatArray) -> Kappa:
    centre, scale = human.mean(), max(_size(human, judge), np.finfo(np.float64).tiny)
    h, j = (human - centre) / scale, (judge - centre) / scale
    expected = (h - j.mean()) ** 2 + j.var() + (j - h.mean()) ** 2 + h.var()
    return _kappa((h - j) ** 2, expected, *(np.unique(x, return_counts=True)[1] / len(x) for x in (human, judge)))


def _kappa(cost: FloatArray, expected: FloatArray, *shares: FloatArray) -> Kappa:
    """Return 1 − mean cost / mean cost by chance, with its error.

    The error is that of Fleiss, Cohen and Everitt (1969), Large sample standard errors of kappa and weighted kappa,
    written over items: it is the standard deviation of cost − (1 − kappa) × expected over √n and chance. That is
    their formula 8 with weights 1 − cost.

    Args:
        cost: Of the disagreement on each item, shape (n,).
        expected: Mean cost of the human's value against all values of the judge, plus the other way round.
        shares: Of the values that the human and the judge gave.
    """
    chance = float(expected.mean()) / 2.0
    constant = [float(share.max()) == 1.0 for share in shares]
    if all(constant) and not cost.any():
        return Kappa(None, None, "undefined: human and judge gave one and the same value throughout")
    if any(constant):
        who = "the human" if constant[0] else "the judge"
        return Kappa(0.0, None, f"{who} gave one value throughout: kappa is 0 whatever the other gave")
    value = 1.0 - float(cost.mean()) / chance
    if not cost.any():
        return Kappa(value, None, "no disagreement was seen: the standard error is not known")
    spread = float((cost - (1.0 - value) * expected).std())
    return Kappa(value, spread / chance / math.sqrt(len(cost)))


def _ranks(values: FloatArray) -> FloatArray:
    """Return ranks from 1; equal values share the mean of theirs."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(count) - (count - 1) / 2.0)[place])
