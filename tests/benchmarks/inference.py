"""CPU time of all inference of a report: python tests/benchmarks/inference.py."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from bandit.experiment import Experiment, parse
from bandit.history import History
from bandit.inference.any_time import any_time
from bandit.inference.drift import drift_p_values
from bandit.inference.exact import log_e_higher, log_e_lower
from bandit.inference.guardrails import guardrail_evidence
from bandit.inference.observed import Observed, observe
from bandit.inference.sample_ratio import log_e_sample_ratio
from bandit.inference.scores import running_scores
from bandit.ledger import Ledger
from bandit.measures import Measure, guardrail_measure, measures_of

EPOCHS, ARMS = 1000, 10


def cpu(work: Callable[[], object]) -> float:
    """Return the least CPU seconds of five runs."""
    best = float("inf")
    for _ in range(5):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


def show(what: str, seconds: float) -> None:
    """Print one line."""
    print(f"{what:<62} {seconds * 1e3:8.2f} ms")  # noqa: T201 (a report for people)


def make_experiment() -> Experiment:
    """Return an experiment of ten arms on five metrics: a rate, and guardrails on rates and means."""
    guardrails = [
        {"metric": "harmful", "kind": "binary", "per_user": "any", "max": 0.01},
        {"metric": "latency_ms", "kind": "numeric", "quantile": 0.95, "max": 1500},
        {"metric": "handover", "kind": "binary", "max_increase": 0.2},
        {"metric": "cost_usd", "kind": "numeric", "max_increase": 0.2, "cap": 1.0},
    ]
    variants = [{"key": f"v{arm}", "control": arm == 0} for arm in range(ARMS)]
    goal = {"metric": "resolved", "kind": "binary"}
    return parse({"key": "benchmark", "variants": variants, "goal": goal, "guardrails": guardrails})


def make_history(experiment: Experiment) -> History:
    """Return a history whose epochs have a hundred users or more and whose traffic moved."""
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.full(ARMS, 5.0), EPOCHS)
    assigned = rng.multinomial(100 + 2 * np.arange(EPOCHS), p)
    sums = tuple(_sums(rng, measure, assigned) for measure in measures_of(experiment))
    ledger = Ledger(assigned, np.zeros_like(assigned), sums, (0.0,) * len(sums))
    return History(ledger, EPOCHS, p)


def _sums(rng: np.random.Generator, measure: Measure, assigned: np.typing.NDArray[np.int64]) -> np.ndarray:
    """Return sums of outcomes that are 0 or, one in ten, 1 or half the cap."""
    size = 1.0 if measure.cap is None else measure.cap / 2.0
    events = rng.binomial(assigned, 0.1).astype(np.float64)
    sums = np.zeros((*assigned.shape, measure.width))
    sums[..., :4] = np.stack([assigned, *(events * size**power for power in (1, 2, 3))], axis=-1)
    return sums


def report(experiment: Experiment, history: History) -> None:
    """Do what a report asks of inference: every metric by all methods, guardrails, checks of the data."""
    observed = [observe(experiment, history, index) for index in range(len(measures_of(experiment)))]
    scores = [running_scores(each, experiment.control) for each in observed]
    for each, sums in zip(observed, scores, strict=True):
        any_time(each, sums, experiment.control, 0.04, 10_000.0)
        log_e_higher(each, experiment.control)
        log_e_lower(each, experiment.control)
    for guardrail in experiment.guardrails:
        index = guardrail_measure(experiment, guardrail)
        guardrail_evidence(experiment, history, guardrail, observed[index], scores[index].at(-1))
    assert history.probabilities is not None
    log_e_sample_ratio(history.ledger.assigned.astype(np.float64), history.probabilities)
    drift_p_values(observed[0])


def parts(experiment: Experiment, history: History) -> Mapping[str, Callable[[], object]]:
    """Return what is measured on one metric, by name."""
    rate = observe(experiment, history, 0)
    mean: Observed = replace(rate, fractional=True)
    scores = running_scores(rate, 0)
    return {
        "observe": lambda: observe(experiment, history, 0),
        "running sums of scores": lambda: running_scores(rate, 0),
        "any-time interval": lambda: any_time(rate, scores, 0, 0.04, 10_000.0),
        "label e-process, both sides": lambda: (log_e_higher(rate, 0), log_e_lower(rate, 0)),
        "label and bounded e-process, both sides": lambda: (log_e_higher(mean, 0), log_e_lower(mean, 0)),
        "drift": lambda: drift_p_values(rate),
    }


if __name__ == "__main__":
    asked = make_experiment()
    happened = make_history(asked)
    for name, work in parts(asked, happened).items():
        show(f"{name}, {EPOCHS:,} epochs x {ARMS} arms", cpu(work))
    show("all inference of a report, five metrics", cpu(lambda: report(asked, happened)))
