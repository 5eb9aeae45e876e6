"""Prediction-powered inference: the human mean of an arm from many judge scores and few human labels.

With N users in all and labels h of some, the estimate takes the judge's mean over everybody and corrects it by what
the labels say about the judge's error:

    estimate = λ f̄ + Σ w (h − λ f) / Σ w,      w = 1 / P(label) / (items of the user)

It is right whatever the judge is worth: the judge decides on the width alone. λ in [0, 1] is tuned to the smallest
variance, so a useless judge (λ = 0) leaves the labels by themselves. Weights are scaled to sum N, so P(label) may be
known up to a factor; none means that all items had the same.

Choices, each by the coverage of intervals of level 0.95 in 1,000 to 5,000 runs of worlds with a good, useless or
biased judge of 0/1, ordinal, normal and log-normal outcomes, 20 to 200 labels of 500 or 5,000 items:

- λ is the weighted slope of labels on scores over the labelled items. With the scores' variance over all items in it,
  as in the papers, a good judge of a log-normal outcome is used badly: with 20 labels a half width of 0.43 that covers
  0.83, instead of 0.32 and 0.87.
- λ comes from all labels (plug-in), each error in the variance from the λ of the other labels (leave-one-out): a free
  λ costs 1 to 3 % of the width, and coverage does not suffer. Estimating with left-out λ changed no coverage by more
  than 0.03 and was wider where events are rare.
- Student's law, with the degrees of freedom of the labels' part of the variance (Satterthwaite), weights included.
  With 20 labels the normal law covers 0.01 to 0.04 less. With 50 labels of very unequal weight and a useless judge
  Kish's effective sample size as degrees of freedom covers 0.92 instead of 0.95.
- A good judge of 0 and 1 may show none of its errors in few labels; the correction then looks known without error.
  With a judge right on 0.99 of the ones and 0.90 of the zeros and 5,000 items, 20, 50 and 200 labels cover 0.61, 0.87
  and 0.95. So `PRIOR_LABELS` labels on which the judge is worth nothing join the variance of the correction, as far
  as its errors are rare: times 1 − 3 / kurtosis. They then cover 0.995, 0.96 and 0.96; too much with 20 labels,
  which cannot tell 0.99 from 0.90. Where errors are not rare nothing changes.

What remains: a skewed outcome (log-normal) covers 0.92 with 20 labels and 0.94 from 50 on. Labels drawn six times as
often where the judge gives a 0 cover 0.92 with labels worth about 40 equal ones and 0.94 with 120.

Sources: Angelopoulos, Bates, Fannjiang, Jordan, Zrnic (2023), Prediction-powered inference, Science 382; Angelopoulos,
Duchi, Zrnic (2023), PPI++: efficient prediction-powered inference; for labels sampled with known probabilities Zrnic,
Candès (2024), Active statistical inference, with the ratio form of Hájek (1971), which a shift of the scores does
not move.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.special as sc

from bandit.arrays import FloatArray, IntArray
from bandit.errors import InvalidInput, Problem
from bandit.inference.agreement import alpha_problems, column_problems

FEWEST_LABELS = 20
"""Labelled users per arm before anything is said.

With 10, 15 and 20 labels and a judge that calls 0.4 of the zeros a one, intervals cover 0.91, 0.94 and 0.95."""

FEWEST_EVENTS = 5
"""With fewer labels of the rarer of two values an interval is not to be relied on.

With a rate of 0.03, 50 and 200 labels of 5,000 items cover 0.82 and 0.91; those of the 200 with 5 events 0.95."""

PRIOR_LABELS = 4.0
"""Labels on which the judge is worth nothing, joined to the variance as far as the judge's errors are rare."""

Users = npt.NDArray[np.int64] | npt.NDArray[np.str_]
"""Who an item is of: one whole number or text per item."""

_MOST_PULL = 0.9  # of one label on λ: where it decides alone, the others say nothing of its error
_ROUNDING = 1e-12  # a spread below this part of the numbers is a rounding error


