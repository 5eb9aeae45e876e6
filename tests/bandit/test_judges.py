"""Judges as an experiment declares them: what is allowed, what a score becomes, what comes too late."""

from __future__ import annotations

from typing import Any

import pytest

from bandit import InvalidExperiment, parse, parse_json
from bandit.experiment import Experiment, notes
from bandit.experiment_judges import Feed
from tests.bandit.making import make_experiment

GOAL = {"metric": "quality", "kind": "numeric", "range": [1, 5]}
UNSAFE = {"metric": "unsafe", "kind": "binary", "max": 0.1}
UNSAFE_FEED = {"score": "safety", "below": 3}
JUDGE = {
    "key": "j", "server": "local", "model": "m",
    "feeds": {"quality": "helpfulness", "unsafe": UNSAFE_FEED},
}  # fmt: skip


def declared(*judges: dict[str, Any], window: str = "1h") -> Experiment:
    document = make_experiment(goal=GOAL, guardrails=[UNSAFE]).to_dict()
    document["goal"].pop("baseline", None)
    return parse({**document, "rewards": {"window": window}, "judges": list(judges)})


def test_a_judge_is_declared_and_written_out_again() -> None:
    experiment = declared(JUDGE)

    judge = experiment.judges[0]
    assert (judge.scores, judge.scale, judge.sample, judge.concurrency) == (
        ("helpfulness", "clarity", "safety"), (1, 5), 1.0, 4,
    )  # fmt: skip
    assert parse_json(experiment.to_json()) == experiment
    assert "judges" not in declared().to_dict()
    assert notes(experiment) == ()


