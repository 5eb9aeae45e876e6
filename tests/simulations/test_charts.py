"""Pictures: specifications that compile in silence, and files that load nothing and run nothing of what they name."""

from __future__ import annotations

import json
import re
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import vl_convert

from bandit import __version__
from bandit.errors import InvalidInput
from simulations.__main__ import main
from simulations.advice import advice
from simulations.charts.frontier import frontier
from simulations.charts.page import page
from simulations.charts.render import check_can_draw, png, still, svg, write_pictures
from simulations.charts.specs import pictures
from simulations.charts.style import DASHES, PALETTE, Spec, users_axis
from simulations.compare import Comparison, compare
from simulations.tables import comparison_sentences
from simulations.world_files import parse_world
from tests.bandit.making import make_experiment

NAMES = ("regret", "reward", "allocation", "posteriors", "decisions", "exposure")
NASTY = '<b>x</b></script><script>alert("1")</script>&'


def compared(harm: float = 0.1, **parts: Any) -> Comparison:  # noqa: ANN401 (tables of the experiment file)
    rails = [{"metric": "harmful", "kind": "binary", "per_user": "any", "max": 0.01}]
    laws = {arm: {"resolved": rate, "harmful": h} for arm, rate, h in (("A", 0.3, 0.005), ("B", 0.4, harm))}
    world = parse_world(make_experiment(guardrails=rails, **parts), {"variants": laws})
    return compare(world, ["thompson", "fixed"], users=1_000, replications=10, draw=True)


@pytest.fixture(scope="module")
def result() -> Comparison:
    return compared(hypothesis=NASTY)


@pytest.fixture(scope="module")
def specs(result: Comparison) -> dict[str, Spec]:
    return pictures(result)


@pytest.fixture(scope="module")
def text(result: Comparison, specs: dict[str, Spec]) -> str:
    return page(result, specs)


def rows(**more: float) -> list[dict[str, Any]]:
    settings = [("thompson", 0.0), ("thompson", 0.1), ("thompson", 0.2), ("top_two", 0.1), ("fixed", None)]
    return [
        {
            "policy": policy, "floor": floor, "users_to_decision": 1_000.0 + 100 * place, "users_to_decision_se": 20.0,
            "reward_acted_on": 0.35 - 0.001 * place, "reward_acted_on_se": 0.0004,
            **(more if policy != "fixed" else {}),
        }
        for place, (policy, floor) in enumerate(settings)
    ]  # fmt: skip


@pytest.mark.parametrize("name", [*NAMES, "frontier"])
@pytest.mark.parametrize("interactive", [True, False])
def test_every_picture_compiles_without_a_warning(
    specs: dict[str, Spec], capfd: pytest.CaptureFixture[str], name: str, *, interactive: bool
) -> None:
    spec = frontier(rows(), "resolved") if name == "frontier" else specs[name]
    shown = spec if interactive else still(spec)

    drawn = vl_convert.vegalite_to_svg(shown, show_warnings=True)

    assert capfd.readouterr() == ("", "")
    root = ET.fromstring(drawn)  # noqa: S314 (made here)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    words = "".join(root.itertext())
    assert spec["title"]["text"] in words
    assert "thompson" in words
    assert len(drawn) > 5_000


def test_a_warning_would_have_been_seen(capfd: pytest.CaptureFixture[str]) -> None:
    bad = {"data": {"values": [{"a": 1}]}, "mark": "area", "encoding": {"strokeDash": {"field": "a"}}}
    vl_convert.vegalite_to_svg(bad, show_warnings=True)
    assert "strokeDash" in capfd.readouterr().err


def test_pictures_without_a_pointer_are_small_and_whole(specs: dict[str, Spec]) -> None:
    for spec in specs.values():
        assert "params" in json.dumps(spec)
        assert "params" not in json.dumps(still(spec))
        assert len(svg(spec)) < 0.7 * len(vl_convert.vegalite_to_svg(spec))


def test_what_is_under_the_pointer_is_read_from_its_own_row(specs: dict[str, Spec]) -> None:
    """With a selection of the nearest point Vega-Lite 6 reads numbers from one place and names from another."""
    for spec in specs.values():
        tooltips = re.findall(r'"tooltip": {"signal": (".*?[^\\\\]")}', json.dumps(vl_convert.vegalite_to_vega(spec)))
        assert any("users" in tooltip for tooltip in tooltips)
        assert not any("datum.datum" in tooltip for tooltip in tooltips)


