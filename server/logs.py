"""What the service tells its operator: lines of text or JSON on standard error, with nothing in them of a user's.

No line has a user's id, a request's id, a value that was reported or a text from outside: keys of experiments and
variants, names of metrics and limits are all that is named.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import traceback
from datetime import UTC, datetime
from typing import Literal

from bandit import Experiment, InvalidExperiment
from bandit.events import SYSTEM, Event

LogFormat = Literal["text", "json"]

log = logging.getLogger("bandit.server")

_OF_THE_MACHINE = (sqlite3.Error, OSError, InvalidExperiment)
"""Exceptions whose words are those of the store, the system or a declaration; others may quote a user."""


def configure(form: LogFormat) -> None:
    """Let the process write its log to standard error.

    Args:
        form: "text": from WARNING on, because a terminal has the banner already. "json": from INFO on, an object
            per line with `time`, `level`, `logger`, `process`, `message`, and fields such as `experiment`.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    logging.basicConfig(handlers=[handler], level=logging.INFO if form == "json" else logging.WARNING, force=True)
    logging.captureWarnings(True)


class TextLines(logging.Formatter):
    """Lines for people."""

    def format(self, record: logging.LogRecord) -> str:
        """Return time, level, logger and message, and below where an error came from."""
        line = f"{_time(record)} {record.levelname} {record.name}: {_message(record)}"
        return "\n".join([line, *_origin(record)])


class JsonLines(logging.Formatter):
    """Lines for programs."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a JSON object on one line; `exception` says where an error came from."""
        document = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "process": record.process,
            "message": _message(record),
            **getattr(record, "fields", {}),
        }
        origin = _origin(record)
        return json.dumps({**document, "exception": "\n".join(origin)} if origin else document)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _message(record: logging.LogRecord) -> str:
    message = record.getMessage()
    if record.name == "asyncio":  # it shows what a task or a callback was given
        return message.partition("\n")[0].partition("(")[0]
    return message


def _origin(record: logging.LogRecord) -> list[str]:
    """Return where the error of a record came from, without its words unless they are the machine's own."""
    error = record.exc_info[1] if record.exc_info else None
    return [] if error is None else _lines(error)


def _lines(error: BaseException) -> list[str]:
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    words = f": {error}" if isinstance(error, _OF_THE_MACHINE) else ""
    return [
        *([] if before is None else [*_lines(before), "which led to"]),
        *"".join(traceback.format_tb(error.__traceback__)).splitlines(),
        f"{type(error).__qualname__}{words}",
    ]


def tell(experiment: Experiment, event: Event) -> None:
    """Say what the system did or saw that somebody should know of now: a suspension, or that control breaks a limit."""
    control = experiment.arms[experiment.control]
    if event.kind == "suspended" and event.actor == SYSTEM:
        limit = event.reason
        words = f"variant '{event.variant}' was suspended"
    elif event.kind == "guardrail" and event.variant == control and event.evidence["state"] == "breached":
        limit = str(event.evidence["metric"])
        words = f"control ('{control}') breaks a limit, and nothing takes its place"
    else:
        return
    fields = {"experiment": experiment.key, "variant": event.variant, "limit": limit}
    log.warning("experiment '%s': %s: %s", experiment.key, words, limit, extra={"fields": fields})
