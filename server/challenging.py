"""Which interactions teach most: those that an offline evaluation should have.

An interaction is chosen for reasons: something in it was unsafe, it failed, a judge gave a low score, judge and people
disagree, it cost or took far more than others. Those with more reasons come first, the variants take turns, and of
texts that are alike only one is kept.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np

from bandit import Experiment
from server.logged import Wanted, interactions
from server.reading import restored

LOW = 0.25
"""A score is low in this part of its scale."""

FAR = 3.0
"""Interquartile ranges above the upper quartile beyond which a cost or a time is unusual (Tukey's outer fence)."""

_IDENTITY = ("user_id", "request_id")
_MEASURED = ("cost_usd", "latency_ms", "completion_tokens")


def challenging(db: sqlite3.Connection, key: str, limit: int, *, identity: bool = False) -> list[dict[str, Any]]:
    """Return the interactions that teach most, with the reasons, the most telling first.

    Args:
        db: The store, for reading.
        key: The experiment.
        limit: So many at most.
        identity: Whether they say whose they are.

    Raises:
        UnknownExperiment: There is none with this key.
    """
    stored, _ = restored(db, key)
    labels: dict[int, dict[str, float]] = defaultdict(dict)
    for number, metric, value in db.execute("SELECT n, metric, value FROM labels WHERE experiment = ?", (stored.id,)):
        labels[number][metric] = value
    found = [one for one in interactions(db, key, Wanted()) if one["user_input"] is not None or one["model_output"]]
    fences = _fences(found)
    chosen: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in found:
        reasons = _reasons(stored.experiment, one, labels[one["number"]], fences)
        if reasons:
            chosen[one["variant"] or ""].append(one | {"reasons": reasons, "labels": labels[one["number"]]})
    for of_variant in chosen.values():
        of_variant.sort(key=lambda one: (-len(one["reasons"]), -one["number"]))
    left_out = () if identity else _IDENTITY
    taken = islice(_in_turn(list(chosen.values())), limit)
    return [{name: value for name, value in one.items() if name not in left_out} for one in taken]


def _reasons(
    experiment: Experiment, one: Mapping[str, Any], labels: Mapping[str, float], fences: Mapping[str, float]
) -> list[str]:
    """Return why an interaction teaches something, in words."""
    reasons = ["something in it is unsafe"] if one["safety_flag"] else []
    reasons += ["there was no answer"] if one["failed"] else []
    reasons += [f"{name} is unusual" for name, fence in fences.items() if one[name] is not None and one[name] > fence]
    rails = {rail.metric for rail in experiment.guardrails if rail.kind == "binary"}
    judges = {judge.key: judge for judge in experiment.judges}
    for judgement in one["judgements"]:
        judge, scores = judges[judgement["judge"]], judgement["scores"]
        if scores is None:
            reasons.append(f"judge {judge.key} gave no score: {judgement['reason']}")
            continue
        low, high = judge.scale
        if judge.kind == "scores":
            reasons += [f"{name} is low" for name, score in scores.items() if score <= low + LOW * (high - low)]
        for metric, feed in judge.feeds.items():
            value = feed.value(scores[feed.score])
            if metric in rails and judge.is_binary(metric) and value == 1.0:
                reasons.append(f"{metric}, says judge {judge.key}")
            if metric in labels and abs(labels[metric] - value) > (
                0.0 if judge.is_binary(metric) else LOW * (high - low)
            ):
                reasons.append(f"judge {judge.key} and people disagree about {metric}")
    return reasons


def _fences(found: list[dict[str, Any]]) -> dict[str, float]:
    """Return above which a cost or a time is unusual; absent where too few are known."""
    fences = {}
    for name in _MEASURED:
        values = [one[name] for one in found if one[name] is not None]
        if len(values) >= 20:
            lower, upper = np.quantile(values, [0.25, 0.75])
            fences[name] = float(upper + FAR * (upper - lower))
    return fences


def _in_turn(of_variants: list[list[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """Yield one of each variant in turn, of texts that came already none; case and blanks make no difference."""
    seen: set[str] = set()
    waiting = [iter(those) for those in of_variants]
    while waiting:
        for those in list(waiting):
            one = next((one for one in those if _mark(one) not in seen), None)
            if one is None:
                waiting.remove(those)
            else:
                seen.add(_mark(one))
                yield one


def _mark(one: Mapping[str, Any]) -> str:
    return "\0".join(" ".join((one[name] or "").casefold().split()) for name in ("user_input", "model_output"))
