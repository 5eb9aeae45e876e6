"""Load by `wrk`: what it sends, as Lua, and what it measured."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.stores import KEY, STRIDE

INSTALL = "wrk makes the load and is not there; install it: apt-get install -y wrk (Debian, Ubuntu), brew install wrk"

PATIENCE = 10
"""Seconds after which a request counts as broken; where the machine is busy with other things, two are soon gone."""

_COMMON = f"""
local seed, known, at
function init(args)
  seed, known, at = tonumber(args[1]), tonumber(args[2]), 0
  math.randomseed(seed)
end
local function id() return string.format("%08x%08x", math.random(0, 4294967295), math.random(0, 4294967295)) end
local function user(i) return string.format("%08x", i * {STRIDE} % 4294967296) end
local function post(path, body)
  return "POST " .. path .. " HTTP/1.1\\r\\nHost: localhost\\r\\nContent-Type: application/json\\r\\nContent-Length: "
    .. #body .. "\\r\\n\\r\\n" .. body
end
local function choose(user) return post("/choose", '{{"experiment":"{KEY}","user_id":"' .. user .. '"}}') end
local function reward(request)
  return post("/reward", string.format(
    '{{"experiment":"{KEY}","user_id":"%s","request_id":"%s","metrics":{{"resolved":%d,"latency_ms":%d}}}}',
    user(math.random(0, known - 1)), request, math.random(0, 1), math.random(200, 1400)))
end
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\\n{{"requests":%d,"seconds":%f,"p50_ms":%f,"p99_ms":%f,"refused":%d,"broken":%d}}\\n', summary.requests,
    summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    e.status, e.connect + e.read + e.write + e.timeout))
end
"""

_REQUESTS = {
    "known": """
function request()
  at = at + 1
  return choose(user(at % known))
end
""",
    "new": """
function request() return choose(id()) end
""",
    "reward": """
function request()
  at = at + 1
  local later = math.floor(at / 4096)
  return reward(string.format("0199%04x-%04x-7%03x-8000-%08x", seed, later, at % 4096, math.random(0, 4294967295)))
end
""",
    "random_reward": """
function request() return reward(id()) end
""",
}


@dataclass(frozen=True, slots=True)
class Answered:
    """What `wrk` saw.

    Attributes:
        requests: Answers that came.
        seconds: For how long it sent.
        p50_ms: Median time to an answer.
        p99_ms: Time within which 99 of 100 came.
        refused: Answers with a status beyond 399.
        broken: Connections that failed, and requests without an answer for `PATIENCE` seconds.
    """

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    refused: int
    broken: int


def write_scripts(folder: Path) -> None:
    """Write a Lua script for each kind of request."""
    for kind, request in _REQUESTS.items():
        (folder / f"{kind}.lua").write_text(_COMMON + request)


class NoAnswer(Exception):
    """Nobody answered; the message is what `wrk` said."""


def load(
    folder: Path, kind: str, url: str, *, core: int, connections: int, seconds: int, seed: int, known: int
) -> Answered:
    """Send requests of one kind from one core.

    Args:
        folder: Where the scripts are.
        kind: Known users in turn, new users, or rewards of random known users, whose request ids come in the order of
            time, as `/choose` makes them, or at random.
        url: The server.
        core: On which `wrk` runs.
        connections: How many are open; each sends its next request when the answer to the one before is there.
        seconds: For how long.
        seed: Of ids: another one gives other ids.
        known: How many users the store has.

    Raises:
        NoAnswer: Not one request was answered.
    """
    script = str(folder / f"{kind}.lua")
    sending = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", f"--timeout={PATIENCE}s", "-s", script, url]
    sending += ["--", str(seed), str(known)]
    run = subprocess.run(["taskset", "-c", str(core), *sending], check=False, capture_output=True, text=True)  # noqa: S607 - wherever they are
    if run.returncode:
        raise NoAnswer(run.stderr or run.stdout)
    answered = Answered(**json.loads(run.stdout.splitlines()[-1]))
    if not answered.requests:
        raise NoAnswer(run.stdout)
    return answered
