"""Epochs of a log: users in the order of assignment, cut where propensities change, and in between.

The estimators take plug-in means from earlier epochs only, so a long stretch of constant propensities is cut
geometrically, as the engine would have done.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bandit.allocation import batch_size
from bandit.arrays import BoolArray, FloatArray, IntArray
from bandit.experiment import PolicySettings
from bandit.wording import received
from simulations.logs.faults import Faults

EXACT = 1e-6
"""Sums of propensities this near to 1 are 1: the rest is how numbers are printed."""

ROUNDED = 0.005
"""Sums this near to 1 are those of rounded shares; they are scaled to 1, and it is said."""


_INFERRED = (
    "Rows say the propensity of their own variant only; those of the others were inferred from the users before and "
    "after, which may be wrong for a few users where propensities change. Columns propensity.<variant>, or the epoch, "
    "make them exact."
)


@dataclass(frozen=True, slots=True)
class Entrants:
    """Users at their first rows, in the order of assignment as far as it is known.

    Attributes:
        arm: Index of the arm, shape (n_users,).
        line: Line of the first row, same shape.
        epoch: Rank of the declared epoch, same shape; None: none is declared.
        epochs: Name of the epoch of each rank.
        own: Probability of the user's own arm, nan where nothing is said, same shape; None: not known.
        each: Probability of each arm, shape (n_users, n_arms); None: not known.
        n_arms: Number of arms.
    """

    arm: IntArray
    line: IntArray
    epoch: IntArray | None
    epochs: Sequence[str]
    own: FloatArray | None
    each: FloatArray | None
    n_arms: int


@dataclass(frozen=True, slots=True)
class Stretches:
    """Users with the same propensities, one stretch after the other.

    Attributes:
        starts: Index of the first user of each, increasing from 0, shape (n_stretches,).
        probabilities: Shape (n_stretches, n_arms), rows summing to 1; None: not known.
        notes: What has to be said, one sentence each.
    """

    starts: IntArray
    probabilities: FloatArray | None
    notes: tuple[str, ...] = ()


def stretches_of(users: Entrants, split: Sequence[float] | None) -> Stretches:
    """Return the stretches of constant propensities.

    Args:
        users: In the order of assignment; those of one declared epoch stand together.
        split: The declared share of each arm, which then holds for all; None: the log says it.

    Raises:
        InvalidLog: Propensities contradict one another or the split.
    """
    faults = Faults()
    if split is not None:
        found = _declared(users, split, faults)
    elif users.each is not None:
        found = _complete(users, users.each, faults)
    elif users.own is not None:
        found = _combined(users, users.own, faults)
    else:
        starts = np.zeros(1, dtype=np.int64) if users.epoch is None else _changes(users.epoch[:, np.newaxis])
        found = Stretches(starts, None)
    faults.refuse_any()
    return _scaled(found)


def cuts(starts: IntArray, n_users: int, also: int | None = None) -> IntArray:
    """Return where epochs begin: every stretch is cut after max(50, 2 % of the users before).

    Args:
        starts: First user of each stretch.
        n_users: Users in all.
        also: A further place to cut at, or None.

    Returns:
        Increasing indices of first users, from 0.
    """
    policy = PolicySettings()
    places = set(starts.tolist()) | ({also} if also is not None and also < n_users else set())
    found: list[int] = []
    ends = [*sorted(places), n_users]
    for start, end in itertools.pairwise(ends):
        at = start
        while at < end:
            found.append(at)
            at += int(batch_size(policy, at))
    return np.array(found, dtype=np.int64)


def _changes(rows: FloatArray | IntArray) -> IntArray:
    """Return the indices at which a row differs from the one before, and 0."""
    return np.concatenate([[0], 1 + np.flatnonzero((rows[1:] != rows[:-1]).any(axis=1))]).astype(np.int64)


def _by_line(users: Entrants, wrong: BoolArray) -> IntArray:
    """Return the users who are wrong, in the order of their lines."""
    found = np.flatnonzero(wrong)
    return found[np.argsort(users.line[found])]


def _declared(users: Entrants, split: Sequence[float], faults: Faults) -> Stretches:
    share = np.asarray(split, dtype=np.float64)
    for index in _by_line(users, share[users.arm] == 0):
        faults.add(
            int(users.line[index]), None, "received a user of a variant whose declared share is 0; allowed: none"
        )
    own = users.own if users.each is None else users.each[np.arange(len(users.each)), users.arm]
    if own is not None:
        for index in _by_line(users, np.abs(own - share[users.arm]) > ROUNDED):
            message = f"received propensity {own[index]:g}, allowed: {share[users.arm[index]]:g}, as the split says"
            faults.add(int(users.line[index]), None, message)
    starts = np.zeros(1, dtype=np.int64) if users.epoch is None else _changes(users.epoch[:, np.newaxis])
    return Stretches(starts, np.broadcast_to(share, (len(starts), users.n_arms)))


def _complete(users: Entrants, each: FloatArray, faults: Faults) -> Stretches:
    """Each row says the propensity of every arm."""
    total = each.sum(axis=1)
    for index in _by_line(users, ~(np.abs(total - 1.0) <= ROUNDED)):
        what = f"propensities that sum to {total[index]:g}" if np.isfinite(total[index]) else "an empty propensity"
        faults.add(int(users.line[index]), None, f"received {what}, allowed: one for each variant, summing to 1")
    for index in _by_line(users, each[np.arange(len(each)), users.arm] == 0):
        faults.add(int(users.line[index]), None, "received propensity 0 of the row's own variant, allowed: above 0")
    starts = _changes(each)
    if users.epoch is not None:
        both = _changes(np.column_stack([each, users.epoch]))
        for start in both[1:]:
            if users.epoch[start] == users.epoch[start - 1]:
                _differing(users, int(start), faults)
        starts = both
    return Stretches(starts, each[starts])


def _differing(users: Entrants, index: int, faults: Faults) -> None:
    name = "" if users.epoch is None else received(users.epochs[users.epoch[index]])
    message = f"received other propensities than before in epoch {name}, allowed: one per variant throughout an epoch"
    faults.add(int(users.line[index]), None, message)


def _combined(users: Entrants, own: FloatArray, faults: Faults) -> Stretches:
    """Each row says the propensity of its own arm; users of other arms say the rest."""
    for index in _by_line(users, np.isnan(own)):
        faults.add(int(users.line[index]), None, "received no propensity in a user's first row, allowed: one above 0")
    faults.refuse_any()
    if users.epoch is not None:
        starts = _changes(users.epoch[:, np.newaxis])
        maps = [_map_of_epoch(users, own, s, e, faults) for s, e in _spans(starts, len(own))]
    else:
        starts, maps = _runs(users.arm, own, users.n_arms)
    p = np.array([_with_remainder(seen, alone=users.epoch is None and len(maps) > 1) for seen in maps])
    unknown = np.flatnonzero(np.isnan(p).any(axis=1))
    if not unknown.size:
        inferred = users.epoch is None and users.n_arms > 2 and len(starts) > 1
        return Stretches(starts, p, (_INFERRED,) if inferred else ())
    where = f"the users from line {users.line[starts[unknown[0]]]} on"
    if users.epoch is not None:
        where = f"epoch {received(users.epochs[users.epoch[starts[unknown[0]]]])}"
    note = (
        f"The propensities of {where} are not known: too few variants were seen in it to say those of the others. Give "
        "a column for each variant (propensity.<variant>), the epoch, or a fixed split (--split)."
    )
    return Stretches(starts, None, (note,))


def _spans(starts: IntArray, n_users: int) -> list[tuple[int, int]]:
    ends = [*starts[1:].tolist(), n_users]
    return list(zip(starts.tolist(), ends, strict=True))


def _map_of_epoch(users: Entrants, own: FloatArray, start: int, end: int, faults: Faults) -> FloatArray:
    """Return the propensities that the users of a declared epoch say, nan for an arm that nobody had."""
    seen = np.full(users.n_arms, np.nan)
    arms, p = users.arm[start:end], own[start:end]
    for arm in np.unique(arms):
        those = p[arms == arm]
        seen[arm] = those[0]
        if those.min() != those.max():
            _differing(users, start + int(np.flatnonzero((arms == arm) & (p != those[0]))[0]), faults)
    name = "" if users.epoch is None else received(users.epochs[users.epoch[start]])
    total = float(np.nansum(seen))
    whole = not np.isnan(seen).any()
    if total > 1.0 + ROUNDED or (whole and total < 1.0 - ROUNDED):
        message = f"received propensities of epoch {name} that sum to {total:g}, allowed: 1 over all variants"
        faults.add(int(users.line[start]), None, message)
    return seen


def _runs(arms: IntArray, own: FloatArray, n_arms: int) -> tuple[IntArray, list[FloatArray]]:
    """Return the longest stretches in which the users' propensities can be those of one allocation."""
    constant = _constant(arms, own, n_arms)
    if constant is not None:
        return np.zeros(1, dtype=np.int64), [constant]
    slack = EXACT if n_arms == 2 else ROUNDED
    starts, maps = [0], [dict[int, float]()]
    for index, (arm, p) in enumerate(zip(arms.tolist(), own.tolist(), strict=True)):
        seen = maps[-1]
        before = seen.get(arm)
        if before is None:
            total = sum(seen.values()) + p
            fits = total <= 1.0 + slack and (len(seen) + 1 < n_arms or total >= 1.0 - slack)
        else:
            fits = before == p
        if not fits:
            starts.append(index)
            maps.append({})
        maps[-1][arm] = p
    return np.array(starts, dtype=np.int64), [np.array([m.get(a, np.nan) for a in range(n_arms)]) for m in maps]


