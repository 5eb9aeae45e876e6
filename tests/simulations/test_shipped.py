"""Worlds that are shipped: each can be compared at once, and has what its data have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from bandit.errors import InvalidInput
from simulations.commands import app
from simulations.compare import compare
from simulations.files import read_experiment, read_world
from simulations.shipped import shipped, write_shipped
from simulations.worlds import World

NAMES = [each.name for each in shipped()]


def world_of(name: str, folder: Path) -> World:
    experiment, world = write_shipped(name, folder)
    return read_world(world, read_experiment(experiment))


def test_there_are_some_and_each_says_where_it_is_from() -> None:
    assert NAMES == ["headlines", "llm-judge", "llm-latency"]
    for each in shipped():
        assert each.about.endswith(".")
        assert any(licence in each.source for licence in ("CC BY 4.0", "Apache-2.0"))


@pytest.mark.parametrize("name", NAMES)
def test_each_can_be_compared(name: str, tmp_path: Path) -> None:
    world = world_of(name, tmp_path)
    assert world.not_simulated == ()
    scores = compare(world, ["thompson", "fixed"], users=2_000, replications=20).policies
    unguarded = scores.get("fixed (no guardrails)", scores["fixed"])  # else what breaks a limit is taken away
    assert unguarded.numbers["reward_per_user"].value == pytest.approx(np.mean(world.means), rel=0.02)


def test_scores_have_the_means_of_the_source(tmp_path: Path) -> None:
    """Mean scores by GPT-4-turbo of 1,018 to 1,024 answers each."""
    assert world_of("llm-judge", tmp_path).means == pytest.approx([5.8832, 6.2731, 6.4423, 6.0771], abs=1e-4)


def test_the_provider_that_fails_breaks_the_limit(tmp_path: Path) -> None:
    world = world_of("llm-latency", tmp_path)
    assert [arm for arm, broken in zip(world.experiment.arms, world.broken, strict=True) if broken] == ["lepton"]
    assert world.means == pytest.approx([3.773, 2.355, 2.491, 4.469], abs=2e-3)


def test_the_command_lists_and_writes_and_does_not_overwrite(tmp_path: Path) -> None:
    listed = CliRunner().invoke(app, ["worlds"])
    assert listed.exit_code == 0
    assert all(name in listed.output for name in NAMES)
    done = CliRunner().invoke(app, ["worlds", "headlines", "--into", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "headlines-world.toml").exists()
    with pytest.raises(InvalidInput, match="not overwritten"):
        write_shipped("headlines", tmp_path)
    with pytest.raises(InvalidInput, match="did you mean 'headlines'"):
        write_shipped("headline", tmp_path)
    with pytest.raises(InvalidInput, match="no such directory"):
        write_shipped("headlines", tmp_path / "none")
