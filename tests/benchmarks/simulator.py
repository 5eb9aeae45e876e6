"""The simulator beside its peers: `python -m tests.benchmarks.simulator [--rounds 3]`.

Interactions (a choice and what is learned from it) per CPU second under Thompson sampling of 0/1 rewards. All rows are
measured in turn, and again in every round; the best of a row's rounds counts. Peers that are not there are left out,
and named; they are best installed beside this project in an environment of their own:

    pip install -e . river mabwiser SMPyBandits
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from io import StringIO
from typing import Annotated, Any

import numpy as np
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from bandit.arrays import FloatArray
from bandit.experiment import Experiment, parse
from simulations.outcomes import Successes
from simulations.runner import run_epochs
from simulations.stepwise import run_stepwise

PEER_STEPS = 20_000
RUNS = 1_000


def rates(n_arms: int) -> FloatArray:
    """Return the truth: from 30 % upward."""
    return np.linspace(0.30, 0.36, n_arms)


def asked(n_arms: int, **policy: object) -> Experiment:
    """Return the experiment; default floors and schedule unless something else is said."""
    variants = [{"key": f"v{arm}", "control": arm == 0} for arm in range(n_arms)]
    goal = {"metric": "resolved", "kind": "binary", "baseline": 0.3}
    return parse({"key": "speed", "variants": variants, "goal": goal, "policy": policy})


EACH = {"floor": 0.0, "control_floor": 0.0, "warmup": 0, "growth": 0.0, "min_batch": 1}


def one_by_one(n_arms: int) -> int:
    """A new allocation after each user, 10,000 runs at once."""
    run_stepwise(asked(n_arms, **EACH), rates(n_arms), 200, 10_000, np.random.SeedSequence(1))
    return 200 * 10_000


def as_counts(n_arms: int, users: int) -> int:
    """Epochs as counts, the default schedule, 1,000 runs."""
    horizons = np.full(RUNS, users, dtype=np.int64)
    run_epochs(asked(n_arms), Successes(rates(n_arms)), horizons, np.random.SeedSequence(1))
    return users * RUNS


def river(n_arms: int) -> int:
    """One run of river's Thompson sampling."""
    bandit, proba = import_module("river.bandit"), import_module("river.proba")
    policy = bandit.ThompsonSampling(reward_obj=proba.Beta(), seed=1)
    arms, luck = list(range(n_arms)), np.random.default_rng(1).random(PEER_STEPS).tolist()
    truth = rates(n_arms).tolist()
    for u in luck:
        arm = policy.pull(arms)
        policy.update(arm, u < truth[arm])
    return PEER_STEPS


def smpy_bandits(n_arms: int) -> int:
    """One run of SMPyBandits' Thompson sampling."""
    special: Any = import_module("scipy.special")
    if not hasattr(special, "btdtri"):  # SciPy gave the name up; it is imported, but not called here
        special.btdtri = special.betaincinv
    with redirect_stdout(StringIO()):
        policy: Any = import_module("SMPyBandits.Policies").Thompson(n_arms)
        policy.startGame()
    luck, truth = np.random.default_rng(1).random(PEER_STEPS).tolist(), rates(n_arms).tolist()
    for u in luck:
        arm = policy.choice()
        policy.getReward(arm, float(u < truth[arm]))
    return PEER_STEPS


def mabwiser(n_arms: int) -> int:
    """One run of mabwiser's Thompson sampling, learning after each reward."""
    mab = import_module("mabwiser.mab")
    policy: Any = mab.MAB(list(range(n_arms)), mab.LearningPolicy.ThompsonSampling())
    policy.fit([0], [0])
    steps = PEER_STEPS // 10
    luck, truth = np.random.default_rng(1).random(steps).tolist(), rates(n_arms).tolist()
    for u in luck:
        arm = policy.predict()
        policy.partial_fit([arm], [int(u < truth[arm])])
    return steps


PEERS: dict[str, Callable[[int], int]] = {"river": river, "SMPyBandits": smpy_bandits, "mabwiser": mabwiser}


def main(rounds: Annotated[int, typer.Option(min=1, help="how often each row is measured")] = 3) -> None:
    """Print millions of interactions per CPU second, and how many times the best peer's."""
    found: dict[tuple[str, int], float] = {}
    missing: list[str] = []
    work: dict[str, Callable[[int], int]] = {}
    for name, run in PEERS.items():
        try:
            work[f"{name} {version(name)}"] = run
        except PackageNotFoundError:
            missing.append(name)
    ours: dict[str, Callable[[int], int]] = {
        "one user per allocation": one_by_one,
        "epochs as counts, 100,000 users": lambda n_arms: as_counts(n_arms, 10**5),
        "epochs as counts, a million users": lambda n_arms: as_counts(n_arms, 10**6),
        "epochs as counts, a billion users": lambda n_arms: as_counts(n_arms, 10**9),
    }
    for _ in range(rounds):
        for name, run in {**work, **ours}.items():
            for n_arms in (2, 4):
                begun = time.process_time()
                steps = run(n_arms)
                speed = steps / (time.process_time() - begun)
                found[name, n_arms] = max(found.get((name, n_arms), 0.0), speed)
    table = Table(box=box.SIMPLE_HEAD, title="interactions per CPU second, millions (times the best peer)")
    for column in ("", "2 arms", "4 arms"):
        table.add_column(column, justify="left" if not column else "right")
    best = {n_arms: max((found[name, n_arms] for name in work), default=float("nan")) for n_arms in (2, 4)}
    for name in (*work, *ours):
        cells = [f"{found[name, k] / 1e6:,.3g} ({found[name, k] / best[k]:,.3g} x)" for k in (2, 4)]
        table.add_row(name, *cells)
    console = Console()
    console.print(table)
    billion = RUNS * 1e9 / found["epochs as counts, a billion users", 4]
    console.print(f"a billion users, 1,000 runs, 4 arms: {billion:.1f} s of CPU time")
    if missing:
        console.print(f"not there: {', '.join(missing)}")


if __name__ == "__main__":
    typer.run(main)
