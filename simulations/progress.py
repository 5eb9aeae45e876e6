"""Progress bars on standard error, where somebody looks at it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from simulations.compare import Watcher


@contextmanager
def progress(names: Sequence[str], users: int) -> Iterator[Watcher | None]:
    """Show one bar per name until the block ends; gives None where standard error is no terminal.

    Args:
        names: Policies.
        users: Users of each, over all runs. Epochs grow, so a bar runs slowly first and fast in the end.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        tasks = {name: bars.add_task(name, total=users) for name in names}
        yield lambda name, more: bars.advance(tasks[name], more)
