"""The page of `bandit-sim compare --html` in a real browser: `python -m tests.browser`. Needs Chromium.

Every picture has to be drawn; the page's own policy lets it load nothing, and the browser is given no network.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import typer

from simulations.charts.page import write_page
from simulations.charts.specs import pictures
from simulations.compare import compare
from simulations.world_files import parse_world
from tests.bandit.making import make_experiment

PATIENCE_MS = 15_000
"""Virtual time that the page is given to draw."""


def made(folder: Path) -> tuple[Path, list[str]]:
    """Write a page with all pictures, and return it with their names."""
    rails = [{"metric": "harmful", "kind": "binary", "max": 0.01}]
    laws = {arm: {"resolved": rate, "harmful": harm} for arm, rate, harm in (("A", 0.3, 0.005), ("B", 0.4, 0.05))}
    world = parse_world(make_experiment(guardrails=rails), {"variants": laws})
    result = compare(world, ["thompson", "fixed"], users=2_000, replications=50, draw=True)
    drawn = pictures(result)
    page = folder / "page.html"
    write_page(page, result, drawn)
    return page, list(drawn)


def main() -> None:
    """Open the page and look for every picture."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        typer.echo("Chromium is not there; apt-get install chromium", err=True)
        raise typer.Exit(1)
    with tempfile.TemporaryDirectory(prefix="bandit-page-") as directory:
        page, names = made(Path(directory))
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--proxy-server=127.0.0.1:9", "--dump-dom"]
        done = subprocess.run(
            [browser, *options, f"--virtual-time-budget={PATIENCE_MS}", page.as_uri()],
            check=True, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
    figures = re.findall(r'<figure id="picture-([\w-]+)"[^>]*>(.*?)</figure>', done.stdout, re.DOTALL)
    lacking = set(names) - {name for name, inside in figures if 'class="marks"' in inside and "<path" in inside}
    if lacking:
        typer.echo(f"not drawn: {', '.join(sorted(lacking))}", err=True)
        raise typer.Exit(1)
    typer.echo(f"drawn: {', '.join(names)}")


if __name__ == "__main__":
    typer.run(main)
