"""CPU time of the engine in process: python tests/benchmarks/engine.py."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from bandit import Bandit, parse
from bandit.best_arm import best_arm, probability_best
from bandit.posteriors import BetaPosterior, StudentPosterior

USERS = 200_000


def cpu(work: Callable[[], object], times: int = 1) -> float:
    """Return the least CPU seconds of three runs, per time."""
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        for _ in range(times):
            work()
        best = min(best, time.process_time() - start)
    return best / times


def show(what: str, seconds: float, unit: str) -> None:
    """Print one line."""
    scale = {"us": 1e6, "ms": 1e3}[unit]
    print(f"{what:<58} {seconds * scale:8.2f} {unit}")  # noqa: T201 (a report for people)


def calls() -> None:
    """Measure choose and reward with four arms; renewals of the allocation are inside "new"."""
    users = [f"user-{i}" for i in range(USERS)]
    experiment = parse(
        {
            "key": "benchmark",
            "variants": [{"key": "A", "control": True}, {"key": "B"}, {"key": "C"}, {"key": "D"}],
            "goal": {"metric": "resolved", "kind": "binary"},
        }
    )
    bandit = Bandit(experiment, clock=lambda: 1.0)
    start = time.process_time()
    for user in users:
        bandit.choose(user)
    show("choose, new user, renewals included", (time.process_time() - start) / USERS, "us")
    known = cpu(lambda: [bandit.choose(user) for user in users])
    show("choose, known user", known / USERS, "us")
    start = time.process_time()
    for user in users:
        bandit.reward(user, 1)
    show("reward of the goal, first value", (time.process_time() - start) / USERS, "us")
    start = time.process_time()
    for user in users:
        bandit.reward(user, {"resolved": 1}, request_id=user)
    show("reward by name with a request id, second value", (time.process_time() - start) / USERS, "us")


def quadrature() -> None:
    """Measure P(best) and expected loss, one posterior at a time and many at once."""
    rng = np.random.default_rng(0)
    for n_arms in (2, 4, 10, 50):
        beta = BetaPosterior(rng.uniform(1, 2000, n_arms), rng.uniform(1, 2000, n_arms))
        beta_close = BetaPosterior(1000 + rng.uniform(0, 50, n_arms), 1000 + rng.uniform(0, 50, n_arms))
        student = StudentPosterior(rng.normal(0, 0.3, n_arms), rng.uniform(0.2, 1, n_arms), rng.uniform(5, 50, n_arms))
        show(f"P(best) and loss, Beta, {n_arms} arms", cpu(lambda b=beta: best_arm(b), 20), "ms")  # type: ignore[misc]
        show(f"P(best) and loss, Beta close together, {n_arms} arms", cpu(lambda b=beta_close: best_arm(b), 20), "ms")  # type: ignore[misc]
        show(f"P(best) and loss, Student-t, {n_arms} arms", cpu(lambda s=student: best_arm(s), 20), "ms")  # type: ignore[misc]
    wins = rng.binomial(3000, 0.1, (1000, 4)).astype(np.float64)
    many = BetaPosterior(1 + wins, 1 + 3000 - wins)
    show("P(best), Beta, 1,000 replications x 4 arms", cpu(lambda: probability_best(many), 3), "ms")


if __name__ == "__main__":
    calls()
    quadrature()
