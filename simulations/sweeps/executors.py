"""Where a sweep is run: all cores of this machine, or a Dask cluster."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager

from bandit.errors import InvalidInput, Problem


@contextmanager
def cores(jobs: int | None) -> Iterator[Executor]:
    """Give processes of this machine until the block ends.

    Args:
        jobs: How many; None: one for each core that this process may use.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(jobs or count, mp_context=context)
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


@contextmanager
def dask(address: str) -> Iterator[Executor]:
    """Give a Dask cluster as an executor until the block ends.

    Args:
        address: Of its scheduler, such as tcp://10.0.0.1:8786; or "local": a cluster of this machine's processes.

    Raises:
        InvalidInput: `distributed` is not there, or the scheduler cannot be reached.
    """
    try:
        from distributed import Client, LocalCluster  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        message = "a Dask cluster needs distributed: pip install 'adaptive-bandit[dask]'"
        raise InvalidInput([Problem("dask", message)]) from None
    if address == "local":
        with LocalCluster(dashboard_address=None) as cluster, Client(cluster) as client:
            yield client.get_executor()
        return
    try:
        client = Client(address, timeout=10)
    except (OSError, ValueError) as error:
        message = f"received {address!r}, and no scheduler answers there: {error}"
        raise InvalidInput([Problem("dask", message)]) from None
    with client:
        yield client.get_executor()
