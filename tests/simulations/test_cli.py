from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from bandit.experiment import parse_toml
from bandit.experiment_parts import Goal, Guardrail, PolicySettings, Rewards, Rollout, Variant
from simulations.__main__ import main


def sim(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "simulations", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, timeout=120)


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


Inside = Callable[..., Done]


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Inside:
    """The command in this process: the same `main`, without half a second of imports."""

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["bandit-sim", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        return Done(int(left.value.code or 0), out, err)

    return run


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "experiment.toml"
    path.write_text(sim("example").stdout, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def world(experiment: Path) -> Path:
    path = experiment.with_name("world.toml")
    path.write_text(sim("example", "--world").stdout, encoding="utf-8")
    return path


def test_the_example_is_right_and_says_what_it_asks_for(experiment: Path) -> None:
    done = sim("check", experiment)

    assert (done.returncode, done.stderr) == (0, "")
    for words in ("A (control), B", "resolved: binary", "A 20.0%, B 10.0%", "thompson", "worst", "max_increase 0.2"):
        assert words in done.stdout
    assert "not enforced" not in done.stdout


@pytest.mark.parametrize("limit", ["max = 0.1", "min = 0.9", "max_increase = 0.2", "max_decrease = 0.1"])
def test_every_kind_of_limit_is_summed_up(inside: Inside, tmp_path: Path, limit: str) -> None:
    path = tmp_path / "limit.toml"
    path.write_text(
        'key = "x"\nvariants = [{key = "A", control = true}, {key = "B"}]\ngoal = {metric = "m", kind = "binary"}\n'
        f'[[guardrails]]\nmetric = "safe"\nkind = "binary"\n{limit}\n',
        encoding="utf-8",
    )

    done = inside("check", path)

    assert done.returncode == 0
    assert f"guardrail   safe: {limit.replace(' =', '')}" in done.stdout


def test_the_example_names_every_setting(experiment: Path) -> None:
    text = experiment.read_text(encoding="utf-8")

    settings = {
        name for part in (Variant, Goal, Guardrail, PolicySettings, Rollout, Rewards) for name in part.model_fields
    }
    assert [name for name in sorted(settings - {"tolerance"}) if f"{name} =" not in text] == []
    assert parse_toml(text).policy == parse_toml(text.replace("growth = 0.02", "")).policy


def test_the_examples_can_be_compared_as_they_are(experiment: Path, world: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"

    done = sim("compare", experiment, "--truth", world, "--users", 2000, "--replications", 50, "--json", out)

    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(out.read_text(encoding="utf-8"))
    assert document["users"] == 2000
    assert document["not_simulated"] == []
    assert document["policies"]["thompson"]["gain_over_fixed"] > 0.01
    for words in ("thompson", "fixed", "regret", "±", "thompson (no guardrails)", "true difference"):
        assert words in done.stdout
    for words in ("users on a variant that breaks a limit", "runs with a false suspension", "B suspended: runs"):
        assert words in done.stdout
    assert "In truth, every variant keeps its limits." in done.stdout
    assert "not enforced" not in done.stdout


def test_json_to_standard_output_is_json_alone_and_repeatable(experiment: Path, world: Path) -> None:
    arguments = ("compare", experiment, "--truth", world, "--users", 500, "--replications", 5, "--json", "-")

    first, again, other = sim(*arguments), sim(*arguments), sim(*arguments, "--seed", 2)

    assert json.loads(first.stdout)["seed"] == 1
    assert first.stdout == again.stdout != other.stdout


def test_a_policy_that_forgets_can_be_compared_in_a_world_that_changes(inside: Inside, tmp_path: Path) -> None:
    names = {"key": "k", "goal": {"metric": "m", "kind": "binary"}}
    (tmp_path / "e.json").write_text(json.dumps(names | {"variants": [{"key": "A", "control": True}, {"key": "B"}]}))
    change = {"after_users": 1_000, "variants": {"B": {"m": 0.1}}}
    (tmp_path / "w.json").write_text(json.dumps({"variants": {"A": {"m": 0.2}, "B": {"m": 0.4}}, "changes": [change]}))
    policies = "thompson,thompson:half_life=300"

    done = inside(
        "compare", tmp_path / "e.json", "--truth", tmp_path / "w.json", "--users", 4_000, "--replications", 30,
        "--policies", policies, "--json", "-",
    )  # fmt: skip

    found = json.loads(done.stdout)["policies"]
    assert list(found) == policies.split(",")
    assert found["thompson:half_life=300"]["regret"] < 0.8 * found["thompson"]["regret"]


def test_plan_gives_users_and_days(experiment: Path) -> None:
    done = sim("plan", experiment, "--baseline", 0.76, "--users-per-day", 500, "--json", "-")
    told = sim("plan", experiment, "--baseline", 0.76, "--users-per-day", 500)

    document = json.loads(done.stdout)
    assert [document[key] for key in ("schema", "users_per_variant", "total_users", "days")] == [1, 1872, 3744, 8]
    assert "1,872 users per variant" in told.stdout
    assert "two variants, one look" in " ".join(told.stdout.split())


def test_replay_reads_a_file(tmp_path: Path) -> None:
    path = tmp_path / "tests.csv"
    path.write_text("test_id,arm,impressions,clicks\nt,a,2000,100\nt,b,2000,180\nu,a,10,1\n", encoding="utf-8")

    done = sim("replay", path, "--floor", 0, "--control-floor", 0, "--json", "-", "--replications", 5)
    told = sim("replay", path, "--policies", "ucb")

    document = json.loads(done.stdout)
    assert document["tests"] == 1
    assert document["left_out"]["one_arm"] == 1
    assert list(document["policies"]) == ["thompson", "thompson (default floors)", "fixed"]
    assert "1 with one arm" in told.stdout
    assert "ucb (no floors)" in told.stdout


def test_help_has_an_example_for_each_command(inside: Inside) -> None:
    commands = ("compare", "replay", "plan", "check", "example")

    top = inside("--help")

    assert all(command in top.stdout for command in commands)
    for command in commands:
        assert f"Example: bandit-sim {command}" in " ".join(inside(command, "--help").stdout.split())


def test_every_fault_of_a_file_stands_on_a_line_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text('ky = "x"\nvariants = [{key = "A"}]\n[goal]\nmetric = "m"\nkind = "binar"\n', encoding="utf-8")

    done = sim("check", path)

    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 5  # key, two of the variants, goal.kind, ky
    assert "did you mean 'key'" in done.stderr
    assert "Traceback" not in done.stderr


FILES = [
    ("missing.toml", None, "no such file"),
    ("folder.toml", "folder", "is a directory"),
    ("experiment.yaml", b"key: x", ".toml or .json"),
    ("latin.toml", b'key = "\xe9"', "is not UTF-8"),
    ("empty.json", b"", "empty"),
    ("broken.json", b"{", "not JSON"),
]


@pytest.mark.parametrize(("name", "content", "message"), FILES, ids=[file[0] for file in FILES])
def test_a_file_that_cannot_be_read_is_a_clear_error(
    inside: Inside, tmp_path: Path, name: str, content: object, message: str
) -> None:
    path = tmp_path / name
    if content == "folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)

    done = inside("check", path)

    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {path}")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


MISUSE = [
    (["compare", "{e}"], "--truth"),
    (["compare", "{e}", "--truth", "{w}", "--policies", "tompson"], "'thompson'"),
    (["compare", "{e}", "--truth", "{w}", "--policies", "ucb,ucb"], "each once"),
    (["compare", "{e}", "--truth", "{w}", "--policies", "ucb:half_life=7d"], "no clock"),
    (["compare", "{e}", "--truth", "{w}", "--users", "0"], "--users"),
    (["compare", "{e}", "--truth", "{w}", "--floor", "2"], "--floor"),
    (["compare", "{e}", "--truth", "{w}", "--seed", "-1"], "--seed"),
    (["plan", "{e}", "--users-per-day", "0"], "above 0"),
    (["plan", "{e}"], "--users-per-day"),
    (["nonsense"], "nonsense"),
]


@pytest.mark.parametrize(("arguments", "message"), MISUSE, ids=[" ".join(case[0]) for case in MISUSE])
def test_misuse_is_exit_code_two(
    inside: Inside, experiment: Path, world: Path, arguments: list[str], message: str
) -> None:
    done = inside(*(argument.format(e=experiment, w=world) for argument in arguments))

    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


WRONG = [
    (["compare", "{e}", "--truth", "{e}"], "unknown key"),
    (["compare", "{e}", "--truth", "{w}", "--floor", "0.6"], "at most 0.5 fits"),
    (["compare", "{e}", "--truth", "{w}", "--json", "/no/such/place.json"], "no directory"),
    (["plan", "{e}", "--users-per-day", "5", "--sd", "1"], "not allowed for a binary goal"),
    (["replay", "{e}"], "no columns 'test_id'"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[" ".join(case[0]) for case in WRONG])
def test_wrong_input_is_exit_code_one(
    inside: Inside, experiment: Path, world: Path, arguments: list[str], message: str
) -> None:
    done = inside(*(argument.format(e=experiment, w=world) for argument in arguments))

    assert done.returncode == 1
    assert done.stdout == ""
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_names_are_printed_as_they_are_not_read_as_markup(tmp_path: Path, inside: Inside) -> None:
    names = {"key": "k:fire:", "goal": {"metric": "m[/x]", "kind": "binary"}}
    variants = {"variants": [{"key": "A", "control": True}, {"key": "[red]"}]}
    (tmp_path / "e.json").write_text(json.dumps(names | variants))
    (tmp_path / "w.json").write_text(json.dumps({"variants": {"A": {"m[/x]": 0.1}, "[red]": {"m[/x]": 0.2}}}))

    done = inside("compare", tmp_path / "e.json", "--truth", tmp_path / "w.json", "--users", 200, "--replications", 5)

    assert (done.returncode, done.stderr) == (0, "")
    assert "m[/x] per user" in done.stdout
    assert "k:fire:" in done.stdout
