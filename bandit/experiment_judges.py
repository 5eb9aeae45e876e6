"""Judges: models that score or moderate logged interactions, and which metrics their scores feed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from bandit.durations import seconds
from bandit.errors import Problem
from bandit.experiment_parts import (
    INTERACTION_FIELDS,
    Duration,
    Goal,
    Guardrail,
    Key,
    Kind,
    Part,
    Positive,
    PositiveCount,
    Rewards,
    must,
    refuse,
)
from bandit.wording import listed, received

DEFAULT_SCORES = ("helpfulness", "clarity", "safety")
"""What a judge without a rubric of its own is asked for, each from 1 to 5."""

DEFAULT_SCALE = (1, 5)

FLAGGED = "flagged"
"""The one score of a moderation: 1 if the answer is harmful, else 0."""

MOST_JUDGES = 10
MOST_SCORES = 10
LONGEST_RUBRIC = 20_000
"""Characters."""

LARGEST_SCORE = 1_000

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_NAMES = "a letter, then at most 63 letters, digits, '_', '.', '-'"


def _is_text(text: str) -> bool:
    return 0 < len(text) <= LONGEST_RUBRIC and not any("\ud800" <= character <= "\udfff" for character in text)


def _feed(value: object) -> object:
    """A score's name alone stands for the score as it is."""
    return {"score": value} if isinstance(value, str) else value


