"""Epochs of a log: where propensities change, what they are, and what contradicts itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bandit.arrays import FloatArray
from bandit.errors import InvalidInput
from simulations.logs.epochs import cuts
from simulations.logs.log import read_log
from simulations.logs.users import Users, users_of

Read = Callable[..., Users]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Read the users of a CSV, given as its header and rows."""

    def of(head: str, *rows: str, split: tuple[float, ...] | None = None, arms: str = "AB") -> Users:
        path = tmp_path / "log.csv"
        path.write_text("\n".join((head, *rows)) + "\n", encoding="utf-8")
        return users_of(read_log(path), list(arms), split)

    return of


def probabilities(users: Users) -> FloatArray:
    assert users.stretches.probabilities is not None
    return users.stretches.probabilities


OWN = "user_id,variant,propensity,time,y"


def test_with_two_variants_the_other_one_has_the_rest(read: Read) -> None:
    users = read(OWN, "u1,A,0.7,1,1", "u2,A,0.7,2,1", "u3,B,0.3,3,1", "u4,B,0.9,4,0", "u5,A,0.1,5,1")

    assert users.stretches.starts.tolist() == [0, 3]
    assert probabilities(users) == pytest.approx(np.array([[0.7, 0.3], [0.1, 0.9]]))


def test_a_constant_split_is_one_stretch_also_if_it_is_rounded(read: Read) -> None:
    rows = [f"u{i},{'ABC'[i % 3]},0.333,{i},1" for i in range(30)]

    users = read(OWN, *rows, arms="ABC")

    assert probabilities(users) == pytest.approx(np.full((1, 3), 1 / 3))
    assert users.stretches.notes == (
        "Propensities sum to 1 within 0.001 only, as rounded ones do; they were scaled to sum to 1.",
    )


def test_with_three_variants_moving_propensities_are_inferred_and_it_is_said(read: Read) -> None:
    first, second = {"A": 0.5, "B": 0.3, "C": 0.2}, {"A": 0.2, "B": 0.2, "C": 0.6}
    rows = [f"u{i},{key},{share[key]},{i},1" for i, (key, share) in enumerate(
        [("A", first), ("B", first), ("C", first), ("A", first), ("C", second), ("A", second), ("B", second)]
    )]  # fmt: skip

    users = read(OWN, *rows, arms="ABC")

    assert users.stretches.starts.tolist() == [0, 4]
    assert probabilities(users) == pytest.approx(np.array([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]]))
    assert "were inferred from the users before and after" in users.stretches.notes[0]


def test_propensities_of_variants_that_nobody_had_are_not_guessed(read: Read) -> None:
    users = read(OWN, "u1,A,0.5,1,1", "u2,A,0.4,2,1", "u3,B,0.3,3,1", arms="ABC")

    assert users.stretches.probabilities is None
    assert "The propensities of the users from line 2 on are not known" in users.stretches.notes[0]


EACH = "user_id,variant,time,propensity.A,propensity.B,y"


def test_a_column_for_each_variant_says_it_all(read: Read) -> None:
    users = read(EACH, "u1,A,1,0.7,0.3,1", "u2,A,2,0.7,0.3,1", "u3,B,3,0.4,0.6,1")

    assert users.stretches.starts.tolist() == [0, 2]
    assert probabilities(users).tolist() == [[0.7, 0.3], [0.4, 0.6]]


def test_users_of_a_declared_epoch_stand_together_in_the_order_of_first_users(read: Read) -> None:
    head = "user_id,variant,propensity,epoch,time,y"

    users = read(head, "u1,A,0.5,late,5,1", "u2,B,0.5,late,6,1", "u3,A,0.2,early,1,1", "u4,B,0.8,early,7,1")

    assert users.since is not None
    assert users.since.tolist() == [1.0, 7.0, 5.0, 6.0]
    assert probabilities(users).tolist() == [[0.2, 0.8], [0.5, 0.5]]


def test_epochs_without_times_are_in_the_order_of_their_numbers(read: Read) -> None:
    head = "user_id,variant,propensity,epoch,y"

    users = read(head, "u1,A,0.5,10,1", "u2,B,0.5,10,1", "u3,A,0.2,9,1", "u4,B,0.8,9,1")

    assert probabilities(users).tolist() == [[0.2, 0.8], [0.5, 0.5]]
    with pytest.raises(InvalidInput, match="column 'epoch': received 'x', allowed without a column of times: numbers"):
        read(head, "u1,A,0.5,x,1", "u2,B,0.5,x,1")