def test_a_picture_says_what_it_shows(result: Comparison, specs: dict[str, Spec]) -> None:
    assert tuple(specs) == NAMES
    path = result.paths["thompson"]
    last = [row for row in specs["regret"]["data"]["values"] if row["policy"] == "thompson"][-1]
    assert last["users"] == 1_000
    assert last["mean"] == pytest.approx(path.regret.mean[-1], rel=1e-5)
    assert (last["low"], last["high"]) == pytest.approx((path.regret.low[-1], path.regret.high[-1]), rel=1e-5)
    shares = [row["mean"] for row in specs["allocation"]["data"]["values"] if row["users"] == 1_000]
    assert sum(shares) == pytest.approx(4.0, rel=1e-5)
    for spec in specs.values():
        assert spec["title"]["subtitle"][-2:] == [
            "10 runs of 1,000 users, seed 1; greeting",
            "true mean of resolved: A 0.3, B 0.4",
        ]


def test_runs_that_are_never_decided_are_counted_in_the_legend(specs: dict[str, Spec], result: Comparison) -> None:
    undecided = 1.0 - (result.policies["fixed (no guardrails)"].deciding["decided"].value or 0.0)
    names = {row["policy"] for row in specs["decisions"]["data"]["values"]}
    assert undecided > 0.0
    assert f"fixed (no guardrails): {undecided:.1%} undecided" in names
    ends = [row["mean"] for row in specs["decisions"]["data"]["values"] if row["users"] == 1_000]
    decided = [score.deciding["decided"].value for score in result.policies.values()]
    assert ends == pytest.approx(decided)


def test_there_is_no_picture_of_exposure_where_nobody_is_exposed() -> None:
    assert tuple(pictures(compared(harm=0.005))) == NAMES[:-1]


def test_all_lines_of_fifty_variants_differ() -> None:
    looks = {(PALETTE[k % len(PALETTE)], DASHES[k % len(DASHES)]) for k in range(50)}
    assert len(looks) == 50


def test_users_are_logarithmic_where_they_span_decades() -> None:
    assert users_axis(50, 1_000)["scale"] == {"type": "linear", "domain": [0, 1_000], "nice": False}
    far = users_axis(50, 20_000)
    assert far["scale"] == {"type": "log", "domain": [50, 20_000], "nice": False}
    assert far["axis"]["values"] == [50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000]


def test_the_frontier_shows_the_paired_gain_where_there_is_one() -> None:
    plain = frontier(rows(), "resolved")["data"]["values"]
    paired = frontier(rows(reward_acted_on_over_fixed=0.01, reward_acted_on_over_fixed_se=0.002), "resolved")

    assert [point["reward"] for point in plain] == pytest.approx([0.35, 0.349, 0.348, 0.347, 0.346])
    assert plain[0]["users_low"] == pytest.approx(1_000 - 1.96 * 20)
    assert plain[0]["reward_high"] == pytest.approx(0.35 + 1.96 * 0.0004)
    points = paired["data"]["values"]
    assert [point["reward"] for point in points] == [0.01] * 4 + [0.0]
    assert points[0]["reward_low"] == pytest.approx(0.01 - 1.96 * 0.002)
    assert [point["label"] for point in points] == ["0", "0.1", "0.2", "0.1", "fixed"]
    assert "gain over the fixed split" in json.dumps(paired)


def test_points_at_one_place_share_one_text() -> None:
    far, near, fixed = rows()[0], rows()[0] | {"floor": 0.05, "users_to_decision": 1_001.0}, rows()[4]

    texts = frontier([far, near, fixed], "resolved")["layer"][-1]["data"]["values"]

    assert [text["label"] for text in texts] == ["0, 0.05", "fixed"]


