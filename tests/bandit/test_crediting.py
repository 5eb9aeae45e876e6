"""Values that nothing keeps from counting take a short way, which leads where the long one does."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from hypothesis import example, given
from hypothesis import strategies as st

from bandit import Bandit, BanditError, parse
from bandit.crediting import Crediting

GOALS = st.sampled_from(
    [
        {"metric": "goal", "kind": "binary"},
        {"metric": "goal", "kind": "binary", "per_user": "first"},
        {"metric": "goal", "kind": "binary", "per_user": "any"},
        {"metric": "goal", "kind": "numeric"},
        {"metric": "goal", "kind": "numeric", "per_user": "sum", "cap": 1.5},
    ]
)
RAILS: list[dict[str, Any]] = [
    {"metric": "slow", "kind": "numeric", "quantile": 0.9, "max": 1.0},
    {"metric": "goal", "kind": "binary", "max": 0.9},
    {"metric": "cost", "kind": "numeric", "max": 0.6, "cap": 3.0},
    {"metric": "failed", "kind": "binary", "max": 0.4},
]
CALLS = st.tuples(
    st.integers(0, 5),  # user
    st.fixed_dictionaries({}, optional={name: st.sampled_from([0, 1, 0.25, 2.0]) for name in ("goal", "slow", "cost")}),
    st.sampled_from([None, None, "r0", "r1", "r2"]),
    st.sampled_from([None, None, None, "A", "B"]),
    st.sampled_from([None, None, None, True, False]),
    st.sampled_from([False, False, False, True]),
    st.sampled_from([0.0, 0.0, 10.0, 4000.0]),
)


def told(declaration: dict[str, Any], calls: list[Any]) -> tuple[list[object], str]:
    """What is answered to calls, and how the experiment is then."""
    now = 0.0
    bandit = Bandit(parse(declaration), clock=lambda: now)
    answers: list[object] = []
    for user, metrics, request, variant, failed, replace, passes in calls:
        now += passes
        try:
            bandit.choose(f"u{user}")
            answers.append(
                bandit.reward(f"u{user}", metrics, request_id=request, variant=variant, failed=failed, replace=replace)
            )
        except BanditError as error:
            answers.append(str(error))
    return answers, bandit.dump()


@given(GOALS, st.sets(st.sampled_from(range(4))), st.sampled_from(["1h", "request"]), st.lists(CALLS, max_size=40))
@example(
    {"metric": "goal", "kind": "numeric"},
    {0, 2},
    "1h",
    [(0, {"goal": 0.25, "slow": 2.0, "cost": 1}, "r0", None, None, False, 0.0)] * 2,
)
def test_the_short_way_leads_where_the_long_one_does(
    goal: dict[str, Any], rails: set[int], window: str, calls: list[Any]
) -> None:
    declaration = {
        "key": "x",
        "variants": [{"key": "A", "control": True}, {"key": "B"}],
        "goal": goal,
        "guardrails": [RAILS[row] for row in sorted(rails) if row != 1 or goal["kind"] == "binary"],
        "rewards": {"window": window},
    }
    short = told(declaration, calls)
    with patch.object(Crediting, "take_new", return_value=False):
        assert told(declaration, calls) == short
