"""How long a report takes: `python tests/benchmarks/report.py`.

1,000 epochs, 10 arms and 5 metrics: what an experiment with a billion users comes to. Least CPU time of several runs.
"""

from __future__ import annotations

import time

import numpy as np

from bandit.experiment import Experiment, parse
from bandit.history import History
from bandit.ledger import Ledger
from bandit.measures import measures_of
from bandit.report import build_report, markdown

N_EPOCHS, N_ARMS = 1_000, 10


def history_of_numbers() -> tuple[Experiment, History]:
    """Return an experiment with a goal and four guardrails, and a history of it."""
    experiment = parse(
        {
            "key": "benchmark",
            "variants": [{"key": f"V{arm}", "control": arm == 0} for arm in range(N_ARMS)],
            "goal": {"metric": "score", "kind": "numeric", "range": [1, 5]},
            "guardrails": [
                {"metric": "latency_ms", "kind": "numeric", "quantile": 0.95, "max": 1500},
                {"metric": "harmful", "kind": "binary", "max": 0.01},
                {"metric": "cost_usd", "kind": "numeric", "max_increase": 0.2, "cap": 1.0},
                {"metric": "tokens", "kind": "numeric", "max_increase": 0.5},
            ],
        }
    )
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.full(N_ARMS, 20.0), N_EPOCHS)
    assigned = rng.multinomial((50.0 * 1.02 ** np.arange(N_EPOCHS) ** 0.8).astype(np.int64), p)
    sums = []
    for measure in measures_of(experiment):
        rate = 0.005 if measure.kind == "binary" or measure.above is not None else 0.6
        s = rng.binomial(assigned, rate).astype(np.float64)
        row = [assigned.astype(np.float64), s, s, s] if measure.cap is None else [assigned, s / 50, s / 2000, s / 8e4]
        sums.append(np.stack([*row, *[np.zeros(assigned.shape)] * len(measure.stakes)], axis=-1).astype(np.float64))
    origins = (1.0, *[0.0] * (len(sums) - 1))
    ledger = Ledger(assigned, np.zeros_like(assigned), tuple(sums), origins)
    started = 3_600.0 * np.arange(float(N_EPOCHS))
    return experiment, History(ledger, N_EPOCHS, p, started, float(started[-1]))


def main() -> None:
    """Print the times."""
    experiment, history = history_of_numbers()
    best = {"report": np.inf, "as Markdown": np.inf}
    for _ in range(10):
        start = time.process_time()
        report = build_report(experiment, history, "running")
        middle = time.process_time()
        markdown(report)
        best["report"] = min(best["report"], middle - start)
        best["as Markdown"] = min(best["as Markdown"], time.process_time() - middle)
    for what, seconds in best.items():
        print(f"{what:<40} {1e3 * seconds:8.1f} ms")  # noqa: T201 (a report for people)


if __name__ == "__main__":
    main()