def _constant(arms: IntArray, own: FloatArray, n_arms: int) -> FloatArray | None:
    """Return the one map that fits all users, nan for arms that nobody had, or None."""
    low, high = np.full(n_arms, np.inf), np.full(n_arms, -np.inf)
    np.minimum.at(low, arms, own)
    np.maximum.at(high, arms, own)
    seen = np.isfinite(low)
    total = float(low[seen].sum())
    if (low[seen] != high[seen]).any() or total > 1 + ROUNDED or (seen.all() and total < 1 - ROUNDED):
        return None
    return np.where(seen, low, np.nan)


def _with_remainder(seen: FloatArray, *, alone: bool) -> FloatArray:
    """Return a map whose only unseen arm gets what the others leave.

    Args:
        seen: Propensities, nan for unseen arms.
        alone: Whether nothing but the propensities says where an epoch ends. With three arms or more its first
            users may then be taken for the last ones of the epoch before, so every arm has to be seen.
    """
    unseen = np.isnan(seen)
    if unseen.sum() != 1 or (alone and len(seen) > 2):
        return seen
    return np.where(unseen, max(1.0 - float(np.nansum(seen)), 0.0), seen)


def _scaled(found: Stretches) -> Stretches:
    """Return the stretches with propensities that sum to 1 up to the last digit."""
    if found.probabilities is None:
        return found
    total = found.probabilities.sum(axis=1, keepdims=True)
    scaled = replace(found, probabilities=found.probabilities / total)
    off = float(np.abs(total - 1.0).max())
    if off <= EXACT:
        return scaled
    note = f"Propensities sum to 1 within {off:.2g} only, as rounded ones do; they were scaled to sum to 1."
    return replace(scaled, notes=(*found.notes, note))
