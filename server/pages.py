"""The plain start page."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from typing import Any
from urllib.parse import quote

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;"
    "color:#1b1b1b;background:#fff}table{border-collapse:collapse;width:100%}"
    "th,td{text-align:left;padding:.4rem .8rem;border-bottom:1px solid #ddd;overflow-wrap:anywhere}"
)

_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_HASH}'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""No script, nothing from elsewhere, one style that is known by its hash."""


def start_page(experiments: Sequence[dict[str, Any]]) -> str:
    """Return the page that lists experiments, with every name escaped."""
    rows = "".join(_row(experiment) for experiment in experiments)
    table = (
        "<table><thead><tr><th>experiment</th><th>state</th><th>goal</th><th>users</th><th>report</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>"
        if experiments
        else "<p>No experiment yet. POST one to <code>/experiments</code>.</p>"
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Experiments</title>'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        f"<style>{_STYLE}</style></head><body><h1>Experiments</h1>{table}"
        '<p><a href="/docs">HTTP interface</a></p></body></html>'
    )


def _row(experiment: dict[str, Any]) -> str:
    path = f"/experiments/{quote(experiment['key'], safe='')}"
    return (
        f'<tr><td><a href="{escape(path)}">{escape(experiment["key"])}</a></td><td>{escape(experiment["state"])}</td>'
        f"<td>{escape(str(experiment['goal']))}</td><td>{experiment['users']:,}</td>"
        f'<td><a href="{escape(path)}/report?format=md">text</a> · <a href="{escape(path)}/report">JSON</a></td></tr>'
    )
