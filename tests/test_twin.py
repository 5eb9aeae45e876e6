"""The simulator and the service are one engine: the same scenario gives the same arms and propensities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bandit import parse
from simulations.runner import UserRecord, run_users
from tests.server.running import command

RATES = {"A": 0.30, "B": 0.45, "C": 0.36}
SCENARIOS: dict[str, dict[str, Any]] = {
    "thompson, binary": {},
    "top two, numeric": {
        "goal": {"metric": "score", "kind": "numeric", "better": "lower"},
        "policy": {"kind": "top_two", "beta": 0.7},
    },
    "half of the users enrolled": {"rollout": {"exposure": 0.5}},
}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_same_scenario_gives_the_same_arms_and_propensities_record_by_record(scenario: str, tmp_path: Path) -> None:
    definition = {
        "key": "twin",
        "salt": "fixed by the test",
        "variants": [{"key": "A", "control": True}, {"key": "B"}, {"key": "C"}],
        "goal": {"metric": "resolved", "kind": "binary"},
        "guardrails": [{"metric": "latency_ms", "kind": "numeric", "quantile": 0.95, "max": 1500}],
        "rewards": {"window": "request"},
    } | SCENARIOS[scenario]
    # Every tenth visit is a return of an earlier user.
    visits = [f"user-{i - 7 if i % 10 == 9 else i}" for i in range(600)]
    luck = {user: np.random.default_rng(i).random(2).tolist() for i, user in enumerate(dict.fromkeys(visits))}

    def answer(user_id: str, variant: str) -> dict[str, float]:
        u, latency = luck[user_id]
        goal = (
            {"resolved": float(u < RATES[variant])}
            if "goal" not in SCENARIOS[scenario]
            else {"score": u - RATES[variant]}
        )
        return goal | {"latency_ms": 1000 + 1000 * latency}

    expected = run_users(parse(definition), visits, answer)

    served: list[UserRecord] = []
    store = ("--db", tmp_path / "twin.db")
    for half in (visits[:301], visits[301:]):  # the service is killed in between
        with command(*store) as service:
            if not served:
                assert service.http.post("/experiments", json=definition).status_code == 201
                assert service.move("twin", "start").status_code == 200
            for user in half:
                given = service.choose("twin", user)
                metrics = answer(user, given["variant"])
                assert service.reward("twin", user, f"request-{len(served)}", metrics=metrics).status_code == 200
                served.append(UserRecord(user, given["variant"], given["propensity"], given["epoch"], metrics))

    assert served == expected
    assert len({record.epoch for record in expected if record.epoch}) > 5