@dataclass(frozen=True, slots=True)
class JudgedItems:
    """All judged items of an arm, some with a human label.

    Labels are a simple random sample of the items, or drawn one by one with the probabilities given. Users, not items,
    are what an experiment randomises: with `user` the outcome of a user is the mean over their items, and users are
    the units of every variance; without, each item is a user of its own.

    Attributes:
        human: Human labels, shape (n_labels,).
        judge: The judge's scores of the same items, shape (n_labels,).
        unlabelled: The judge's scores of all other items, shape (n_unlabelled,); may be empty.
        label_probability: Probability with which each labelled item was drawn for a label, in (0, 1], shape
            (n_labels,). Items that could not be drawn at all must not be among the unlabelled. None: all alike.
        user: User of each labelled item, shape (n_labels,).
        unlabelled_user: User of each other item, shape (n_unlabelled,); given if `user` is.

    Raises:
        InvalidInput: Columns of different length, no label, or something that is no finite number.
    """

    human: FloatArray
    judge: FloatArray
    unlabelled: FloatArray
    label_probability: FloatArray | None = None
    user: Users | None = None
    unlabelled_user: Users | None = None

    def __post_init__(self) -> None:
        chances = {} if self.label_probability is None else {"label_probability": self.label_probability}
        problems = column_problems({"human": self.human, "judge": self.judge, **chances})
        problems += column_problems({"unlabelled": self.unlabelled}, least=0)
        problems += self._probability_problems() + self._user_problems()
        if problems:
            raise InvalidInput(problems)

    def _probability_problems(self) -> list[Problem]:
        if self.label_probability is None:
            return []
        p = np.asarray(self.label_probability)
        wrong = p[(p <= 0.0) | (p > 1.0)]
        message = "received {:g}, allowed: above 0, up to 1"
        return [Problem("label_probability", message.format(wrong[0]))] if len(wrong) else []

    def _user_problems(self) -> list[Problem]:
        if self.user is None and self.unlabelled_user is None:
            return []
        if self.user is None or self.unlabelled_user is None:
            missing = "user" if self.user is None else "unlabelled_user"
            return [Problem(missing, "is missing: users are given for all items or for none")]
        problems = []
        for name, users, of, items in (
            ("user", self.user, "human", self.human),
            ("unlabelled_user", self.unlabelled_user, "unlabelled", self.unlabelled),
        ):
            if np.shape(users) != np.shape(items):
                problems.append(Problem(name, f"received {len(users)} items, allowed: {len(items)}, as many as {of}"))
            elif len(users) and np.asarray(users).dtype.kind not in "iuU":
                problems.append(Problem(name, "allowed: whole numbers or texts"))
        return problems


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean, or a difference of means, with its interval.

    Attributes:
        value: In the unit of the human labels.
        standard_error: Its standard error.
        df: Degrees of freedom of the interval.
        interval: Student's, at the level asked for.
    """

    value: float
    standard_error: float
    df: float
    interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Refusal:
    """No estimate, and why not, in words."""

    reason: str


@dataclass(frozen=True, slots=True)
class PredictionPowered:
    """The human mean of an arm.

    Attributes:
        corrected: The judge's mean, corrected by the labels.
        labels_only: From the labels alone, weighted.
        judge_only: The judge's mean, not corrected: right only if the judge is not biased.
        judge_weight: λ, how far the judge is relied on, in [0, 1].
        n_labels: Labelled users.
        n_users: Users in all.
        deviation: Of a labelled user's outcome: labels alone have the standard error deviation / √n_labels. Weights
            of labels are in it.
        correlation: Of judge and human over labelled users.
        gain: Squared standard error of `labels_only` over that of `corrected`.
        reasons: Why the intervals may not be relied on, in words.
    """

    corrected: Estimate
    labels_only: Estimate
    judge_only: Estimate
    judge_weight: float
    n_labels: int
    n_users: int
    deviation: float
    correlation: float
    gain: float
    reasons: tuple[str, ...]

    @property
    def effective_labels(self) -> float:
        """Labels that would be as good without a judge: n_labels × gain."""
        return self.n_labels * self.gain

    @property
    def trustworthy(self) -> bool:
        """Whether there is no reason against it."""
        return not self.reasons


@dataclass(frozen=True, slots=True)
class PredictionPoweredDifference:
    """Human mean of an arm minus that of control.

    Attributes:
        corrected: As in `PredictionPowered`.
        labels_only: Welch's interval if all labels have the same weight.
        judge_only: Off by the difference of the judge's biases.
        gain: Squared standard error of `labels_only` over that of `corrected`.
        arm: The arm by itself.
        control: Control by itself.
    """

    corrected: Estimate
    labels_only: Estimate
    judge_only: Estimate
    gain: float
    arm: PredictionPowered
    control: PredictionPowered

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the intervals may not be relied on, in words."""
        sides = (("arm", self.arm), ("control", self.control))
        return tuple(f"{name}: {reason}" for name, side in sides for reason in side.reasons)

    @property
    def trustworthy(self) -> bool:
        """Whether there is no reason against it."""
        return not self.reasons