@pytest.mark.parametrize(
    ("feed", "values"),
    [
        (Feed(score="s"), [1.0, 2.0, 3.0, 4.0, 5.0]),
        (Feed(score="s", at_least=3), [0.0, 0.0, 1.0, 1.0, 1.0]),
        (Feed(score="s", below=3), [1.0, 1.0, 0.0, 0.0, 0.0]),
    ],
)
def test_what_a_score_becomes(feed: Feed, values: list[float]) -> None:
    assert [feed.value(score) for score in range(1, 6)] == values


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"feeds": {}}, "judges[0].feeds", "at least one metric"),
        ({"feeds": {"quality": "tone"}}, "judges[0].feeds.quality.score", "'helpfulness', 'clarity', 'safety'"),
        ({"feeds": {"qality": "clarity"}}, "judges[0].feeds.qality", "unknown metric, allowed: 'quality', 'unsafe'"),
        ({"feeds": {"unsafe": "safety"}}, "judges[0].feeds.unsafe", "at_least or below"),
        ({"feeds": {"quality": {"score": "safety", "below": 3}}}, "judges[0].feeds.quality", "without at_least"),
        (
            {"feeds": {"unsafe": {"score": "safety", "below": 3, "at_least": 2}}},
            "judges[0].feeds.unsafe.below", "one of the two",
        ),
        ({"feeds": {"quality": {"score": "safety", "at_leest": 3}}}, "judges[0].feeds.quality.at_leest", "'at_least'"),
        ({"feeds": {"quality": 3}}, "judges[0].feeds.quality", "a table"),
        ({"scale": [5, 1]}, "judges[0].scale", "low below high"),
        ({"scale": [1, 10]}, "judges[0].scale", "without a rubric"),
        ({"scale": [1]}, "judges[0].scale[1]", "missing"),
        ({"scores": []}, "judges[0].scores", "1 to 10"),
        ({"scores": ["safety", "safety"]}, "judges[0].scores", "different"),
        ({"scores": ["tone"]}, "judges[0].scores", "without a rubric"),
        ({"rubric": "r", "scores": ["reasoning"]}, "judges[0].scores", "'reasoning'"),
        ({"rubric": ""}, "judges[0].rubric", "1 to 20000 characters"),
        ({"sample": 0}, "judges[0].sample", "above 0, at most 1"),
        ({"sample": float("nan")}, "judges[0].sample", "allowed"),
        ({"concurrency": 65}, "judges[0].concurrency", "1 to 64"),
        ({"daily_calls": 0}, "judges[0].daily_calls", "whole number"),
        ({"daily_usd": 0}, "judges[0].daily_usd", "above 0"),
        ({"within": "soon"}, "judges[0].within", "a duration"),
        ({"server": "a b"}, "judges[0].server", "a letter"),
        ({"model": ""}, "judges[0].model", "1 to 200"),
        ({"key": "a/b"}, "judges[0].key", "'/'"),
        ({"prompt": "x"}, "judges[0].prompt", "unknown key"),
    ],
)  # fmt: skip
def test_a_judge_that_cannot_be_is_refused_by_its_field(changes: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(InvalidExperiment) as caught:
        declared({**JUDGE, **changes})

    found = {problem.field: problem.message for problem in caught.value.problems}
    assert field in found, found
    assert words in found[field]


GUARD = {"key": "g", "kind": "moderation", "server": "local", "model": "guard", "feeds": {"unsafe": "flagged"}}


def test_a_moderation_has_one_score_and_is_written_out_again() -> None:
    experiment = declared(GUARD)

    judge = experiment.judges[0]
    assert (judge.scores, judge.scale, judge.rubric) == (("flagged",), (0, 1), None)
    assert (judge.is_binary("unsafe"), judge.feeds["unsafe"].value(1)) == (True, 1.0)
    assert parse_json(experiment.to_json()) == experiment
    assert declared({**GUARD, "scores": ["flagged"], "scale": [0, 1]}) == experiment


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"rubric": "r"}, "judges[0].rubric", "allowed with kind = 'moderation': none"),
        ({"scores": ["safety"]}, "judges[0].scores", "['flagged']"),
        ({"scale": [1, 5]}, "judges[0].scale", "[0, 1]"),
        ({"feeds": {"unsafe": "safety"}}, "judges[0].feeds.unsafe.score", "'flagged'"),
        ({"feeds": {"quality": "flagged"}}, "judges[0].feeds.quality", "'flagged' alone, for a binary metric"),
        ({"feeds": {"unsafe": {"score": "flagged", "at_least": 1}}}, "judges[0].feeds.unsafe", "'flagged' alone"),
        ({"kind": "guard"}, "judges[0].kind", "'scores', 'moderation'"),
    ],
)
def test_a_moderation_that_cannot_be_is_refused_by_its_field(changes: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(InvalidExperiment) as caught:
        declared({**GUARD, **changes})
    assert any(problem.field == field and words in problem.message for problem in caught.value.problems), str(
        caught.value
    )


def test_two_judges_never_feed_one_metric() -> None:
    other = {**JUDGE, "key": "k", "feeds": {"quality": "clarity"}}

    with pytest.raises(InvalidExperiment, match=r"judges\[1\]\.feeds\.quality: received what judge 'j' feeds"):
        declared(JUDGE, other)
    with pytest.raises(InvalidExperiment, match=r"judges\[1\]\.key: received 'j' again"):
        declared(
            {**JUDGE, "feeds": {"quality": "clarity"}}, {**JUDGE, "feeds": {"unsafe": {"score": "safety", "below": 2}}}
        )
    with pytest.raises(InvalidExperiment, match="at most 10"):
        declared(*({**JUDGE, "key": f"j{i}"} for i in range(11)))


@pytest.mark.parametrize(
    ("window", "within", "late"),
    [
        ("1h", "10m", False),
        ("1h", "59m", False),
        ("1h", "1h", True),
        ("10m", "1d", True),
        ("request", "10m", True),
        ("request", "30s", False),
    ],
)
def test_a_schedule_that_cannot_meet_the_window_is_noted(window: str, within: str, late: bool) -> None:
    said = [note for note in notes(declared({**JUDGE, "within": within}, window=window)) if "judges[0].within" in note]

    assert len(said) == int(late)
    shown = "request_timeout = '60s'" if window == "request" else f"window = '{window}'"
    assert all("late" in note and shown in note for note in said)


def test_a_metric_that_a_judge_and_a_field_feed_is_noted() -> None:
    rail = {"metric": "unsafe", "field": "safety_flag", "kind": "binary", "max": 0.1}
    document = make_experiment(goal={"metric": "resolved", "kind": "binary"}, guardrails=[rail]).to_dict()
    noted = notes(parse({**document, "judges": [GUARD]}))
    assert any("judges[0].feeds.unsafe is fed by the field 'safety_flag'" in note for note in noted)


def test_an_unknown_kind_is_the_only_fault_of_a_judge_that_has_one() -> None:
    with pytest.raises(InvalidExperiment) as caught:
        declared({**GUARD, "kind": "guard"})
    assert [problem.field for problem in caught.value.problems] == ["judges[0].kind"]
