"""The subcommands of `bandit-sim`: read, call, show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich import box
from rich.table import Table

from bandit.planning import Expectations
from simulations.charts.page import write_page
from simulations.charts.render import check_can_draw, write_pictures
from simulations.charts.specs import pictures
from simulations.compare import compare as compare_policies
from simulations.compare import entries as compared
from simulations.errors.rates import chosen
from simulations.errors.rates import error_rates as measure_errors
from simulations.errors.tables import document, tables
from simulations.example_log import example_log
from simulations.files import check_can_write, read_experiment, read_world, write_json
from simulations.logs.command import analyze
from simulations.options import (
    ControlFloor,
    ExperimentFile,
    Floor,
    JsonFile,
    Policies,
    Replications,
    Seed,
    Users,
    policy_names,
    show,
)
from simulations.plans.document import plan_document
from simulations.plans.frontier import Frontier, frontier
from simulations.plans.frontier_text import frontier_parts, frontier_picture
from simulations.plans.options import named_numbers, split_of
from simulations.plans.sizing import Sizing, sizing
from simulations.plans.text import plan_parts
from simulations.progress import progress
from simulations.recorded import RecordedTest, read_records
from simulations.rehearsals.command import rehearse
from simulations.replay import entries, truths_of
from simulations.replay import replay as replay_tests
from simulations.shipped import shipped, write_shipped
from simulations.sweeps.command import sweep
from simulations.sweeps.settings import Setting
from simulations.tables import (
    check_lines,
    comparison_sentences,
    comparison_tables,
    replay_sentences,
    replay_table,
    replay_title,
)

app = typer.Typer(
    name="bandit-sim",
    help="Try an experiment before launch: the engine of the service, against a declared or a recorded world.\n\n"
    "Start with: bandit-sim example > experiment.toml; bandit-sim example --world > world.toml; "
    "bandit-sim compare experiment.toml --truth world.toml",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command(epilog="Example: bandit-sim compare experiment.toml --truth world.toml --policies thompson,top_two,fixed")
def compare(
    experiment: ExperimentFile,
    truth: Annotated[Path, typer.Option(metavar="WORLD", help="world file: the truth about each variant")],
    policies: Policies = None,
    users: Users = 10_000,
    replications: Replications = 1_000,
    floor: Floor = None,
    control_floor: ControlFloor = None,
    seed: Seed = 1,
    json: JsonFile = None,
    charts: Annotated[
        Path | None, typer.Option(metavar="DIR", help="write pictures there, each as SVG and PNG; made if need be")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="write one page with pictures and numbers, which loads nothing")
    ] = None,
) -> None:
    """Policies side by side in a declared world. Default: the file's own policy and the fixed split.

    Each is run twice where the world says something of guardrails: with them, and as if there were none.
    """
    check_can_write(json)
    check_can_draw(charts, html)
    asked = read_experiment(experiment)
    names = policy_names(policies, dict.fromkeys((asked.policy.kind, "fixed")))
    world = read_world(truth, asked)
    runs = [run for name in names for run in compared(world, name)]
    with progress(runs, users * replications) as watch:
        result = compare_policies(
            world,
            names,
            users=users,
            replications=replications,
            seed=seed,
            floor=floor,
            control_floor=control_floor,
            watch=watch,
            draw=charts is not None or html is not None,
        )
    if json is not None:
        write_json(json, result.to_dict())
    if charts is not None:
        write_pictures(charts, pictures(result))
    if html is not None:
        write_page(html, result, pictures(result))
    show(json, [f"{asked.key}: policies side by side", *comparison_tables(result), *comparison_sentences(result)])


@app.command(epilog="Example: bandit-sim replay --policies thompson,top_two --floor 0 --control-floor 0")
def replay(
    file: Annotated[
        Path | None,
        typer.Argument(help="CSV or .csv.gz with columns test_id, arm, impressions, clicks; default: headline tests"),
    ] = None,
    policies: Policies = None,
    floor: Floor = None,
    control_floor: ControlFloor = None,
    seed: Seed = 1,
    replications: Annotated[int, typer.Option(min=1, max=10_000, help="runs of each test")] = 1,
    json: JsonFile = None,
) -> None:
    """What policies would have gained on recorded experiments. Default: Thompson sampling and the fixed split.

    The first arm of each test is control. Without a file: 2,272 headline tests of the Upworthy Research Archive
    (CC BY 4.0; simulations/data/README.md).
    """
    check_can_write(json)
    names = policy_names(policies, ("thompson", "fixed"))
    truths = truths_of(recorded_tests(file))
    users = replications * sum(sum(test.impressions) for test in truths.tests)
    runs = [name for policy in names for name in entries(policy, floor, control_floor)]
    with progress(runs, users) as watch:
        result = replay_tests(
            truths,
            names,
            floor=floor,
            control_floor=control_floor,
            seed=seed,
            replications=replications,
            watch=watch,
        )
    if json is not None:
        write_json(json, result.to_dict())
    show(json, [replay_title(result), replay_table(result), *replay_sentences(result)])


@app.command(
    epilog="Example: bandit-sim plan experiment.toml --baseline 0.3 --users-per-day 2000 --expect harmful=0.002"
)
def plan(
    experiment: ExperimentFile,
    users_per_day: Annotated[float, typer.Option(help="new users a day, before exposure")],
    baseline: Annotated[float | None, typer.Option(help="control's mean outcome, instead of goal.baseline")] = None,
    sd: Annotated[float | None, typer.Option(help="standard deviation of a user's outcome (numeric goals)")] = None,
    power: Annotated[float, typer.Option(help="probability of finding an effect of size mde")] = 0.8,
    split: Annotated[
        str | None, typer.Option(metavar="A=0.5,B=0.5", help="share of each variant, instead of the file's")
    ] = None,
    expect: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC=VALUE",
            help="expected level of a guardrail: a rate, a mean, or the change against control, such as 0.05; repeat "
            "it for the next guardrail",
        ),
    ] = None,
    base: Annotated[
        list[str] | None,
        typer.Option(metavar="METRIC=VALUE", help="control's rate or mean, for a guardrail relative to control"),
    ] = None,
    sd_of: Annotated[
        list[str] | None,
        typer.Option(metavar="METRIC=VALUE", help="standard deviation of a user's outcome, for a guardrail on a mean"),
    ] = None,
    non_inferiority: Annotated[
        float | None, typer.Option(metavar="MARGIN", help="also plan to show: not worse by more than this, relative")
    ] = None,
    response_rate: Annotated[float | None, typer.Option(help="share of users with a value of the goal")] = None,
    max_days: Annotated[float, typer.Option(help="longest acceptable time; warns if it is not enough")] = 90.0,
    bandit: Annotated[
        bool, typer.Option("--bandit", help="also simulate: what moving traffic gains and delays, floor by floor")
    ] = False,
    horizon: Annotated[
        int | None, typer.Option(min=1, max=10**9, help="users of each simulated run; default: twice the plan's")
    ] = None,
    replications: Annotated[int, typer.Option(min=2, max=10**6, help="simulated runs of each floor")] = 400,
    charts: Annotated[
        Path | None, typer.Option(metavar="DIR", help="with --bandit: a picture of that, as SVG and PNG")
    ] = None,
    seed: Seed = 1,
    format: Annotated[  # noqa: A002 (the option's name)
        Literal["text", "md"], typer.Option(help="md: the whole design of the experiment as a document")
    ] = "text",
    json: JsonFile = None,
) -> None:
    """Users and days that an experiment needs: one look or any number, every guardrail, the whole design."""
    if not 0 < users_per_day < float("inf"):
        message = f"received {users_per_day:g}, allowed: a finite number above 0"
        raise typer.BadParameter(message, param_hint="--users-per-day")
    check_can_write(json)
    for value, option in ((charts, "--charts"), (horizon, "--horizon")):
        if value is not None and not bandit:
            raise typer.BadParameter("is about what --bandit finds; add --bandit", param_hint=option)
    if bandit and format == "md":
        raise typer.BadParameter("the design has no place for a simulation; use text or --json", param_hint="--bandit")
    check_can_draw(charts, None)
    expectations = Expectations(
        named_numbers(expect or (), "--expect"),
        named_numbers(base or (), "--base"),
        named_numbers(sd_of or (), "--sd-of"),
    )
    sized = sizing(
        read_experiment(experiment),
        users_per_day,
        baseline=baseline,
        sd=sd,
        power=power,
        split=None if split is None else split_of(split),
        expectations=expectations,
        response_rate=response_rate,
        margin=non_inferiority,
        max_days=max_days,
    )
    moved = _frontier(sized, sd, horizon, replications, seed) if bandit else None
    if moved is not None and charts is not None:
        write_pictures(charts, {"frontier": frontier_picture(sized, moved)})
    if json is not None:
        write_json(json, sized.to_dict() | ({} if moved is None else {"bandit": moved.to_dict()}))
    if format == "text":
        show(json, [*plan_parts(sized), *([] if moved is None else frontier_parts(sized, moved))])
    elif str(json) != "-":
        typer.echo(plan_document(sized), nl=False)


def _frontier(sized: Sizing, sd: float | None, users: int | None, replications: int, seed: int) -> Frontier:
    """Return the frontier of a plan, with a bar for each set-up while it is made."""
    with ExitStack() as stack:

        def watch(settings: Sequence[Setting]) -> Callable[[Setting, int], None] | None:
            names = {each: f"{each.policy} {'' if each.floor is None else f'{each.floor:g}'}" for each in settings}
            bar = stack.enter_context(progress(list(names.values()), settings[0].users * replications))
            return None if bar is None else lambda setting, more: bar(names[setting], more)

        return frontier(sized, sd, users=users, replications=replications, seed=seed, watch=watch)


app.command(epilog="Example: bandit-sim rehearse experiment.toml --truth world.toml --replications 20")(rehearse)
app.command(
    epilog="Example: bandit-sim sweep experiment.toml --truth world.toml --floors 0,0.05,0.1,0.2 --users 5000,20000"
)(sweep)
app.command(epilog="Example: bandit-sim analyze log.csv --goal resolved --split A=0.5,B=0.5")(analyze)


@app.command(
    name="error-rates", epilog="Example: bandit-sim error-rates --only base,drift-floor-0.05 --replications 4000"
)
def error_rates(
    quick: Annotated[bool, typer.Option("--quick", help="a few scenarios, in seconds")] = False,
    replications: Annotated[
        int | None, typer.Option(min=2, max=10**6, help="runs of each scenario; default: 2000, with --quick 400")
    ] = None,
    seed: Seed = 1,
    only: Annotated[
        str | None, typer.Option(metavar="NAME,NAME", help="these scenarios alone, with commas between them")
    ] = None,
    format: Annotated[  # noqa: A002 (the option's name)
        Literal["text", "md"], typer.Option(help="md: the tables as Markdown")
    ] = "text",
    json: JsonFile = None,
) -> None:
    """How often tests, intervals and decisions err, and how soon they find an effect, under the engine's allocation."""
    check_can_write(json)
    asked = chosen(None if only is None else [name.strip() for name in only.split(",")], quick=quick)
    runs = replications or (400 if quick else 2_000)
    with progress(["error rates"], runs * sum(scenario.users for scenario in asked)) as watch:
        told = None if watch is None else partial(watch, "error rates")
        result = measure_errors(asked, replications=runs, seed=seed, watch=told)
    if json is not None:
        write_json(json, result.to_dict())
    if format == "text":
        show(json, tables(result))
    elif str(json) != "-":
        typer.echo(document(result), nl=False)


