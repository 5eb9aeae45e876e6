"""The command line of `bandit-server`; its options are checked before anything is opened."""

from __future__ import annotations

import csv
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, TYPE_CHECKING, Annotated, NoReturn
from urllib.parse import quote

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import bandit
from bandit import BanditError, Experiment, parse_json, parse_toml
from bandit.durations import seconds
from server.backup import backup
from server.demo import Demo
from server.export import MOST_CHALLENGING, Format, What, export, export_challenging
from server.guard import is_loopback
from server.judge_quality import judge_quality
from server.label_files import store_labels, write_to_label
from server.labels import read_csv as read_labels
from server.logs import LogFormat, configure
from server.model_servers import ModelServers, read_model_servers
from server.quality_text import quality
from server.schema import Synchronous, open_stored, prepare
from server.verify import verify
from server.verify_text import conclusion, tables
from server.workers import Service, serve_many
from server.workers import serve as serve_here

if TYPE_CHECKING:
    from server.judge_process import Work
    from server.judge_runs import Summary

app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})

_Db = Annotated[str | None, typer.Option(help="SQLite file; bandit.db unless another is given.", show_default=False)]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bandit-server {bandit.__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def serve(
    context: typer.Context,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = 8000,
    db: _Db = None,
    experiment: Annotated[
        list[Path] | None, typer.Option(help="Experiment file (TOML or JSON), created and started if it is new.")
    ] = None,
    demo: Annotated[bool, typer.Option("--demo", help="An example with made-up users, in a temporary store.")] = False,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen beyond loopback although nobody is asked for a key.")
    ] = False,
    workers: Annotated[
        int, typer.Option(help="Processes on the one file. They share its write lock: more answer known users.", min=1)
    ] = 1,
    log_format: Annotated[
        LogFormat, typer.Option(help="Log on standard error: warnings as text, or JSON lines with more.")
    ] = "text",
    retain: Annotated[
        str | None,
        typer.Option(metavar="90d", help="Drop the raw rows of users whose epoch closed longer ago; sums stay."),
    ] = None,
    models: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Model servers and prices (TOML): judges work, and tokens have a cost."),
    ] = None,
    synchronous: Annotated[
        Synchronous,
        typer.Option(help="full: what is answered is on the disk; normal: a power cut may take the latest."),
    ] = "full",
    version: Annotated[  # noqa: ARG001 - its callback does the work
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Serve experiments: POST /choose gives a user's variant, POST /reward takes what happened.

    Without a command it serves. The commands look after a store, also while a server works on it.
    """
    if context.invoked_subcommand is not None:
        _refuse_options_of_the_server(context)
        return
    configure(log_format)
    loopback = is_loopback(host)
    if not loopback and not insecure:
        _refuse(
            f"--host {host} is reachable for others, and this server asks nobody for a key yet; "
            "use a loopback address, or say --insecure"
        )
    if demo and db is not None:
        _refuse("--demo works in a temporary store of its own; leave out --db")
    path, kept = _path(db), _seconds(retain)
    experiments = [_read(file) for file in experiment or ()]
    listener = _listen(host, port)

    known = None if models is None else _model_servers(models)

    def run(store: Path, served: Sequence[Experiment]) -> None:
        texts = tuple(each.to_json() for each in served)
        _run(workers, Service(store, texts, loopback, kept, log_format, synchronous, known), listener, host)

    if not demo:
        run(path, experiments)
        return
    with TemporaryDirectory(prefix="bandit-demo-") as folder:
        example = Demo(_url(listener, host))
        with example.feeding():
            run(Path(folder) / "demo.db", [example.experiment, *experiments])


@app.command("verify")
def verify_command(db: _Db = None) -> None:
    """Rebuild the ledger from the raw rows and compare; read only, beside a working server.

    Also: is each user's variant the one that the salt and the probabilities of the epoch give, are the epochs in order,
    is the file whole. Exit code 0: all agrees; 1: something differs, and it is said what; 2: the file is no store.
    """
    path, console = _path(db), Console(highlight=False, markup=False, emoji=False)
    try:
        with Console(stderr=True).status(f"reading {path}"):
            found = verify(path)
    except BanditError as error:
        _refuse(str(error))
    console.print(*tables(found), sep="\n")
    typer.echo(conclusion(path, found))
    if found.differences:
        raise typer.Exit(1)


@app.command("backup")
def backup_command(
    target: Annotated[Path, typer.Argument(metavar="FILE", help="The copy; must not exist.")], db: _Db = None
) -> None:
    """Copy the store to FILE as it is at one moment; the server goes on meanwhile.

    The copy is compact, checked by SQLite, and safe on the disk when the command ends with exit code 0.
    """
    path = _path(db)
    try:
        copied = backup(path, target)
    except BanditError as error:
        _refuse(str(error))
    typer.echo(
        f"copied {path} to {target}: experiments {copied.experiments:,}, users {copied.users:,}, "
        f"rewards {copied.rewards:,}, {copied.size / 1e6:,.1f} MB, integrity ok"
    )


@app.command("export")
def export_command(
    key: Annotated[str, typer.Argument(metavar="EXPERIMENT", help="Key of the experiment.")],
    what: Annotated[
        What, typer.Option(help="What rows: of interactions, of rewards, of assigned users.")
    ] = "interactions",
    form: Annotated[Format, typer.Option("--format", help="A JSON object a line, or CSV with a header.")] = "jsonl",
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Must not exist; default: standard output.")] = None,
    texts: Annotated[bool, typer.Option(help="With what users asked and were answered.")] = True,
    teaching: Annotated[
        bool, typer.Option("--challenging", help="The interactions that teach most, for an offline evaluation.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="With --challenging: so many at most.")] = MOST_CHALLENGING,
    identity: Annotated[bool, typer.Option("--identity", help="With --challenging: say whose they are.")] = False,
    db: _Db = None,
) -> None:
    """Write the raw rows of an experiment as they are at one moment; the server goes on meanwhile.

    With --challenging only interactions that teach something: unsafe, failed, scored low, unusual in cost or time, or
    judged otherwise by people; with reasons, variants in turn, one of texts that are alike, without ids of users and
    requests.
    """
    path = _path(db)
    if teaching and (what != "interactions" or form != "jsonl" or not texts):
        _refuse("--challenging writes interactions with texts as JSON lines; leave out --what, --format, --no-texts")

    def write(file: IO[str]) -> int:
        if teaching:
            return export_challenging(path, key, limit, file, identity=identity)
        return export(path, key, what, form, file, texts=texts)

    try:
        if out is None:
            write(sys.stdout)
            return
        with out.open("x", encoding="utf-8", newline="") as file:
            n = write(file)
    except OSError as error:
        _refuse(f"cannot write {out or 'to standard output'}: {error.strerror or error}")
    except BanditError as error:
        if out is not None:
            out.unlink(missing_ok=True)
        _refuse(str(error))
    typer.echo(f"{what} of '{key}' in {out}: {n:,}")


@app.command("judge")
def judge_command(
    models: Annotated[Path, typer.Option(metavar="FILE", help="Settings of the model servers (TOML).")],
    key: Annotated[str | None, typer.Argument(metavar="[EXPERIMENT]", help="Its key; default: all.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Interactions for each judge, at most.")] = None,
    db: _Db = None,
) -> None:
    """Let the judges of experiments score logged interactions; the server goes on meanwhile.

    It can be stopped and run again at any time: nothing is lost or judged twice. Exit code 0: nothing waits that the
    budget allows; 1: a model server did not answer, so run it again later; 2: the settings or the store are not right.
    """
    # The client of model servers takes a third of a second to load, which no other command is to pay.
    from server.judge_process import judge_all  # noqa: PLC0415 - see above
    from server.judge_text import judged  # noqa: PLC0415 - see above

    path, console = _path(db), Console(highlight=False, markup=False, emoji=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        servers = _model_servers(models)
        open_stored(path).close()  # a store that is not there is not made
        with Progress(*columns, console=Console(stderr=True)) as bar:

            def begin(work: Work) -> Callable[[Summary], object]:
                total = work.waiting if limit is None else min(work.waiting, limit)
                task = bar.add_task(f"{work.experiment.key}: {work.judge.key}", total=total)
                return lambda summary: bar.update(task, completed=summary.judged)

            done = judge_all(path, servers, key=key, limit=limit, begin=begin)
    except BanditError as error:
        _refuse(str(error))
    console.print(judged(done))
    if any(summary.postponed for _, summary in done):
        raise typer.Exit(1)


@app.command("label")
def label_command(
    key: Annotated[str, typer.Argument(metavar="EXPERIMENT", help="Key of the experiment.")],
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="CSV with number, metric and value: stores these labels.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Writes interactions to label; must not exist.")
    ] = None,
    each: Annotated[int, typer.Option(min=1, help="With --out: of each variant and metric.")] = 50,
    seed: Annotated[int, typer.Option(help="With --out: of the sample.")] = 0,
    db: _Db = None,
) -> None:
    """Give people interactions to label (--out FILE), and store what they wrote in the column `value` (FILE).

    A label is a value of a metric that a judge feeds, on the metric's scale. It is no reward: `bandit-server quality`
    shows by labels how good the judge is, and corrects its means. The sample is random and does not show the variant.
    """
    path = _path(db)
    if (file is None) == (out is None):
        _refuse("label takes a FILE to store, or --out FILE to write")
    try:
        if out is not None:
            n = write_to_label(path, key, out, each, seed)
            typer.echo(f"interactions of '{key}' to label in {out}: {n:,}; fill in `value`, then: label {key} {out}")
        elif file is not None:
            with file.open(encoding="utf-8", newline="") as rows:
                labels = read_labels(rows)
            typer.echo(f"labels of '{key}' stored: {store_labels(path, key, labels):,}")
    except OSError as error:
        _refuse(f"cannot use {out or file}: {error.strerror or error}")
    except (UnicodeDecodeError, csv.Error) as error:
        _refuse(f"cannot read {file} as CSV in UTF-8: {error}")
    except BanditError as error:
        _refuse(str(error))


@app.command("quality")
def quality_command(
    key: Annotated[str, typer.Argument(metavar="EXPERIMENT", help="Key of the experiment.")], db: _Db = None
) -> None:
    """Show how good the judges of an experiment are beside people's labels, and means corrected by these."""
    path, console = _path(db), Console(highlight=False, markup=False, emoji=False)
    try:
        with closing(open_stored(path)) as store:
            store.execute("BEGIN")
            found = judge_quality(store, key)
    except BanditError as error:
        _refuse(str(error))
    console.print(*quality(found), sep="\n")


def _refuse_options_of_the_server(context: typer.Context) -> None:
    """`bandit-server --db FILE verify` must not look at another file in silence."""
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        if source is not None and source.name == "COMMANDLINE":
            _refuse(
                f"{parameter.opts[0]} stands before '{context.invoked_subcommand}', where options of the server stand; "
                f"bandit-server {context.invoked_subcommand} --help says what it takes"
            )


def _run(workers: int, service: Service, listener: socket.socket, host: str) -> None:
    try:
        prepare(service.path)
    except BanditError as error:
        _refuse(str(error))
    url = _url(listener, host)
    typer.echo(f"bandit-server {bandit.__version__} on {url} with {service.path}")
    typer.echo(f"  {url}/      experiments and their reports\n  {url}/docs  HTTP interface")
    for text in service.experiments:
        typer.echo(f"  {url}/experiments/{quote(parse_json(text).key, safe='')}/report?format=md")
    sys.stdout.flush()
    if workers == 1 and service.models is None:
        serve_here(service, listener, typer.echo)
    else:
        serve_many(workers, service, listener)


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens, or say why there is none."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        _refuse(f"cannot listen on {host} port {port}: {error.strerror or error}; choose another --port")
    return listener


def _url(listener: socket.socket, host: str) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}"