def prediction_powered_mean(items: JudgedItems, alpha: float = 0.05) -> PredictionPowered | Refusal:
    """Return the mean of the human outcome over users like these.

    Args:
        items: Judged items of the arm.
        alpha: Intervals have level 1 − alpha, each by itself.

    Returns:
        A refusal with fewer than `FEWEST_LABELS` labelled users, or where their labels do not vary.

    Raises:
        InvalidInput: `alpha` is not in (0, 1).

    Example:
        >>> human = np.tile([1.0, 1.0, 0.0, 0.0, 1.0], 8)
        >>> judge = np.tile([1.0, 1.0, 1.0, 0.0, 1.0], 8)
        >>> found = prediction_powered_mean(JudgedItems(human, judge, np.repeat([1.0, 0.0], [300, 100])))
        >>> round(found.judge_only.value, 3), round(found.corrected.value, 3)
        (0.755, 0.566)
    """
    problems = alpha_problems(alpha)
    if problems:
        raise InvalidInput(problems)
    users = _Users.of(items)
    if users.n_labels < FEWEST_LABELS:
        return Refusal(f"{users.n_labels} labelled users, {FEWEST_LABELS} are needed")
    if users.labels_by_weight < 2.0:
        return Refusal("one label has nearly all the weight")
    if not users.varies:
        return Refusal("human labels do not vary over users: what they do not show cannot be estimated")
    weight = users.best_judge_weight()
    corrected = users.estimate(weight, alpha)
    labels_only = users.estimate(0.0, alpha)
    return PredictionPowered(
        corrected=corrected,
        labels_only=labels_only,
        judge_only=users.judge_only(alpha),
        judge_weight=weight,
        n_labels=users.n_labels,
        n_users=users.n_users,
        deviation=labels_only.standard_error * math.sqrt(users.n_labels),
        correlation=users.correlation,
        gain=(labels_only.standard_error / corrected.standard_error) ** 2,
        reasons=_reasons(items, users),
    )


def prediction_powered_difference(
    arm: JudgedItems, control: JudgedItems, alpha: float = 0.05
) -> PredictionPoweredDifference | Refusal:
    """Return the human mean of an arm minus that of control. λ is tuned in each by itself.

    Args:
        arm: Judged items of the arm.
        control: Judged items of control; no user is in both.
        alpha: Intervals have level 1 − alpha, each by itself.

    Returns:
        A refusal if either arm has one.

    Raises:
        InvalidInput: `alpha` is not in (0, 1).
    """
    a, c = prediction_powered_mean(arm, alpha), prediction_powered_mean(control, alpha)
    if isinstance(a, Refusal):
        return Refusal(f"arm: {a.reason}")
    if isinstance(c, Refusal):
        return Refusal(f"control: {c.reason}")
    corrected = _difference(a.corrected, c.corrected, alpha)
    labels_only = _difference(a.labels_only, c.labels_only, alpha)
    judge_only = _difference(a.judge_only, c.judge_only, alpha)
    gain = (labels_only.standard_error / corrected.standard_error) ** 2
    return PredictionPoweredDifference(corrected, labels_only, judge_only, gain, a, c)