@app.command(epilog="Example: bandit-sim check experiment.toml")
def check(experiment: ExperimentFile) -> None:
    """Whether an experiment file is right: a summary, or every fault on a line of its own."""
    asked = read_experiment(experiment)
    show(None, [f"{experiment}: right", *check_lines(asked)])


@app.command(epilog="Example: bandit-sim example > experiment.toml")
def example(
    world: Annotated[bool, typer.Option("--world", help="its world for `compare` instead")] = False,
    log: Annotated[bool, typer.Option("--log", help="a log for `analyze` instead")] = False,
) -> None:
    """Print a commented experiment file to start from."""
    if world and log:
        raise typer.BadParameter("received both, allowed: one of --world and --log", param_hint="--log")
    if log:
        typer.echo("\n".join(example_log()))
        return
    name = "example_world.toml" if world else "example.toml"
    text = (files("simulations") / name).read_text(encoding="utf-8")
    typer.echo(text, nl=False)


@app.command(epilog="Example: bandit-sim worlds llm-judge --into .")
def worlds(
    name: Annotated[str | None, typer.Argument(help="the world to write; without it: what there is")] = None,
    into: Annotated[Path, typer.Option(metavar="DIR", help="where to write its two files")] = Path(),
) -> None:
    """Real variants as worlds: what is shipped, and files to start from."""
    if name is None:
        table = Table(box=box.SIMPLE_HEAD)
        for column in ("world", "what it is", "from"):
            table.add_column(column, overflow="fold")
        for each in shipped():
            table.add_row(each.name, each.about, each.source)
        show(None, [table, "bandit-sim worlds NAME writes NAME-experiment.toml and NAME-world.toml"])
        return
    experiment, world = write_shipped(name, into)
    show(None, [f"written: {experiment}, {world}", f"bandit-sim compare {experiment} --truth {world}"])


def recorded_tests(file: Path | None) -> list[RecordedTest]:
    """Return the tests of a file, or those shipped."""
    if file is not None:
        return read_records(file)
    with as_file(files("simulations") / "data" / "headlines.csv.gz") as shipped:
        return read_records(shipped)