def _seconds(retain: str | None) -> float | None:
    try:
        return None if retain is None else seconds(retain)
    except ValueError as error:
        _refuse(f"--retain: {error}")


def _path(db: str | None) -> Path:
    if db is None:
        return Path("bandit.db")
    if "://" in db:
        what = db.partition("://")[0]
        if what in ("postgresql", "postgres"):
            _refuse("--db postgresql://… comes later; until then give a file, which becomes a SQLite store")
        _refuse(f"--db {what}://… is not supported, allowed: a file")
    if not db or db.startswith(":"):
        _refuse("--db needs the name of a file")
    return Path(db)


def _model_servers(file: Path) -> ModelServers:
    """Return the settings of a file, or end with its faults."""
    try:
        return read_model_servers(file)
    except BanditError as error:
        _refuse(str(error))


def _read(file: Path) -> Experiment:
    """Return the experiment of a file, or end with its faults."""
    try:
        text = file.read_text(encoding="utf-8")
        return parse_json(text) if file.suffix.lower() == ".json" else parse_toml(text)
    except (OSError, UnicodeDecodeError) as error:
        _refuse(f"cannot read {file}: {error}")
    except BanditError as error:
        _refuse(f"{file} is not an experiment:\n{error}")


def _refuse(message: str) -> NoReturn:
    typer.echo(f"bandit-server: {message}", err=True)
    raise typer.Exit(2)
