"""Sweeps: a row for each set-up, equal wherever it is measured, and gone on with where it stopped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from bandit.errors import InvalidInput
from simulations.commands import app
from simulations.compare import compare, run_policy
from simulations.sweeps.executors import cores, dask
from simulations.sweeps.files import append, check_parquet, done_before, write_parquet
from simulations.sweeps.run import Task, row, rows, tasks, world_name
from simulations.sweeps.settings import Setting, settings
from simulations.sweeps.text import sweep_tables
from simulations.world_files import parse_world
from simulations.worlds import World
from tests.bandit.making import make_experiment
from tests.simulations.making import make_world

WORLD = make_world([0.3, 0.4])
GRID = settings(["thompson", "fixed"], [0.0, 0.2], [0.0], [None], [200, 400])


class Here(Executor):
    """Does everything at once, in this thread."""

    def submit(self, function: Any, /, *arguments: Any, **named: Any) -> Future[Any]:  # noqa: ANN401 - as its base
        done: Future[Any] = Future()
        done.set_result(function(*arguments, **named))
        return done


def measured(work: list[Task], executor: Executor | None = None) -> list[dict[str, Any]]:
    return list(rows(work, executor or Here()))


def test_a_grid_is_every_combination_and_a_fixed_split_has_no_floors() -> None:
    assert len(GRID) == 2 * (2 + 1)
    assert [each for each in GRID if each.policy == "fixed"] == [
        Setting("fixed", None, None, None, n) for n in (200, 400)
    ]
    assert settings(["ucb"], [None], [None], [0.1, 0.5], [7])[1] == Setting("ucb", None, None, 0.5, 7)


def test_a_set_up_is_the_experiment_with_its_policy_floors_and_refresh() -> None:
    asked = Setting("ucb", 0.1, 0.3, 0.5, 7).asked(make_experiment(3))
    assert (asked.policy.kind, asked.floors, asked.policy.growth) == ("ucb", (0.3, 0.1, 0.1), 0.5)
    kept = make_experiment(3, policy={"floor": 0.05, "control_floor": 0.06, "growth": 0.07})
    asked = Setting("thompson", None, None, None, 7).asked(kept)
    assert (asked.floors, asked.policy.growth) == ((0.06, 0.05, 0.05), 0.07)


def test_a_row_has_the_numbers_of_compare_and_differences_of_pairs() -> None:
    found = row(tasks(WORLD, [Setting("thompson", 0.1, 0.1, None, 500)], 40, 3)[0])

    same = compare(WORLD, ["thompson", "fixed"], users=500, replications=40, seed=3, floor=0.1, control_floor=0.1)
    own = same.policies["thompson"]
    for name, estimate in {**own.numbers, **own.deciding, **own.limits}.items():
        assert (found[name], found[f"{name}_se"]) == (estimate.value, estimate.error)
    for name, estimate in same.against_fixed("thompson").items():
        assert (found[f"{name}_over_fixed"], found[f"{name}_over_fixed_se"]) == (estimate.value, estimate.error)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["policy"], found["floor"], found["users"], found["seed"]) == ("thompson", 0.1, 500, 3)


@contextmanager
def threads() -> Iterator[Executor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


@pytest.mark.parametrize(
    "executor", [lambda: cores(2), lambda: dask("local"), threads], ids=["cores", "dask", "threads"]
)
def test_numbers_are_equal_on_every_executor(executor: Any) -> None:  # noqa: ANN401 - three kinds
    work = tasks(WORLD, GRID, 20, 1)
    with executor() as there:
        assert measured(work, there) == measured(work)


def test_another_seed_world_or_experiment_is_another_sweep() -> None:
    assert row(tasks(WORLD, GRID[:1], 20, 1)[0]) != row(tasks(WORLD, GRID[:1], 20, 2)[0])
    change = {"after_users": 10, "variants": {"B": {"resolved": 0.2}}}
    declared = {"A": {"resolved": 0.3}, "B": {"resolved": 0.4}}
    changed = parse_world(make_experiment(), {"variants": declared, "changes": [change]})
    others = [make_world([0.3, 0.41]), make_world([0.3, 0.4], policy={"alpha": 0.1}), changed]
    assert len({world_name(world) for world in (WORLD, make_world([0.3, 0.4]), *others)}) == 4


def test_a_set_up_that_does_not_fit_is_refused_before_anything_is_run() -> None:
    with pytest.raises(InvalidInput, match=r"at most 0\.5"):
        tasks(WORLD, [*GRID, Setting("thompson", 0.6, None, None, 5)], 10, 1)


def test_a_sweep_goes_on_where_it_stopped_and_cuts_off_half_a_row(tmp_path: Path) -> None:
    work, file = tasks(WORLD, GRID, 5, 1), tmp_path / "s.jsonl"
    every = measured(work)
    assert done_before(file, work) == []
    for each in every[:3]:
        append(file, each)
    with file.open("a") as half:
        half.write('{"schema": 1, "ver')

    assert done_before(file, work) == every[:3]
    assert len(file.read_text().splitlines()) == 3


@pytest.mark.parametrize("others", [1, 2, 3])
def test_a_file_of_another_sweep_is_not_gone_on_with(tmp_path: Path, others: int) -> None:
    work, file = tasks(WORLD, GRID, 5, 1), tmp_path / "s.jsonl"
    for each in measured(work[:2]):
        append(file, each)
    asked = {1: tasks(WORLD, GRID, 5, 2), 2: tasks(WORLD, GRID[::-1], 5, 1), 3: work[:1]}[others]
    with pytest.raises(InvalidInput, match="another sweep, version or seed; name another file"):
        done_before(file, asked)


def test_what_is_no_sweep_is_named_by_its_line(tmp_path: Path) -> None:
    file = tmp_path / "s.jsonl"
    file.write_text("no\n")
    with pytest.raises(InvalidInput, match="line 1 is no row of a sweep"):
        done_before(file, tasks(WORLD, GRID, 5, 1))


def test_rows_as_parquet_are_the_rows(tmp_path: Path) -> None:
    found = measured(tasks(WORLD, GRID, 5, 1))
    write_parquet(tmp_path / "s.parquet", found)
    read = parquet.read_table(tmp_path / "s.parquet").to_pylist()
    assert [{key: each[key] for key in one} for each, one in zip(read, found, strict=True)] == found


def test_the_command_writes_a_row_for_each_set_up_and_does_not_repeat_them(tmp_path: Path) -> None:
    (tmp_path / "e.toml").write_text(
        'key = "x"\nvariants = [{ key = "A", control = true }, { key = "B" }]\n'
        'goal = { metric = "resolved", kind = "binary" }\n'
    )
    (tmp_path / "w.toml").write_text("[variants]\nA = { resolved = 0.3 }\nB = { resolved = 0.4 }\n")
    out = tmp_path / "s.jsonl"
    arguments = [
        "sweep", str(tmp_path / "e.toml"), "--truth", str(tmp_path / "w.toml"), "--floors", "0,0.1",
        "--users", "100,300", "--replications", "10", "--out", str(out), "--jobs", "1",
        "--parquet", str(tmp_path / "s.parquet"),
    ]  # fmt: skip
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "6 set-ups" in done.output
    written = out.read_bytes()
    assert len(written.splitlines()) == 6
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert out.read_bytes() == written
    assert parquet.read_table(tmp_path / "s.parquet").num_rows == 6
    assert CliRunner().invoke(app, [*arguments, "--charts", str(tmp_path / "pictures")]).exit_code == 0
    assert {each.name for each in (tmp_path / "pictures").glob("*.svg")} == {"frontier-100.svg", "frontier-300.svg"}

    for option, value, words in (
        ("--floors", "0,x", "allowed: numbers"),
        ("--users", "0", "whole numbers from 1"),
        ("--out", "-", "allowed: a file"),
        ("--growths", "0.1,0.1", "again"),
    ):
        wrong = CliRunner().invoke(app, [*arguments, option, value])
        assert (wrong.exit_code, words in wrong.output.replace("\n", " ")) == (2, True), wrong.output


def test_a_cluster_that_is_not_there_is_said() -> None:
    with pytest.raises(InvalidInput, match="no scheduler answers there"), dask("tcp://127.0.0.1:9"):
        pass


def test_tasks_are_the_same_whatever_their_world_object(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fixed split is measured once for all rows that are compared with it."""
    calls = []

    def counted(world: World, *rest: Any, **more: Any) -> Any:  # noqa: ANN401 - as the real one
        calls.append(rest)
        return original(world, *rest, **more)

    original = run_policy
    monkeypatch.setattr("simulations.sweeps.run.run_policy", counted)
    work = tasks(make_world([0.31, 0.4]), settings(["thompson"], [0.0, 0.1, 0.2], [0.0], [None], [100]), 5, 1)
    measured([replace(each, world=make_world([0.31, 0.4])) for each in work])
    assert len(calls) == 3 + 1


def test_parquet_without_its_library_is_refused_before_anything_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simulations.sweeps.files.find_spec", lambda _: None)
    with pytest.raises(InvalidInput, match="pip install 'adaptive-bandit"):
        check_parquet(tmp_path / "s.parquet")
    check_parquet(None)


def test_one_run_of_each_set_up_is_shown_without_errors_and_a_gain_is_what_is_better() -> None:
    lower = make_world([0.5, 0.2], goal={"better": "lower"})
    grid = settings(["thompson", "fixed"], [0.0], [0.0], [None], [2_000])
    found = measured(tasks(lower, grid, 1, 1))
    (table,) = sweep_tables(found, "lower")
    cells = [list(column.cells) for column in table.columns]
    assert found[0]["reward_per_user_over_fixed"] < 0.0
    gains = [str(cell) for column in cells[1:3] for cell in column if cell]
    assert gains
    assert all(not gain.startswith("-") for gain in gains), gains
