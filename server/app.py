"""The service as an ASGI application."""

from __future__ import annotations

import gc
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

from anyio.to_thread import run_sync
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

import bandit
from bandit import BanditError, Experiment, Problem
from server.body import read_body
from server.documents import RESPONSES, answer_of, body_of, document, problems
from server.front import Front
from server.guard import Guard
from server.hot import CHOOSE_SECONDS, Hot
from server.model_servers import Prices
from server.problems import Answer, answer_to, problem
from server.routes import Service, routes
from server.store import Store
from server.writer import Writer

log = logging.getLogger("bandit.server")

ABOUT = """Chooses a variant for each user and moves traffic toward better ones.

An application calls `POST /choose` for the variant a user gets and `POST /reward` with what happened; both also take
many calls at once, at `/choose/batch` and `/reward/batch`."""


CHOOSE = """The variant to serve, the same at every call. `reason` says how it came about:

- `new`: drawn now, with probability `propensity`.
- `sticky`: drawn at an earlier call.
- `moved`: control, for good: the user's variant was suspended after it was drawn. Or the user's variant with another
  config, if that is what changed; it does not count for the user.
- `forced`: given to this user by hand.
- `not_enrolled`: control, not counted: the user is outside the exposure, or has no variant and the experiment is not
  running.
- `stopped`: what everybody gets after the end.
- `fallback`: control, not stored, because the store did not answer in time."""

REWARD = """Values count once per (experiment, request_id, metric), so a call can be repeated. Call `/choose` first.

`failed: true` is the worst value of a binary goal and above every limit on a quantile; it voids the other metrics of
the call.

Each metric is in one of `accepted`, `duplicate` (came before), `late` (after the user's window; `accepted` if a
guardrail still reads it) and `ignored`, which says why a value counts for nobody; sending it again cannot change that:

- `draft`, `paused`: the user has no variant, and the experiment is not running.
- `stopped`: the experiment is over.
- `not_enrolled`: the user is outside the exposure.
- `moved`: the user's variant was suspended or its config changed, and the user gets control or the new config.
- `forced`: the user was given a variant by hand.
- `other_variant`: `variant` is not the user's.
- `failed`: void, because the call failed.
- `unused`: a failure that no measure of this experiment feels."""

LOG = """Stored once per (experiment, request_id), so a call can be repeated. Call `/choose` first.

The metrics of the experiment that it carries count as they do in `/reward` under the same request id: a metric is fed
by the field of its name, or by the one that a guardrail names as its `field`. An interaction whose `variant_id` is not
the user's variant counts for none (`reason`: `other_variant`) and is stored all the same, its metrics `ignored`."""

BATCH = """Each item is the body of a call of `{path}` and is answered, at the same place, as that call alone: with its
answer and `"status": 200`, or with its problem document, whose `status` is that of the call. One that is refused does
not fail the others. A batch as a whole is refused only if it is not JSON, too large, or no list of 1 to 1,000 items.

Items take effect in their order. {busy}"""

BUSY_CHOOSE = "Those that the store cannot take in time get control (`fallback`)."

BUSY_REWARD = """Those that the store cannot take have status 503 and `retry_after`, the seconds after which they
may come again; the others are stored."""


def create_app(
    path: Path,
    *,
    loopback: bool = True,
    experiments: Sequence[Experiment] = (),
    say: Callable[[str], object] = lambda _: None,
    writer: Writer | None = None,
    choose_seconds: float = CHOOSE_SECONDS,
    prices: Prices | None = None,
) -> Front:
    """Return the application.

    Args:
        path: The store.
        loopback: Whether the server listens on loopback only, so that `Host` has to name it.
        experiments: Created and started if the store does not have them.
        say: Told what became of these.
        writer: Default: one on the store.
        choose_seconds: How long a user waits for the store before getting control.
        prices: What tokens of interactions cost.

    Raises:
        StoreProblem: The file cannot be a store.
    """
    writer = Writer(Store(path)) if writer is None else writer
    service = Service(path, writer)
    hot = Hot(writer, choose_seconds, prices=prices)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        writer.start()
        try:
            for experiment in experiments:
                say(await service.seed(experiment))
            gc.collect()
            gc.freeze()  # what is there now stays; the collector need not look at it again
            log.info(
                "the server has started, with %d experiments in %s, synchronous %s",
                len(writer.views), path, writer.store.synchronous,
            )  # fmt: skip
            yield
        finally:
            await run_sync(writer.close)
            log.info("the server has stopped")

    app = FastAPIOffline(
        title="Adaptive bandit", version=bandit.__version__, description=ABOUT, lifespan=lifespan,
        redirect_slashes=False,
    )  # fmt: skip
    _add_hot_paths(app, hot)
    app.include_router(routes(service))
    _add_error_handlers(app)
    document(app)
    return Front(app, hot, Guard(loopback=loopback))


def _add_hot_paths(app: FastAPI, hot: Hot) -> None:
    """Put the hot calls into the document; `Front` answers them before they would come here."""
    about: tuple[tuple[str, str, str, str, dict[int | str, Any]], ...] = (
        ("/choose", "Choose", "Which variant does a user get?", CHOOSE, problems(404)),
        ("/reward", "Reward", "What happened to a user", REWARD, problems(404, 409)),
        ("/interactions", "Interaction", "What a user's model was asked and answered", LOG, problems(404, 409)),
        (
            "/choose/batch", "ChooseBatch", "Which variants do many users get?",
            BATCH.format(path="/choose", busy=BUSY_CHOOSE), {},
        ),
        (
            "/reward/batch", "RewardBatch", "What happened to many users",
            BATCH.format(path="/reward", busy=BUSY_REWARD), {},
        ),
        (
            "/interactions/batch", "InteractionBatch", "What many users' models were asked and answered",
            BATCH.format(path="/interactions", busy=BUSY_REWARD), {},
        ),
    )  # fmt: skip

    async def answer(request: Request) -> Response:
        body = await read_body(request.scope, request.receive, hot.paths[request.url.path].largest_body)
        return _response(await hot.answer(request.url.path, body))

    for path, name, summary, description, errors in about:
        app.add_api_route(
            path, answer, methods=["POST"], summary=summary, description=description, name=name,
            operation_id=path[1:].replace("/", "_"), openapi_extra=body_of(f"{name}Request"),
            responses={**RESPONSES, **errors, **answer_of(f"{name}Answer")},
        )  # fmt: skip


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(BanditError)
    async def refused(_: Request, error: BanditError) -> Response:
        return _response(answer_to(error))

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> Response:
        # What was received is not repeated: it may be personal.
        faults = [Problem(".".join(map(str, e["loc"][1:])), str(e["msg"])) for e in error.errors()]
        return _response(problem(422, "the request is malformed, see errors", errors=faults))

    @app.exception_handler(HTTPException)
    async def plain(_: Request, error: HTTPException) -> Response:
        response = _response(problem(error.status_code, str(error.detail)))
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    async def failed(_: Request, __: Exception) -> Response:
        return _response(problem(HTTPStatus.INTERNAL_SERVER_ERROR, "the server failed on this request"))


def _response(answer: Answer) -> Response:
    status, headers, body = answer
    return Response(body, status, {name.decode(): value.decode() for name, value in headers})
