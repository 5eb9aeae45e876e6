"""The subcommand `analyze` of `bandit-sim`: read, call, show."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from simulations.files import check_can_write, read_experiment, write_json
from simulations.logs.analysis import analyze_log
from simulations.logs.columns import Named
from simulations.logs.options import refuse_contradictions
from simulations.logs.question import Question
from simulations.logs.text import show_analysis
from simulations.plans.options import split_of
from simulations.progress import progress


def analyze(
    log: Annotated[Path, typer.Argument(metavar="LOG", help="CSV or JSONL, plain or gzip: a row per user or call")],
    experiment: Annotated[
        Path | None, typer.Option(metavar="FILE", help="experiment file: what was asked, guardrails included")
    ] = None,
    control: Annotated[
        str | None, typer.Option(metavar="KEY", help="the variant that others are compared with")
    ] = None,
    goal: Annotated[str | None, typer.Option(metavar="METRIC", help="column of the goal")] = None,
    better: Annotated[Literal["higher", "lower"] | None, typer.Option(help="default: higher")] = None,
    mde: Annotated[
        float | None, typer.Option(max=1.0, help="smallest relative effect that matters; default: 0.05, which is 5 %")
    ] = None,
    missing: Annotated[
        Literal["ignore", "worst", "zero"] | None,
        typer.Option(help="what a user without a value of the goal counts as"),
    ] = None,
    per_user: Annotated[
        Literal["mean", "first", "any", "sum"] | None, typer.Option(help="how a user's values make one; default: mean")
    ] = None,
    window: Annotated[
        str | None, typer.Option(metavar="1h", help="time from a user's first row in which rows count")
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="A=0.5,B=0.5", help="share of each variant, if it was fixed all the time")
    ] = None,
    user: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="column of the user; default: user_id, user")
    ] = None,
    variant: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="column of the variant; default: variant, arm, group")
    ] = None,
    time: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="column of the time; default: time, timestamp")
    ] = None,
    epoch: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="column that numbers stretches of constant propensities")
    ] = None,
    propensity: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="probability of the row's variant; or COLUMN.<variant> for each"),
    ] = None,
    alpha: Annotated[float | None, typer.Option(help="error bound; default: 0.05")] = None,
    horizon_users: Annotated[
        int | None, typer.Option(metavar="N", help="users at which fixed-time numbers are final, planned beforehand")
    ] = None,
    one_look: Annotated[
        bool, typer.Option("--one-look", help="this is the one look that was planned beforehand")
    ] = False,
    min_days: Annotated[float | None, typer.Option(metavar="D", help='no "deploy" before; default: 7')] = None,
    aa: Annotated[
        bool, typer.Option("--aa", help="all variants were the same: check the set-up; exit code 1 if it fails")
    ] = False,
    format: Annotated[  # noqa: A002 (the option's name)
        Literal["text", "md"], typer.Option(help="md: Markdown, also on a terminal")
    ] = "text",
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="write the result as JSON; - writes only it, to stdout")
    ] = None,
) -> None:
    """The report on a log of an A/B test or bandit that ran elsewhere: the same as the service gives.

    Columns: user_id, variant, a number per metric; time, epoch and propensity if known.
    """
    check_can_write(json)
    question = Question(
        control=control,
        goal=goal,
        better=better,
        mde=mde,
        missing=missing,
        per_user=per_user,
        window=window,
        split=None if split is None else split_of(split),
        alpha=alpha,
        horizon_users=horizon_users,
        one_look=one_look,
        min_days=min_days,
    )
    asked = None if experiment is None else read_experiment(experiment)
    refuse_contradictions(question, asked)
    columns = Named(user=user, variant=variant, time=time, epoch=epoch, propensity=propensity)
    with progress(["reading"], log.stat().st_size if log.is_file() else 0) as watch:
        read = None if watch is None else partial(watch, "reading")
        found = analyze_log(log, question, columns, asked, same=aa, watch=read)
    if json is not None:
        write_json(json, found.to_dict())
    if str(json) != "-":
        show_analysis(found, plain=format == "md")
    if found.check is not None and not found.check.passed:
        raise typer.Exit(1)
