"""Everything but the hot calls: experiments and their lives, reports, users, health, the start page."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast
from urllib.parse import quote

import msgspec
from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi import Path as PathPart
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from fastapi.routing import APIRoute

from bandit import Experiment, InvalidExperiment, InvalidInput, Problem, markdown, parse_json
from bandit.experiment import notes
from bandit.experiment_text import read_json
from bandit.ids import check_id
from bandit.wording import unknown_name
from server import examples, logged, pages, reading, reports
from server.body import read_body
from server.documents import RESPONSES, answer_of, body_of, problems
from server.errors import ExperimentExists, StoreUnavailable, Unreadable
from server.labels import Label, StoreLabels
from server.messages import (
    ErasedAnswer,
    ForceAnswer,
    ForceRequest,
    LabelsAnswer,
    LabelsRequest,
    MoveAnswer,
    PatchRequest,
    ReasonRequest,
    RollbackRequest,
    StopRequest,
    VersionRequest,
    decode,
    not_json,
)
from server.operations import Create, Erase, Expose, Force, Move, Operation, Reconfigure, RollBack, Seed, Switch
from server.writer import Writer

LARGEST_BODY = 1_000_000
"""Bytes of an experiment."""

ADMIN_SECONDS = 10.0
"""How long a change of an experiment waits for the store."""

Key = Annotated[str, PathPart(description="key of the experiment", openapi_examples=examples.KEY)]
Variant = Annotated[str, PathPart(description="key of the variant", openapi_examples=examples.VARIANT)]
UserId = Annotated[str, PathPart(openapi_examples=examples.USER)]

MOST_EVENTS = 1_000
"""Events in one answer."""

MOST_INTERACTIONS = 100
"""Interactions in one answer: their texts may be long."""

_T = TypeVar("_T")
_S = TypeVar("_S", bound=msgspec.Struct)


class Service:
    """What the routes work with.

    Args:
        path: The store, for reading.
        writer: The way to change anything.
    """

    def __init__(self, path: Path, writer: Writer) -> None:
        self.path = path
        self.writer = writer

    async def read(self, function: Callable[..., _T], *arguments: object) -> _T:
        """Run a function of `reading` in a worker thread."""
        return await run_sync(partial(function, self.path, *arguments))

    async def create(self, experiment: Experiment) -> None:
        """Store a new experiment as a draft, with a salt."""
        await self.writer.ask(Create(salted(experiment)), ADMIN_SECONDS)

    async def move(self, move: Move) -> tuple[str, str | None]:
        """Start, pause or stop; return the new state, and the variant that everybody gets after a stop."""
        return cast("tuple[str, str | None]", await self.writer.ask(move, ADMIN_SECONDS))

    async def change(self, operation: Operation) -> object:
        """Change an experiment and return what the operation returns."""
        return await self.writer.ask(operation, ADMIN_SECONDS)

    async def seed(self, experiment: Experiment) -> str:
        """Create and start an experiment unless it is stored; return what was done."""
        try:
            return str(await self.writer.ask(Seed(salted(experiment), experiment), ADMIN_SECONDS))
        except Unreadable as error:  # the others are served all the same
            return str(error)


def salted(experiment: Experiment) -> Experiment:
    """Return the experiment with a salt: its own, else a random one that no earlier draw repeats."""
    return experiment if experiment.salt is not None else experiment.with_salt(secrets.token_hex(16))


def routes(service: Service) -> APIRouter:
    """Return all routes over a service."""
    whole = APIRouter(responses=RESPONSES, redirect_slashes=False)
    router = APIRouter(redirect_slashes=False, dependencies=[Depends(known_parameters)])
    _add_experiments(router, service)
    _add_moves(router, service)
    _add_constraints(router, service)
    _add_interactions(router, service)
    _add_reports(router, service)
    whole.include_router(router)
    _add_health(whole, service)  # what a probe adds to its path is no reason to take a server out of service
    return whole


def _add_experiments(router: APIRouter, service: Service) -> None:
    @router.post(
        "/experiments", status_code=201, openapi_extra=body_of("Experiment"),
        summary="Create an experiment",
        responses={
            **problems(409), **answer_of("ExperimentAnswer", 201, "Stored as a draft"),
            **answer_of("DryRunAnswer", 200, "Right, with dry_run; nothing was stored"),
        },
    )  # fmt: skip
    async def create(request: Request, dry_run: bool = False) -> Response:
        """Store a new experiment as a draft; with `dry_run` only say whether it is right, and store nothing."""
        body = await read_body(request.scope, request.receive, LARGEST_BODY)
        experiment = await run_sync(parsed, body)
        if dry_run:
            if experiment.key in service.writer.views:
                raise ExperimentExists(experiment.key)
            return JSONResponse({**reading.declared(experiment), "state": None, "dry_run": True})
        await service.create(experiment)
        content = await service.read(reading.description, experiment.key)
        location = f"/experiments/{quote(experiment.key, safe='')}"
        return JSONResponse(content, 201, {"Location": location})

    @router.get("/experiments", responses=answer_of("ExperimentsAnswer"), summary="List experiments")
    async def experiments() -> Response:
        """All experiments, the oldest first."""
        return JSONResponse({"experiments": await service.read(reading.listing)})

    @router.get(
        "/experiments/{key}", responses={**problems(404), **answer_of("ExperimentAnswer")},
        summary="Read an experiment",
    )  # fmt: skip
    async def experiment(key: Key) -> Response:
        """Definition, state, current allocation, notes."""
        return JSONResponse(await service.read(reading.description, key))

    @router.get(
        "/experiments/{key}/users/{user_id:path}", responses={**problems(404), **answer_of("UserAnswer")},
        summary="Why this variant?",
    )  # fmt: skip
    async def user(key: Key, user_id: UserId) -> Response:
        """Why this user got this variant, and what is stored of them."""
        return JSONResponse(await service.read(reading.story, key, user_id))


async def _body(request: Request, decoder: msgspec.json.Decoder[_S], default: _S | None = None) -> _S:
    """Return the body of a request that has no query parameters; the default if there is none."""
    body = await read_body(request.scope, request.receive, LARGEST_BODY)
    return default if default is not None and not body else decode(body, decoder)


_stop = msgspec.json.Decoder(StopRequest)
_reason = msgspec.json.Decoder(ReasonRequest)
_force = msgspec.json.Decoder(ForceRequest)
_patch = msgspec.json.Decoder(PatchRequest)
_version = msgspec.json.Decoder(VersionRequest)
_labels = msgspec.json.Decoder(LabelsRequest)
_rollback = msgspec.json.Decoder(RollbackRequest)


def _add_moves(router: APIRouter, service: Service) -> None:
    moves: dict[str, Any] = {
        "responses": {**problems(404, 409), **answer_of("MoveAnswer")},
        "openapi_extra": body_of("ReasonRequest", required=False),
    }

    async def moved(request: Request, key: str, action: str) -> Response:
        if action == "stop":
            how = await _body(request, _stop, StopRequest())
        else:
            how = StopRequest(reason=(await _body(request, _reason, ReasonRequest())).reason)
        state, serve = await service.move(Move(key, action, how.serve, how.now, how.reason))
        declared = service.writer.views[key].experiment
        answer = MoveAnswer(key=key, state=state, serve=serve, notes=list(notes(declared)))
        return Response(msgspec.json.encode(answer), media_type="application/json")

    @router.post("/experiments/{key}/start", **moves, summary="Let new users in")
    async def start(request: Request, key: Key) -> Response:
        """Draft or paused to running; repeated calls change nothing."""
        return await moved(request, key, "start")

    @router.post("/experiments/{key}/pause", **moves, summary="Let no new users in")
    async def pause(request: Request, key: Key) -> Response:
        """Known users keep their variant and their rewards count; new ones get control and are not stored."""
        return await moved(request, key, "pause")

    @router.post(
        "/experiments/{key}/stop", responses={**problems(404), **answer_of("MoveAnswer")},
        openapi_extra=body_of("StopRequest", required=False),
        summary="End an experiment",
    )  # fmt: skip
    async def stop(request: Request, key: Key) -> Response:
        """No new users; afterwards everyone gets `serve`. Repeated calls change nothing."""
        return await moved(request, key, "stop")


def _add_constraints(router: APIRouter, service: Service) -> None:
    _add_versions(router, service)
    _add_switches(router, service)
    _add_forced(router, service)

    @router.patch(
        "/experiments/{key}", responses={**problems(404, 409), **answer_of("ExperimentAnswer")},
        openapi_extra=body_of("PatchRequest"), summary="Let another share of users in",
    )  # fmt: skip
    async def patch(request: Request, key: Key) -> Response:
        """Change what may change while an experiment runs: the share of users that is let in."""
        how = await _body(request, _patch)
        await service.change(Expose(key, how.exposure, how.reason))
        return JSONResponse(await service.read(reading.description, key))

    @router.get(
        "/experiments/{key}/events", responses={**problems(404), **answer_of("EventsAnswer")},
        summary="What changed?",
    )  # fmt: skip
    async def events(
        key: Key,
        after: Annotated[int, Query(ge=0, le=2**53, description="number of the last event that is known")] = 0,
        limit: Annotated[int, Query(ge=1, le=MOST_EVENTS)] = MOST_EVENTS,
    ) -> Response:
        """Every change with time, actor, reason and evidence, and every allocation, in the order of time.

        Numbers stay, and new events come at the end: with `after` set to the `next` of the answer before, nothing is
        left out and nothing comes twice, while there is more and later when there is something new.
        """
        return JSONResponse(await service.read(reading.happened, key, after, limit))


def _add_versions(router: APIRouter, service: Service) -> None:
    @router.post(
        "/experiments/{key}/variants", responses={**problems(404, 409), **answer_of("VersionAnswer")},
        openapi_extra=body_of("VersionRequest"), summary="Give a variant another version",
    )  # fmt: skip
    async def version(request: Request, key: Key) -> Response:
        """Another config for a variant, which begins anew as another generation: nothing of before counts for it.

        New users count for the new generation. Those who have the variant get the new config from their next `choose`
        on (`moved`), and what they do counts for nobody. The same config again changes nothing. Control's config
        cannot change: all others are compared with it.
        """
        body = await read_body(request.scope, request.receive, LARGEST_BODY)
        how = await run_sync(versioned, body)
        return JSONResponse(await service.change(Reconfigure(key, how.key, how.config, how.reason)))

    @router.post(
        "/experiments/{key}/variants/{variant}/rollback",
        responses={**problems(404, 409), **answer_of("VersionAnswer")},
        openapi_extra=body_of("RollbackRequest", required=False), summary="Give a variant an earlier version again",
    )  # fmt: skip
    async def rollback(request: Request, key: Key, variant: Variant) -> Response:
        """The config of an earlier version, by default of the one before, as a further version: it begins anew.

        What was learned of the earlier version does not count again. Everything else is as with a new config.
        """
        how = await _body(request, _rollback, RollbackRequest())
        return JSONResponse(await service.change(RollBack(key, variant, how.version, how.reason)))


def _add_switches(router: APIRouter, service: Service) -> None:
    switches: dict[str, Any] = {
        "responses": {**problems(404, 409), **answer_of("VariantAnswer")},
        "openapi_extra": body_of("ReasonRequest", required=False),
    }

    async def switched(request: Request, key: str, variant: str, *, on: bool) -> Response:
        how = await _body(request, _reason, ReasonRequest())
        return JSONResponse(await service.change(Switch(key, variant, on, how.reason)))

    @router.post("/experiments/{key}/variants/{variant}/suspend", **switches, summary="Keep a variant away from users")
    async def suspend(request: Request, key: Key, variant: Variant) -> Response:
        """No new users, and those who have it get control at their next `choose`, for good.

        Repeated calls change nothing. Control cannot be suspended.
        """
        return await switched(request, key, variant, on=False)

    @router.post("/experiments/{key}/variants/{variant}/resume", **switches, summary="Let a variant have users again")
    async def resume(request: Request, key: Key, variant: Variant) -> Response:
        """A suspended variant begins anew, as another generation: nothing of before counts for it.

        Users who were moved stay on control. Repeated calls change nothing.
        """
        return await switched(request, key, variant, on=True)


def _add_forced(router: APIRouter, service: Service) -> None:
    answers = {**problems(404), **answer_of("ForceAnswer")}

    def answer(key: str, user_id: str, variant: str | None) -> Response:
        content = msgspec.json.encode(ForceAnswer(experiment=key, user_id=user_id, variant=variant))
        return Response(content, media_type="application/json")

    @router.put(
        "/experiments/{key}/forced/{user_id:path}", responses=answers, openapi_extra=body_of("ForceRequest"),
        summary="Give a user a variant by hand",
    )  # fmt: skip
    async def force(request: Request, key: Key, user_id: UserId) -> Response:
        """For trying a variant out: the user gets it whatever else holds, and nobody learns from it."""
        how = await _body(request, _force)
        await service.change(Force(key, user_id, how.variant, how.reason))
        return answer(key, user_id, how.variant)

    @router.delete("/experiments/{key}/forced/{user_id:path}", responses=answers, summary="Take that back")
    async def release(key: Key, user_id: UserId) -> Response:
        """The ordinary rules hold for the user again. Repeated calls change nothing."""
        await service.change(Force(key, user_id, None))
        return answer(key, user_id, None)


def _add_interactions(router: APIRouter, service: Service) -> None:
    @router.get(
        "/experiments/{key}/interactions", responses={**problems(404), **answer_of("InteractionsAnswer")},
        summary="What were models asked and answered?",
    )  # fmt: skip
    async def interactions(
        key: Key,
        after: Annotated[int, Query(ge=0, le=2**53, description="number of the last interaction that is known")] = 0,
        limit: Annotated[int, Query(ge=1, le=MOST_INTERACTIONS)] = MOST_INTERACTIONS,
        user_id: Annotated[str | None, Query(description="of this user alone")] = None,
        variant: Annotated[str | None, Query(description="that count for this variant alone")] = None,
        counted: Annotated[
            bool | None, Query(description="true: that count for a variant; false: that count for none")
        ] = None,
    ) -> Response:
        """Stored interactions in the order of coming, with where each counts, or why it does not."""
        wanted = logged.Wanted(after, limit, user_id, variant, counted)
        return JSONResponse(await service.read(logged.page, key, wanted))

    @router.post(
        "/experiments/{key}/labels", responses={**problems(404), **answer_of("LabelsAnswer")},
        openapi_extra=body_of("LabelsRequest"), summary="What people say of interactions",
    )  # fmt: skip
    async def label(request: Request, key: Key) -> Response:
        """Labels tell how good a judge is, and correct its means (`bandit-server quality`); they are no rewards."""
        told = await _body(request, _labels)
        labels = tuple(Label(one.number, one.metric, one.value) for one in told.labels)
        n = cast("int", await service.change(StoreLabels(key, labels)))
        return Response(msgspec.json.encode(LabelsAnswer(experiment=key, labels=n)), media_type="application/json")

    @router.delete(
        "/experiments/{key}/texts/{user_id:path}", responses={**problems(404), **answer_of("ErasedAnswer")},
        summary="Erase a user's texts",
    )  # fmt: skip
    async def erase(key: Key, user_id: UserId) -> Response:
        """What the user asked and was answered is forgotten; metrics, and with them all counts, stay.

        Repeated calls change nothing. Later interactions are stored as they come.
        """
        check_id(user_id, "user_id")
        erased = cast("int", await service.change(Erase(key, user_id)))
        answer = ErasedAnswer(experiment=key, user_id=user_id, interactions=erased)
        return Response(msgspec.json.encode(answer), media_type="application/json")


def _add_reports(router: APIRouter, service: Service) -> None:
    described = answer_of("Report")
    described[200]["content"]["text/markdown"] = {"schema": {"type": "string"}}

    @router.get("/experiments/{key}/report", responses={**problems(404), **described}, summary="Report")
    async def report(key: Key, format: Literal["json", "md"] = "json") -> Response:  # noqa: A002
        """What the experiment says now, as JSON or as Markdown for people."""
        if format == "md":
            text = await service.read(lambda path: markdown(reports.report(path, key)))
            return PlainTextResponse(text, media_type="text/markdown", headers={"X-Content-Type-Options": "nosniff"})
        return JSONResponse(await service.read(lambda path: reports.report(path, key).to_dict()))

    @router.get("/", response_class=HTMLResponse, summary="Start page")
    async def start_page() -> Response:
        """A plain page that lists experiments."""
        return HTMLResponse(pages.start_page(await service.read(reading.listing)), headers=pages.HEADERS)


def _add_health(router: APIRouter, service: Service) -> None:
    @router.head("/healthz", include_in_schema=False)
    @router.get("/healthz", summary="Is the process alive?")
    async def healthz() -> Response:
        """Always 200."""
        return JSONResponse({"status": "ok"})

    @router.head("/readyz", include_in_schema=False)
    @router.get("/readyz", responses={**problems(503), **answer_of("ReadyAnswer")}, summary="Can it serve?")
    async def readyz() -> Response:
        """200 if the store can be read and written; `unreadable` lists experiments whose own rows are bad."""
        if not service.writer.alive:
            raise StoreUnavailable("the writer has stopped")
        if service.writer.in_trouble:
            raise StoreUnavailable("the store does not work; the server's log says why")
        await service.read(reading.ready)
        unreadable = service.writer.unreadable
        # The other experiments are served, so this is no reason to take the server out of service.
        return JSONResponse({"status": "ready", **({"unreadable": unreadable} if unreadable else {})})


def parsed(body: bytes) -> Experiment:
    """Return the experiment of a request's body.

    Raises:
        Refused: The body is not JSON.
        InvalidExperiment: It is not an experiment; every fault is named.
    """
    try:
        return parse_json(body)
    except InvalidExperiment as error:
        if all(problem.field == "" for problem in error.problems):
            try:
                msgspec.json.decode(body)
            except (ValueError, RecursionError) as cause:
                raise not_json(error) from cause
        raise


def versioned(body: bytes) -> VersionRequest:
    """Return the version of a variant that a request's body declares.

    Raises:
        Refused: The body is not JSON.
        InvalidInput: It is of another form, or a key comes twice; a configuration is not for guessing.
    """
    how = decode(body, _version)
    read_json(body)
    return how


def known_parameters(request: Request) -> None:
    """Refuse query parameters that a route does not have: a `dry-run` mistyped would store something.

    Raises:
        InvalidInput: With the name of each.
    """
    route: APIRoute = request.scope["route"]
    known = [parameter.alias for parameter in route.dependant.query_params]
    faults = [
        Problem(name[:80], f"unknown parameter; {unknown_name(name, known)}")
        for name in request.query_params
        if name not in known
    ]
    if faults:
        raise InvalidInput(faults)
