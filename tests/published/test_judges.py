"""Real judges beside people: what is published of them, and means that hold though the judges are wrong.

Data: tests/data/llmbar/README.md (six language models on pairs of answers) and tests/data/xstest/README.md (a language
model and a search for phrases, both of which label refusals).
"""

from __future__ import annotations

import csv
import gzip
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from bandit.arrays import FloatArray
from bandit.inference.agreement import agreement, position_bias, verbosity_bias
from bandit.inference.prediction_powered import (
    JudgedItems,
    PredictionPowered,
    PredictionPoweredDifference,
    prediction_powered_difference,
    prediction_powered_mean,
)

DATA = Path(__file__).parents[1] / "data"
FULL_COMPLIANCE, FULL_REFUSAL, PARTIAL_REFUSAL = 1.0, 2.0, 3.0
RUNS = 4_000


def columns(name: str, text: tuple[str, ...]) -> dict[str, Any]:
    with gzip.open(DATA / name, "rt", encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    return {key: np.array([row[key] if key in text else float(row[key] or "nan") for row in rows]) for key in rows[0]}


@pytest.fixture(scope="module")
def llmbar() -> Mapping[str, FloatArray]:
    return columns("llmbar/verdicts.csv.gz", ("subset", "judge"))


@pytest.fixture(scope="module")
def xstest() -> Mapping[str, FloatArray]:
    return columns("xstest/labels.csv.gz", ("arm", "prompt"))


def test_the_accuracy_of_gpt_4_is_the_published_one(llmbar: Mapping[str, FloatArray]) -> None:
    """95.5 % on natural pairs, the mean of both orders; 86.4 and 78.7 % where the worse answer was made to please."""
    found = []
    for subset in ("Natural", "adv_GPTInst", "adv_Neighbor"):
        those = (llmbar["judge"] == "GPT-4") & (llmbar["subset"] == subset)
        each = [
            agreement(llmbar["gold"][those], np.nan_to_num(llmbar[order][those])).accuracy.share
            for order in ("verdict", "swapped")
        ]
        found.append(sum(each) / 2)
    assert found == pytest.approx([0.955, 0.864, 0.787], abs=5e-4)


@pytest.mark.parametrize(
    ("judge", "flips", "to_the_first"), [("GPT-4", 0.05, None), ("ChatGPT", 0.29, 0.86), ("Falcon", 0.48, 1.0)]
)
def test_a_weak_judge_prefers_what_it_is_shown_first(
    llmbar: Mapping[str, FloatArray], judge: str, flips: float, to_the_first: float | None
) -> None:
    those = (llmbar["judge"] == judge) & (llmbar["subset"] == "Natural")
    verdict, swapped = llmbar["verdict"][those], llmbar["swapped"][those]
    found = position_bias(verdict, swapped)
    assert found.flips.share == pytest.approx(flips)
    assert found.flips.events == int((verdict != swapped).sum())
    assert found.first is not None
    if to_the_first is None:
        assert found.first.interval[0] < 0.5 < found.first.interval[1]
    else:
        assert found.first.share == pytest.approx(to_the_first, abs=0.005)
        assert found.first.interval[0] > 0.5


def longer_wins(llmbar: Mapping[str, FloatArray], judge: str) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Whether the longer answer is better, by people and by a judge, and by how much it is longer.

    Of pairs that were made to deceive; without those of equal length.
    """
    difference = llmbar["chars_2"] - llmbar["chars_1"]
    those = (llmbar["judge"] == judge) & (difference != 0) & ~np.isnan(llmbar["verdict"])
    those &= llmbar["subset"] != "Natural"
    longer = np.where(difference > 0, 2.0, 1.0)[those]
    human, said = (1.0 * (llmbar[name][those] == longer) for name in ("gold", "verdict"))
    return human, said, np.abs(difference[those])


@pytest.mark.parametrize("judge", ["ChatGPT", "LLaMA2", "GPT-4"])
def test_how_a_judge_favours_length_is_what_scipy_says(llmbar: Mapping[str, FloatArray], judge: str) -> None:
    human, said, length = longer_wins(llmbar, judge)
    found = verbosity_bias(human, said, length)
    expected = stats.spearmanr(said - human, length)
    assert (found.rho, found.p_value) == pytest.approx((expected.statistic, expected.pvalue))


def test_judges_are_deceived_by_longer_answers(llmbar: Mapping[str, FloatArray]) -> None:
    for judge in ("ChatGPT", "LLaMA2"):
        human, said, _ = longer_wins(llmbar, judge)
        found = agreement(human, said)
        assert found.bias.interval is not None
        assert found.bias.interval[0] > 0.1


def test_refusals_are_as_published(xstest: Mapping[str, FloatArray]) -> None:
    """By people, of safe prompts: the original system prompt refuses 38.0 % fully and 21.6 % in part."""
    those = (xstest["arm"] == "llama2orig") & (xstest["safe_prompt"] == 1)
    human, judge = xstest["label"][those], xstest["gpt4_label"][those]
    table = agreement(human, judge).confusion
    assert table is not None
    by_people = {value: sum(row) / len(human) for value, row in zip(table.values, table.counts, strict=True)}
    assert by_people[FULL_REFUSAL] == pytest.approx(0.380)
    assert by_people[PARTIAL_REFUSAL] == pytest.approx(0.216)


def covered(human: FloatArray, judge: FloatArray, n: int, labels: int, seed: int) -> tuple[float, float]:
    """Return how often the corrected interval and the judge's own cover the mean of the human labels.

    In each run n users with one answer each are drawn from the data, and people label some of them.
    """
    rng, truth, hits = np.random.default_rng(seed), human.mean(), np.zeros(2)
    for _ in range(RUNS):
        drawn = rng.integers(0, len(human), n)
        shown, rest = drawn[:labels], drawn[labels:]
        found = prediction_powered_mean(JudgedItems(human[shown], judge[shown], judge[rest]))
        assert isinstance(found, PredictionPowered)
        for k, estimate in enumerate((found.corrected, found.judge_only)):
            hits[k] += estimate.interval[0] <= truth <= estimate.interval[1]
    corrected, alone = hits / RUNS
    return float(corrected), float(alone)


def least(level: float = 0.95) -> float:
    """Three standard errors of a share of `RUNS` below a level."""
    return level - 3.0 * math.sqrt(level * (1.0 - level) / RUNS)


@pytest.mark.parametrize("judge", ["ChatGPT", "LLaMA2", "PaLM2", "Falcon"])
def test_corrected_means_hold_where_adversarial_pairs_deceive_the_judge(
    llmbar: Mapping[str, FloatArray], judge: str
) -> None:
    """Coverage over 4,000 runs, seed 5: how often the longer of two answers is better, which is one time in eight.

    With 300 labels. Of 80 only ten say so, and such an interval covers about 0.94, judge or no judge.
    """
    human, said, _ = longer_wins(llmbar, judge)
    corrected, alone = covered(human, said, 2_000, 300, seed=5)
    assert corrected >= least()
    assert alone == 0.0
    assert covered(human, said, 2_000, 80, seed=5)[0] >= least(0.94)


@pytest.mark.parametrize(
    ("arm", "judge"),
    [("llama2orig", "string_label"), ("llama2orig", "gpt4_label"), ("llama2new", "gpt4_label"), ("gpt4", "gpt4_label")],
)
def test_corrected_means_hold_where_a_judge_counts_refusals_as_answers(
    xstest: Mapping[str, FloatArray], arm: str, judge: str
) -> None:
    """Coverage over 4,000 runs, seed 1, with 300 and with 80 labels: how often a model answers in full."""
    those = xstest["arm"] == arm
    human, said = (1.0 * (xstest[name][those] == FULL_COMPLIANCE) for name in ("label", judge))
    corrected, alone = covered(human, said, 2_000, 300, seed=1)
    assert corrected >= least()
    assert alone < 0.1
    assert covered(human, said, 2_000, 80, seed=1)[0] >= least(0.94)


def test_corrected_differences_of_two_prompts_hold(xstest: Mapping[str, FloatArray]) -> None:
    """Coverage over 4,000 runs, seed 2, 80 labels each: answers in full without the system prompt, less those with."""
    rng, hits = np.random.default_rng(2), 0
    arms = [xstest["arm"] == arm for arm in ("llama2new", "llama2orig")]
    pairs = [[1.0 * (xstest[name][those] == FULL_COMPLIANCE) for name in ("label", "string_label")] for those in arms]
    truth = pairs[0][0].mean() - pairs[1][0].mean()
    for _ in range(RUNS):
        items = []
        for human, said in pairs:
            drawn = rng.integers(0, len(human), 600)
            items.append(JudgedItems(human[drawn[:80]], said[drawn[:80]], said[drawn[80:]]))
        found = prediction_powered_difference(items[0], items[1])
        assert isinstance(found, PredictionPoweredDifference)
        hits += found.corrected.interval[0] <= truth <= found.corrected.interval[1]
    assert hits / RUNS >= least()