class Elements(HTMLParser):
    """What a browser would see: elements with their attributes, and the text outside scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_page_loads_nothing_and_forbids_it(text: str) -> None:
    parsed = Elements()
    parsed.feed(text)

    loading = {"src", "href", "srcset", "data", "action", "poster", "background"}
    assert [(tag, attrs) for tag, attrs in parsed.seen if loading & attrs.keys()] == []
    assert {tag for tag, _ in parsed.seen}.isdisjoint({"link", "iframe", "object", "embed", "img", "base", "b"})
    policies = [a["content"] for tag, a in parsed.seen if tag == "meta" and a.get("http-equiv")]
    assert len(policies) == 1
    assert policies[0] is not None
    assert "default-src 'none'" in policies[0]
    assert "unsafe-eval" not in policies[0]
    assert "http" not in policies[0]
    assert "@import" not in text
    assert not re.search(r"\burl\(\s*['\"]?https?:", text)
    assert [tag for tag, _ in parsed.seen].count("script") == 3


def test_the_page_escapes_what_others_wrote(text: str, result: Comparison) -> None:
    assert NASTY not in text
    assert "&lt;b&gt;x&lt;/b&gt;&lt;/script&gt;" in text
    nasty = pictures(compared(policy={"floor": 0.1}))
    nasty["regret"]["title"]["text"] = NASTY
    hurt = page(result, nasty)
    assert NASTY not in hurt
    parsed = Elements()
    parsed.feed(hurt)
    assert [tag for tag, _ in parsed.seen].count("script") == 3
    embedded = hurt.split('id="pictures">')[1].split("</script>")[0]
    assert json.loads(embedded)["regret"]["title"]["text"] == NASTY


def test_the_page_says_what_the_command_says(text: str, result: Comparison) -> None:
    parsed = Elements()
    parsed.feed(text)
    words = parsed.words

    assert advice(result)
    for sentence in comparison_sentences(result):
        assert words.count(sentence) == 1
    for row in ("regret, resolved × users", "users to a decision (the horizon, if there is none)", "always B"):
        assert row in words
    assert f"bandit-sim {__version__}; seed 1; 10 runs of 1,000 users" in words
    figures = [attrs["id"] for tag, attrs in parsed.seen if tag == "figure"]
    assert figures == [f"picture-{name}" for name in NAMES]


@pytest.fixture
def sim(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """The command in this process, in a world of two files."""
    (tmp_path / "e.json").write_text(json.dumps(make_experiment().to_dict()), encoding="utf-8")
    world = {"variants": {"A": {"resolved": 0.3}, "B": {"resolved": 0.4}}}
    (tmp_path / "w.json").write_text(json.dumps(world), encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> int:
        command = ["bandit-sim", "compare", "e.json", "--truth", "w.json", "--users", "300", "--replications", "4"]
        monkeypatch.setattr(sys, "argv", [*command, *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        return int(left.value.code or 0)

    return run


def test_the_command_writes_pictures_and_a_page(sim: Callable[..., int], tmp_path: Path) -> None:
    assert sim("--charts", "new", "--html", "page.html") == 0

    files = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert files == sorted(f"{name}.{ending}" for name in NAMES[:-1] for ending in ("png", "svg"))
    assert (tmp_path / "new" / "regret.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "new" / "regret.svg").read_text(encoding="utf-8").startswith("<svg")
    assert (tmp_path / "page.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert sim("--charts", "new") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--charts", "e.json"), "error: e.json: is a file; name a directory"),
        (("--charts", "no/new"), "error: no/new: there is no directory 'no'; make it first"),
        (("--html", "no/page.html"), "error: no/page.html: there is no directory 'no'; make it first"),
        (("--html", "."), "error: .: is a directory; name a file in it"),
        (("--html", "-"), "error: -: is no place for a page; name a file"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_any_run(
    sim: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr("simulations.commands.compare_policies", never)
    assert sim(*arguments) == 1
    assert capsys.readouterr().err == f"{message}\n"


def test_without_the_renderer_the_cure_is_named(
    sim: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)

    assert sim("--charts", "new") == 1
    said = "error: pictures need vl-convert-python: pip install 'adaptive-bandit[charts]'\n"
    assert capsys.readouterr().err == said
    assert not (tmp_path / "new").exists()
    assert sim() == 0
    check_can_draw(None, None)


def test_a_disk_that_refuses_is_told_in_words(specs: dict[str, Spec], tmp_path: Path) -> None:
    (tmp_path / "regret.png").mkdir()
    with pytest.raises(InvalidInput, match="cannot be written: Is a directory"):
        write_pictures(tmp_path, {"regret": specs["regret"]})


def test_a_png_is_sharp(specs: dict[str, Spec]) -> None:
    content = png(specs["regret"])
    assert int.from_bytes(content[16:20], "big") > 1_200