def _scale(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


Name = Annotated[str, must(lambda text: bool(_NAME.fullmatch(text)), _NAMES)]
ScoreLimit = Annotated[
    int, must(lambda n: abs(n) <= LARGEST_SCORE, f"a whole number from -{LARGEST_SCORE} to {LARGEST_SCORE}")
]


class Feed(Part):
    """How a score becomes a value of a metric.

    Attributes:
        score: Its name.
        at_least: Binary metrics: 1 where the score is this or more, else 0.
        below: Binary metrics: 1 where the score is less than this, else 0.
    """

    score: Name
    at_least: ScoreLimit | None = None
    below: ScoreLimit | None = None

    @field_validator("below")
    @classmethod
    def _one_limit(cls, below: int | None, info: ValidationInfo) -> int | None:
        if below is not None and info.data.get("at_least") is not None:
            refuse("", f"received {below} beside at_least, allowed: one of the two")
        return below

    @property
    def is_binary(self) -> bool:
        """Whether it makes 0 or 1 of a score."""
        return self.at_least is not None or self.below is not None

    def value(self, score: int) -> float:
        """Return the metric's value for a score."""
        if self.at_least is not None:
            return float(score >= self.at_least)
        return float(score if self.below is None else score < self.below)


class Judge(Part):
    """A model that scores interactions. Another rubric, model or scale is another judge, and another experiment.

    Attributes:
        key: Its name.
        kind: `scores`: a chat model that scores by a rubric. `moderation`: the server's moderation call, or a guard
            model, which only says whether an answer is harmful: one score, `flagged`, 0 or 1, without a rubric.
        server: Name of the model server, as the settings of the service have it.
        model: Name of the model there.
        rubric: What to look at, at most 20,000 characters; default: helpfulness, clarity and safety from 1 to 5.
        scores: Names of the scores that the rubric asks for.
        scale: Least and largest score.
        feeds: By metric the score that feeds it: its name for a numeric metric; for a binary one a table with
            `score` and `at_least` or `below`. Of a moderation a binary metric takes the name `flagged` alone.
        sample: Share of the interactions that are judged, in (0, 1].
        daily_calls: Interactions judged in a day (UTC) at most; default: no limit.
        daily_usd: US dollars spent in a day (UTC) at most, by the price table; default: no limit.
        concurrency: Interactions judged at a time, 1 to 64.
        within: Time after an interaction within which its scores are expected: `check` compares it with the window.
    """

    key: Key = Field(description="the name of the judge")
    server: Name = Field(description="the name of a model server in the settings of the service")
    model: Annotated[str, must(lambda text: 0 < len(text) <= 200, "1 to 200 characters")] = Field(
        description="the model's name there"
    )
    kind: Literal["scores", "moderation"] = "scores"
    rubric: Annotated[str, must(_is_text, f"1 to {LONGEST_RUBRIC} characters, no lone surrogates")] | None = None
    scores: Annotated[tuple[Name, ...], BeforeValidator(_scale)] = DEFAULT_SCORES
    scale: Annotated[tuple[ScoreLimit, ScoreLimit], BeforeValidator(_scale)] = DEFAULT_SCALE
    feeds: dict[str, Annotated[Feed, BeforeValidator(_feed)]] = Field(description="by metric the score that feeds it")
    sample: Annotated[float, must(lambda x: 0 < x <= 1, "a number above 0, at most 1")] = 1.0
    daily_calls: PositiveCount | None = None
    daily_usd: Positive | None = None
    concurrency: Annotated[int, must(lambda n: 1 <= n <= 64, "a whole number from 1 to 64")] = 4
    within: Duration = "10m"

    def is_binary(self, metric: str) -> bool:
        """Whether a metric that it feeds is given 0 or 1."""
        return self.kind == "moderation" or self.feeds[metric].is_binary

    @model_validator(mode="before")
    @classmethod
    def _moderation_has_one_score(cls, document: object) -> object:
        if not isinstance(document, dict) or document.get("kind") != "moderation":
            return document
        return {"scores": (FLAGGED,), "scale": (0, 1), **document}

    @field_validator("rubric")
    @classmethod
    def _moderation_has_no_rubric(cls, rubric: str | None, info: ValidationInfo) -> str | None:
        if rubric is not None and info.data.get("kind") == "moderation":
            refuse("", "received a text, allowed with kind = 'moderation': none, the model has its own rules")
        return rubric

    @field_validator("scores")
    @classmethod
    def _scores_differ(cls, scores: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if info.data.get("kind") == "moderation":
            if scores != (FLAGGED,):
                refuse("", f"received {received(list(scores))}, allowed with kind = 'moderation': ['{FLAGGED}']")
            return scores
        if not 1 <= len(scores) <= MOST_SCORES or len(set(scores)) != len(scores) or "reasoning" in scores:
            allowed = f"1 to {MOST_SCORES} different names, none of them 'reasoning'"
            refuse("", f"received {received(list(scores))}, allowed: {allowed}")
        if info.data.get("rubric", "") is None and not set(scores) <= set(DEFAULT_SCORES):
            refuse("", f"received {received(list(scores))}, allowed without a rubric: {listed(DEFAULT_SCORES)}")
        return scores

    @field_validator("scale")
    @classmethod
    def _scale_is_one(cls, scale: tuple[int, int], info: ValidationInfo) -> tuple[int, int]:
        if info.data.get("kind") == "moderation":
            if scale != (0, 1):
                refuse("", f"received {received(list(scale))}, allowed with kind = 'moderation': [0, 1]")
            return scale
        if not scale[0] < scale[1]:
            refuse("", f"received {received(list(scale))}, allowed: [low, high], low below high")
        if info.data.get("rubric", "") is None and scale != DEFAULT_SCALE:
            refuse("", f"received {received(list(scale))}, allowed without a rubric: {received(list(DEFAULT_SCALE))}")
        return scale

    @field_validator("feeds")
    @classmethod
    def _feeds_are_scores(cls, feeds: dict[str, Feed], info: ValidationInfo) -> dict[str, Feed]:
        if not feeds:
            refuse("", "received none, allowed: at least one metric with the score that feeds it")
        scores = info.data.get("scores") if "kind" in info.data else None
        for metric, feed in feeds.items():
            if scores is not None and feed.score not in scores:
                refuse(f"{metric}.score", f"received '{feed.score}', allowed: {listed(scores)}")
        return feeds


def judge_problems(judges: Sequence[Judge], goal: Goal, guardrails: Sequence[Guardrail]) -> list[Problem]:
    """Faults of the judges together, and beside the metrics that they feed."""
    found = []
    if len(judges) > MOST_JUDGES:
        found.append(Problem("", f"received {len(judges)} judges, allowed: at most {MOST_JUDGES}"))
    kinds: Mapping[str, Kind] = {goal.metric: goal.kind, **{rail.metric: rail.kind for rail in guardrails}}
    first: dict[str, int] = {}
    fed: dict[str, str] = {}
    for index, judge in enumerate(judges):
        if first.setdefault(judge.key, index) != index:
            found.append(Problem(f"[{index}].key", f"received {received(judge.key)} again, allowed: each key once"))
        for metric, feed in judge.feeds.items():
            place, kind = f"[{index}].feeds.{metric}", kinds.get(metric)
            if kind is None:
                found.append(Problem(place, f"unknown metric, allowed: {listed(kinds)}"))
            elif fed.setdefault(metric, judge.key) != judge.key:
                message = f"received what judge '{fed[metric]}' feeds, allowed: one judge for a metric (they differ)"
                found.append(Problem(place, message))
            elif judge.kind == "moderation":
                if kind != "binary" or feed.is_binary:
                    allowed = f"'{FLAGGED}' alone, for a binary metric"
                    found.append(Problem(place, f"received {_shown(feed)} for a {kind} metric, allowed: {allowed}"))
            elif (kind == "binary") != feed.is_binary:
                allowed = "a score with at_least or below" if kind == "binary" else "a score without at_least and below"
                found.append(Problem(place, f"received {_shown(feed)} for a {kind} metric, allowed: {allowed}"))
    return found


def judge_notes(judges: Sequence[Judge], rewards: Rewards, guardrails: Sequence[Guardrail] = ()) -> list[str]:
    """Say where scores come too late to count, after the window of their user, and where they come beside others."""
    name = "request_timeout" if rewards.window == "request" else "window"
    window = str(getattr(rewards, name))
    return [
        f"judges[{index}].within = '{judge.within}' does not fit into rewards.{name} = '{window}': a score that comes"
        " after its user's window is stored and late, and nobody learns from it"
        for index, judge in enumerate(judges)
        if seconds(judge.within) >= seconds(window)
    ] + [
        f"judges[{index}].feeds.{rail.metric} is fed by the field '{rail.field_name}' of logged interactions too: who"
        " sends it gives a user two values"
        for index, judge in enumerate(judges)
        for rail in guardrails
        if rail.metric in judge.feeds and rail.field_name in INTERACTION_FIELDS
    ]


def _shown(feed: Feed) -> str:
    return received(feed.model_dump(exclude_none=True))