def test_a_declared_split_holds_for_all(read: Read) -> None:
    users = read("user_id,variant,y", "u1,A,1", "u2,B,0", split=(0.9, 0.1))

    assert probabilities(users).tolist() == [[0.9, 0.1]]


def test_a_later_row_need_not_say_the_propensity_again(read: Read) -> None:
    users = read("user_id,variant,propensity,epoch,y", "u1,A,0.5,1,1", "u1,A,,,0", "u2,B,0.5,1,1")

    assert probabilities(users).tolist() == [[0.5, 0.5]]


EPOCH = "user_id,variant,propensity,epoch,y"
CONTRADICTIONS: list[tuple[str, list[str], tuple[float, ...] | None, str]] = [
    (EPOCH, ["u1,A,0.5,1,1", "u2,A,0.6,1,1", "u3,B,0.5,1,0"], None,
     "line 3: received other propensities than before in epoch '1', allowed: one per variant throughout an epoch"),
    (EPOCH, ["u1,A,0.5,1,1", "u2,B,0.4,1,1"], None,
     "line 2: received propensities of epoch '1' that sum to 0.9, allowed: 1 over all variants"),
    (EPOCH, ["u1,A,0.5,1,1", "u2,B,0.6,1,1"], None, "that sum to 1.1"),
    (EPOCH, ["u1,A,,1,1", "u2,B,0.5,1,1"], None, "line 2: received no propensity in a user's first row"),
    (EPOCH, ["u1,A,0.5,,1", "u2,B,0.5,1,1"], None, "line 2, column 'epoch': received an empty cell in a user's first"),
    (EACH, ["u1,A,1,0.7,0.2,1", "u2,B,2,0.7,0.3,1"], None, "line 2: received propensities that sum to 0.9, allowed"),
    (EACH, ["u1,A,1,0,1,1", "u2,B,2,0,1,1"], None, "line 2: received propensity 0 of the row's own variant"),
    (EACH, ["u1,A,1,,0.3,1", "u2,B,2,0.7,0.3,1"], None, "line 2: received an empty propensity, allowed: one for each"),
    (EACH, ["u1,A,1,.7,.3,1", "u2,B,2,.5,.5,1"], (0.7, 0.3), "line 3: received propensity 0.5, allowed: 0.3, as the"),
    (OWN, ["u1,A,0.5,1,1", "u2,B,0.4,2,1"], (0.5, 0.5), "line 3: received propensity 0.4, allowed: 0.5, as the split"),
    ("user_id,variant,y", ["u1,A,1", "u2,B,1"], (1.0, 0.0), "line 3: received a user of a variant whose declared"),
    ("user_id,variant,propensity.A,y", ["u1,A,1,1", "u2,B,1,1"], None, "there is no column 'propensity.B', allowed"),
    ("user_id,variant,y", [f"u{i},{v},1" for i in range(3) for v in "AB"], None,
     "column 'user_id': 3 of 3 have rows of more than one variant, allowed: one variant per user"),
]  # fmt: skip


@pytest.mark.parametrize(("head", "rows", "split", "message"), CONTRADICTIONS, ids=[c[3][:60] for c in CONTRADICTIONS])
def test_contradictions_are_named(
    read: Read, head: str, rows: list[str], split: tuple[float, ...] | None, message: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        read(head, *rows, split=split)

    assert message in str(refused.value)


def test_the_first_lines_that_contradict_are_named_also_if_their_users_came_last(read: Read) -> None:
    rows = [f"u{i},{'AB'[i % 2]},{100 - i},0.5,0.6,1" for i in range(30)]

    with pytest.raises(InvalidInput) as refused:
        read(EACH, *rows)

    assert [p.field for p in refused.value.problems] == [*(f"line {i + 2}" for i in range(20)), ""]
    assert refused.value.problems[-1].message == "and 10 more faults"


def test_long_stretches_are_cut_so_that_plug_ins_come_from_earlier_users() -> None:
    found = cuts(np.array([0, 120]), 10_000, also=9_999)

    sizes = np.diff(np.append(found, 10_000))
    assert found[:5].tolist() == [0, 50, 100, 120, 170]
    assert found[-1] == 9_999
    assert all(size <= max(50, 0.02 * start + 1) for start, size in zip(found, sizes, strict=True))
    assert len(found) < 250