def labels_needed(
    half_width: float, deviation: float, correlation: float, n_users: int, alpha: float = 0.05
) -> int | None:
    """Return how many users of an arm need a label for an interval of this half width.

    Solves t² (ρ² σ² / N + (1 − ρ²) σ² / n) = half_width² for n, with σ² / n joined by `PRIOR_LABELS` as if the judge's
    errors were rare: often some labels fewer do. For a difference of two arms alike ask for half_width / √2 in each.

    Args:
        half_width: Wanted, in the unit of the human labels, above 0.
        deviation: σ of a user's human outcome, above 0; `PredictionPowered.deviation` of a pilot has the weights of its
            labels in it. A rate p has √(p (1 − p)).
        correlation: ρ of judge and human, in [−1, 1]; not above 0 is useless.
        n_users: Users with a judge score, N, labelled ones among them.
        alpha: The interval has level 1 − alpha.

    Returns:
        From `FEWEST_LABELS` to n_users; None if labels of all of them do not do: more users are needed.

    Raises:
        InvalidInput: A number is out of range.

    Example:
        >>> labels_needed(0.05, 0.5, 0.0, 5000), labels_needed(0.05, 0.5, 0.8, 5000)
        (387, 156)
    """
    problems = alpha_problems(alpha)
    problems += [
        Problem(name, f"received {value!r}, allowed: a finite number above 0")
        for name, value in (("half_width", half_width), ("deviation", deviation), ("n_users", n_users))
        if not 0.0 < value < math.inf
    ]
    if not -1.0 <= correlation <= 1.0:
        problems.append(Problem("correlation", f"received {correlation!r}, allowed: from -1 to 1"))
    if problems:
        raise InvalidInput(problems)
    explained = max(correlation, 0.0) ** 2

    def suffices(n: int) -> bool:
        helped = explained > 0.0 and n < n_users
        rest = 1.0 / n
        if helped:
            rest *= (n * (1.0 - explained) + PRIOR_LABELS) / (n - 1.0 + PRIOR_LABELS)
        variance = rest + (explained / n_users if helped else 0.0)
        df = (n - 1.0 - float(helped)) * (variance / rest) ** 2
        return float(sc.stdtrit(df, 1.0 - alpha / 2.0)) * math.sqrt(variance) * deviation <= half_width

    low, high = FEWEST_LABELS, n_users
    if high < low or not suffices(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if suffices(middle) else (middle + 1, high)
    return low


@dataclass(frozen=True, slots=True)
class _Users:
    """What the users of an arm add to the means; arrays of shape (n_users,), 0 without a label unless said.

    Attributes:
        labelled: Whether a user has a label.
        weight: Sum of a user's label weights; they sum to n_users.
        human: A user's weighted sum of human − `human_mean`.
        judge: A user's weighted sum of judge − `judge_mean`.
        score: Mean judge score of a user, minus `judge_mean`; of all users.
        human_mean: Weighted mean of the labels.
        judge_mean: Weighted mean of the judge's scores of labelled items.
        size: Largest size of a label.
    """

    labelled: npt.NDArray[np.bool_]
    weight: FloatArray
    human: FloatArray
    judge: FloatArray
    score: FloatArray
    human_mean: float
    judge_mean: float
    size: float

    @classmethod
    def of(cls, items: JudgedItems) -> _Users:
        h, f = np.asarray(items.human, dtype=np.float64), np.asarray(items.judge, dtype=np.float64)
        every = np.concatenate([f, np.asarray(items.unlabelled, dtype=np.float64)])
        index = _index(items, len(every))
        own = 1.0 / np.bincount(index)[index]
        n_users, at = int(index.max()) + 1, index[: len(h)]
        p = 1.0 if items.label_probability is None else np.asarray(items.label_probability, dtype=np.float64)
        raw = own[: len(h)] / p
        w = raw * (n_users / raw.sum())
        human_mean, judge_mean = float(w @ h) / n_users, float(w @ f) / n_users

        def by_user(users: IntArray, values: FloatArray) -> FloatArray:
            return np.asarray(np.bincount(users, values, n_users), dtype=np.float64)

        return cls(
            labelled=np.bincount(at, minlength=n_users) > 0,
            weight=by_user(at, w),
            human=by_user(at, w * _minus(h, human_mean)),
            judge=by_user(at, w * _minus(f, judge_mean)),
            score=by_user(index, own * _minus(every, judge_mean)),
            human_mean=human_mean,
            judge_mean=judge_mean,
            size=float(np.abs(h).max()),
        )

    @property
    def n_users(self) -> int:
        return len(self.labelled)

    @property
    def n_labels(self) -> int:
        return int(self.labelled.sum())

    @property
    def labels_by_weight(self) -> float:
        """Labels of equal weight that would be as good: Kish's effective sample size."""
        return self.n_users**2 / float(self.weight @ self.weight)

    @property
    def varies(self) -> bool:
        return bool(np.abs(self.human).max() > _ROUNDING * self.size * self.weight.max())

    @property
    def correlation(self) -> float:
        squares = float(self.human @ self.human) * float(self.judge @ self.judge)
        return float(self.human @ self.judge) / math.sqrt(squares) if squares > 0.0 else 0.0

    def best_judge_weight(self) -> float:
        """Return the λ in [0, 1] with the smallest variance, as the labelled users show it."""
        rest = self._rest
        curvature = float(self.judge @ rest)
        if curvature <= _ROUNDING * float(self.judge @ self.judge):
            return 0.0
        return min(max(float(self.human @ rest) / curvature, 0.0), 1.0)

    def estimate(self, judge_weight: float, alpha: float) -> Estimate:
        """Return the mean of λ score + (human − λ judge) with its interval."""
        error = self.human - judge_weight * self.judge
        fitted = 0.0 < judge_weight < 1.0
        own = self._squares(self._left_out(error) if fitted else error)
        useless = self._squares(self.human)
        n, joined = self.n_labels, PRIOR_LABELS * _rarity(error, useless, self.n_labels)
        labels_part = ((n - 1.0) * own + joined * useless) / (n - 1.0 + joined)
        score = judge_weight * (self.score - self.score.mean())
        judge_part = float(score @ score) * self.n_users / (self.n_users - 1.0) + 2.0 * float(score @ error)
        variance = labels_part + judge_part
        value = self.human_mean + judge_weight * float(self.score.mean())
        share = min(labels_part / variance, 1.0)
        df = max(self._df - float(fitted), 1.0) / share**2
        return _estimate(value, math.sqrt(variance) / self.n_users, df, alpha)

    @property
    def _rest(self) -> FloatArray:
        """What the slope λ is measured by.

        The variance is that of λ score + (human − λ judge) over users. A labelled user's judge sum has the expectation
        `score`, so Σ judge × score over the labelled stands for Σ score² over all: the spread of the scores then
        cancels where the judge is good.
        """
        return self.judge - self.score * self.labelled

    @property
    def _df(self) -> float:
        """Degrees of freedom of Σ error² for normal outcomes: labels − 1 if all have the same weight."""
        squares = self.weight**2
        return float(squares.sum()) ** 2 / float(squares @ squares) - 1.0

    def _left_out(self, error: FloatArray) -> FloatArray:
        """Return each user's error with the λ that the other labels give."""
        pull = self.judge * self._rest
        return np.asarray(error / (1.0 - np.clip(pull / pull.sum(), 0.0, _MOST_PULL)))

    def _squares(self, error: FloatArray) -> float:
        """Return Σ error², each for how much a user pulls the mean: with equal weights the factor is n / (n − 1)."""
        kept = np.maximum(1.0 - self.weight / self.n_users, _ROUNDING)
        return float(error @ (error / kept))

    def judge_only(self, alpha: float) -> Estimate:
        standard_error = float(self.score.std(ddof=1)) / math.sqrt(self.n_users)
        return _estimate(self.judge_mean + float(self.score.mean()), standard_error, self.n_users - 1.0, alpha)


def _minus(values: FloatArray, mean: float) -> FloatArray:
    """Return values − mean, 0 where only rounding is left."""
    rest = values - mean
    return np.where(np.abs(rest) > _ROUNDING * np.abs(values).max(), rest, 0.0)


def _rarity(error: FloatArray, plain: float, n: int) -> float:
    """Return 1 − 3 / kurtosis of the labelled users' errors, in [0, 1]: 0 for normal errors, near 1 for rare ones."""
    top = float(np.abs(error).max())
    if top * top <= _ROUNDING * plain:
        return 1.0
    squares = (error / top) ** 2
    kurtosis = n * float(squares @ squares) / float(squares.sum()) ** 2
    return max(1.0 - 3.0 / kurtosis, 0.0)


def _estimate(value: float, standard_error: float, df: float, alpha: float) -> Estimate:
    half = float(sc.stdtrit(df, 1.0 - alpha / 2.0)) * standard_error
    return Estimate(value, standard_error, df, (value - half, value + half))


def _difference(arm: Estimate, control: Estimate, alpha: float) -> Estimate:
    """Return arm − control, its degrees of freedom by Welch and Satterthwaite."""
    error = math.hypot(arm.standard_error, control.standard_error)
    sides = (arm, control)
    inverse = sum((side.standard_error / error) ** 4 / side.df for side in sides) if error > 0.0 else 0.0
    df = 1.0 / inverse if inverse > 0.0 else arm.df + control.df
    return _estimate(arm.value - control.value, error, df, alpha)


def _index(items: JudgedItems, n_items: int) -> IntArray:
    """Return a number per item, labelled ones first: the place of its user, from 0."""
    if items.user is None or items.unlabelled_user is None:
        return np.arange(n_items)
    every = [np.asarray(users) for users in (items.user, items.unlabelled_user) if len(users)]
    return np.unique(np.concatenate(every), return_inverse=True)[1]


def _reasons(items: JudgedItems, users: _Users) -> tuple[str, ...]:
    reasons = []
    values, counts = np.unique(np.asarray(items.human), return_counts=True)
    if len(values) == 2 and counts.min() < FEWEST_EVENTS:
        rarer = values[counts.argmin()]
        reasons.append(f"{counts.min()} labels are {rarer:g}, {FEWEST_EVENTS} are needed")
    if users.labels_by_weight < FEWEST_LABELS:
        equal = math.floor(users.labels_by_weight)
        reasons.append(f"the labels' weights leave {equal} labels of equal weight, {FEWEST_LABELS} are needed")
    return tuple(reasons)
