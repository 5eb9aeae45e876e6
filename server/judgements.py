"""What judges say of interactions, in the store: who is to be judged, what came of it, and its way into rewards.

    interactions ─► Claim: to be judged now ─► the judge, outside any transaction ─► Settle: scores stored and rewarded

A claim is a row with an end, so two processes never have the same interaction, and what a process leaves behind when it
dies is claimed again later. What is settled stays so, whoever comes second.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from bandit import BanditError, Experiment
from bandit.assignment import UnitHash
from bandit.experiment import Judge
from server.live import Live, Reward
from server.operations import Desk, existing

LEASE = 600.0
"""Seconds after which an interaction that was claimed and not settled may be claimed again; who still works on it
says so in time."""

LONGEST_PAUSE = 3_600.0
"""Seconds that an interaction is left alone at most which its judge could not answer so far."""

_PAGE = 200
"""Interactions that are looked at together."""

_MOST_PAGES = 10
"""Pages that one claim reads: the store's lock is held meanwhile."""

_encode = msgspec.json.Encoder().encode


class JudgeChanged(BanditError):
    """A judge is another one than the one that scored so far."""


class Task(NamedTuple):
    """An interaction to be judged.

    Attributes:
        number: Of the interaction.
        user_id: Whose it is, and …
        variant_id: … what was served, for the reward; a judge never sees them.
        user_input: What was asked.
        model_output: What was answered.
    """

    number: int
    user_id: str
    variant_id: str | None
    user_input: str
    model_output: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a claim gives.

    Attributes:
        tasks: To be judged now.
        out_of_budget: Whether the day's budget is what keeps others from being judged.
        more: Whether it looked at as many as a claim may, and there may be others behind them.
    """

    tasks: list[Task]
    out_of_budget: bool = False
    more: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """Take interactions to be judged.

    Attributes:
        key: The experiment.
        judge: Key of its judge.
        version: Of the judge.
        limit: So many at most.
    """

    key: str
    judge: str
    version: str
    limit: int
    user_id: None = None

    def run(self, desk: Desk) -> Claimed:
        """Return them.

        Raises:
            JudgeChanged: Scores of another version of the judge are stored.
        """
        live = existing(desk, self.key)
        experiment = live.bandit.experiment
        judge = judge_of(experiment, self.judge)
        place = {"experiment": live.id, "judge": self.judge}
        db, now = desk.store.db, live.clock()
        version, upto, *spent = db.execute(_CURSOR, place).fetchone() or (self.version, 0, "", 0, 0.0)
        if version != self.version:
            raise JudgeChanged(
                f"judge '{self.judge}' of experiment '{self.key}' is another one now ({self.version}) than the one that"
                f" scored so far ({version}), and scores of two judges cannot be compared; go on with the old one, or"
                " start another experiment"
            )
        seen = upto
        left = min(self.limit, _room(judge, _day(now), *spent))
        if left <= 0:
            return Claimed([], out_of_budget=self.limit > 0)
        again = db.execute(_EXPIRED, {**place, "now": now, "limit": left}).fetchall()
        tasks = [Task(*row) for row in again]
        looked_at = 0
        for number, request_id, *rest in self._new(db, live.id, upto):
            if len(tasks) == left:
                break
            looked_at += 1
            upto = number
            if rest[-1] is not None and _is_sampled(experiment, judge, request_id):
                tasks.append(Task(number, *rest))
        if upto > seen or tasks:
            db.execute(_KEEP_CURSOR, {**place, "version": self.version, "upto": upto})
        db.executemany(
            _CLAIM, [{**place, "n": task.number, "version": self.version, "until": now + LEASE} for task in tasks]
        )
        return Claimed(tasks, more=looked_at == _MOST_PAGES * _PAGE)

    @staticmethod
    def _new(db: sqlite3.Connection, experiment: int, upto: int) -> Iterator[tuple[Any, ...]]:
        """Yield interactions that nobody has looked at, in the order of coming."""
        for _ in range(_MOST_PAGES):
            rows = db.execute(_NEW, (experiment, upto, _PAGE)).fetchall()
            if not rows:
                return
            yield from rows
            upto = rows[-1][0]


@dataclass(frozen=True, slots=True)
class Hold:
    """Keep interactions that are still being judged for some seconds from now; with 0 give them back.

    Attributes:
        key: The experiment.
        judge: Key of its judge.
        numbers: Of the interactions.
        seconds: How long.
    """

    key: str
    judge: str
    numbers: tuple[int, ...]
    seconds: float
    user_id: None = None

    def run(self, desk: Desk) -> None:
        """Do it."""
        live = existing(desk, self.key)
        place = {"experiment": live.id, "judge": self.judge, "until": live.clock() + self.seconds}
        desk.store.db.executemany(_HOLD, [{**place, "n": number} for number in self.numbers])


class Verdict(NamedTuple):
    """What came of judging an interaction.

    Attributes:
        scores: By name; None: there are none, which is neither zero nor lost.
        reasoning: The judge's words, or why there are no scores.
        reason: Why there are no scores, in a word; None: there are.
        prompt_tokens: Tokens that went in, or None.
        completion_tokens: Tokens that came out, or None.
        cost_usd: What it cost, or None if nobody knows.
        attempts: Questions that were asked.
        model: The model as its server calls it.
    """

    scores: Mapping[str, int] | None
    reasoning: str
    reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cost_usd: float | None
    attempts: int
    model: str


@dataclass(frozen=True, slots=True)
class Settle:
    """Store a verdict, and reward its user with the scores.

    Attributes:
        key: The experiment.
        judge: Key of its judge.
        version: Of the judge.
        number: Of the interaction.
        verdict: What came of it.
        reward: What the scores are as metrics; None without scores.
    """

    key: str
    judge: str
    version: str
    number: int
    verdict: Verdict
    reward: Reward | None

    @property
    def user_id(self) -> str | None:
        """Whom it is about."""
        return None if self.reward is None else self.reward.user_id

    def run(self, desk: Desk) -> str:
        """Return what became of it: "counted", "late", "ignored", "unscored", or "settled before"."""
        live = existing(desk, self.key)
        db, now, found = desk.store.db, live.clock(), self.verdict
        place = {"experiment": live.id, "judge": self.judge, "n": self.number}
        state = db.execute(_STATE, place).fetchone()
        if state != ("claimed",):
            return "settled before"
        became = "unscored"
        if self.reward is not None:
            became = _rewarded(live, self.reward)
        db.execute(
            _SETTLE,
            {
                **place, "state": "unscored" if found.scores is None else "scored", "at": now,
                "scores": None if found.scores is None else _encode(found.scores).decode(), "reason": found.reason,
                "reasoning": found.reasoning, "prompt_tokens": found.prompt_tokens,
                "completion_tokens": found.completion_tokens, "cost_usd": found.cost_usd, "attempts": found.attempts,
                "model": found.model,
            },
        )  # fmt: skip
        db.execute(_SPEND, {**place, "day": _day(now), "calls": 1, "usd": found.cost_usd or 0.0})
        return became


def _rewarded(live: Live, reward: Reward) -> str:
    """Reward a user with scores and return what became of them; what the engine refuses now it refuses for ever."""
    try:
        receipt = live.reward(reward)
    except BanditError:
        return "ignored"
    return "late" if receipt.late else "counted" if receipt.accepted else "ignored"


@dataclass(frozen=True, slots=True)
class PutBack:
    """Let an interaction that could not be judged now be claimed again, each time after twice as long.

    Attributes:
        key: The experiment.
        judge: Key of its judge.
        number: Of the interaction.
        seconds: Until it may be claimed, the first time.
        cost_usd: What the attempt may have cost.
    """

    key: str
    judge: str
    number: int
    seconds: float
    cost_usd: float = 0.0
    user_id: None = None

    def run(self, desk: Desk) -> None:
        """Do it."""
        live = existing(desk, self.key)
        db, now = desk.store.db, live.clock()
        place = {"experiment": live.id, "judge": self.judge, "n": self.number}
        (before,) = db.execute(_PUT_BACK_BEFORE, place).fetchone() or (0,)
        pause = min(self.seconds * 2.0 ** min(before, 20), max(LONGEST_PAUSE, self.seconds))
        db.execute(_PUT_BACK, {**place, "until": now + pause})
        if self.cost_usd > 0.0:
            db.execute(_SPEND, {**place, "day": _day(now), "calls": 0, "usd": self.cost_usd})


def judge_of(experiment: Experiment, key: str) -> Judge:
    """Return a judge of an experiment by its key, which has to be one of them."""
    return next(judge for judge in experiment.judges if judge.key == key)


def waiting(db: sqlite3.Connection, experiment: int, judge: str) -> int:
    """Return how many interactions wait for a judge, sampled or not."""
    place = {"experiment": experiment, "judge": judge}
    _, upto, *_ = db.execute(_CURSOR, place).fetchone() or ("", 0)
    (new,) = db.execute(
        "SELECT count(*) FROM interactions WHERE experiment = ? AND n > ? AND epoch IS NOT NULL", (experiment, upto)
    ).fetchone()
    (claimed,) = db.execute(
        "SELECT count(*) FROM judgements j JOIN interactions i ON i.n = j.n"
        " WHERE j.experiment = :experiment AND j.judge = :judge AND j.state = 'claimed' AND i.model_output IS NOT NULL",
        place,
    ).fetchone()
    return int(new) + int(claimed)


def judgements_of(db: sqlite3.Connection, experiment: int, number: int) -> list[dict[str, Any]]:
    """Return what judges said of an interaction."""
    rows = db.execute(
        "SELECT judge, version, at, scores, reasoning, reason, model, prompt_tokens, completion_tokens, cost_usd"
        " FROM judgements WHERE experiment = ? AND n = ? AND state <> 'claimed' ORDER BY judge",
        (experiment, number),
    )
    names = (
        "judge", "version", "at", "scores", "reasoning", "reason", "model", "prompt_tokens", "completion_tokens",
        "cost_usd",
    )  # fmt: skip
    found = [dict(zip(names, row, strict=True)) for row in rows]
    for one in found:
        one["scores"] = None if one["scores"] is None else msgspec.json.decode(one["scores"])
    return found


def _room(judge: Judge, day: str, spent_on: str, calls: int, usd: float) -> int:
    """Return how many more interactions a judge may see today."""
    if spent_on != day:
        calls, usd = 0, 0.0
    if judge.daily_usd is not None and usd >= judge.daily_usd:
        return 0
    return 2**31 if judge.daily_calls is None else judge.daily_calls - calls


def _is_sampled(experiment: Experiment, judge: Judge, request_id: str) -> bool:
    salt = experiment.key if experiment.salt is None else experiment.salt
    return judge.sample >= 1.0 or UnitHash(f"judge {judge.key}", salt)(request_id) < judge.sample


def _day(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).date().isoformat()


_WHERE = "WHERE experiment = :experiment AND judge = :judge"
_CURSOR = f"SELECT version, upto, day, calls, usd FROM judge_cursors {_WHERE}"  # noqa: S608 - our own words
_KEEP_CURSOR = (
    "INSERT INTO judge_cursors (experiment, judge, version, upto) VALUES (:experiment, :judge, :version, :upto)"
    " ON CONFLICT DO UPDATE SET upto = excluded.upto"
)
_SPEND = (
    "UPDATE judge_cursors SET calls = CASE WHEN day = :day THEN calls ELSE 0 END + :calls,"  # noqa: S608 - our own words
    f" usd = CASE WHEN day = :day THEN usd ELSE 0 END + :usd, day = :day {_WHERE}"
)
_NEW = (
    "SELECT n, request_id, user_id, variant_id, coalesce(user_input, ''), model_output"
    " FROM interactions INDEXED BY interactions_by_experiment"
    " WHERE experiment = ? AND n > ? AND epoch IS NOT NULL ORDER BY n LIMIT ?"
)
_EXPIRED = (
    "SELECT j.n, i.user_id, i.variant_id, coalesce(i.user_input, ''), i.model_output"
    "  FROM judgements j INDEXED BY judgements_claimed JOIN interactions i ON i.n = j.n"
    " WHERE j.experiment = :experiment AND j.judge = :judge AND j.state = 'claimed' AND j.claimed_until <= :now"
    "   AND i.model_output IS NOT NULL ORDER BY j.n LIMIT :limit"
)
_CLAIM = (
    "INSERT INTO judgements (experiment, judge, n, version, state, claimed_until)"
    " VALUES (:experiment, :judge, :n, :version, 'claimed', :until)"
    " ON CONFLICT DO UPDATE SET claimed_until = excluded.claimed_until"
)
_STATE = f"SELECT state FROM judgements {_WHERE} AND n = :n"  # noqa: S608 - our own words
_SETTLE = (
    "UPDATE judgements SET state = :state, at = :at, scores = :scores, reason = :reason, reasoning = CASE WHEN EXISTS"  # noqa: S608 - our own words
    " (SELECT 1 FROM interactions i WHERE i.n = :n AND i.erased_at IS NULL) THEN :reasoning END,"
    " prompt_tokens = :prompt_tokens, completion_tokens = :completion_tokens, cost_usd = :cost_usd,"
    f" attempts = :attempts, model = :model {_WHERE} AND n = :n"
)
_HOLD = f"UPDATE judgements SET claimed_until = :until {_WHERE} AND n = :n AND state = 'claimed'"  # noqa: S608 - our own words
_PUT_BACK_BEFORE = f"SELECT coalesce(attempts, 0) FROM judgements {_WHERE} AND n = :n"  # noqa: S608 - our own words
_PUT_BACK = (
    "UPDATE judgements SET claimed_until = :until, attempts = coalesce(attempts, 0) + 1"  # noqa: S608 - our own words
    f" {_WHERE} AND n = :n AND state = 'claimed'"
)
