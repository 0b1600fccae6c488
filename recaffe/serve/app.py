"""The application: a page, an API that describes itself, and one form of error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from recaffe import __version__
from recaffe.errors import RecaffeError
from recaffe.model.folder import Model
from recaffe.serve import BusyError, Limits, page
from recaffe.serve.about import about
from recaffe.serve.answer import Answerer, Wish
from recaffe.serve.describe import DESCRIPTION, ERRORS, HEALTH, MODEL, PREDICT
from recaffe.serve.guard import Guard, busy, problem
from recaffe.serve.worker import Worker

_TOP = 5


def build(
    model: Model, worker: Worker, limits: Limits, threshold: float = 0.0, hosts: Iterable[str] = ()
) -> ASGIApp:
    """The application over a worker that has started; `hosts` are the only names to answer to, if any."""
    answerer = Answerer(model, worker, limits)
    told = about(model, limits, threshold, worker.no_heat_maps)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        answerer.close()

    app = FastAPI(
        title="recaffe serve", version=__version__, description=DESCRIPTION, lifespan=lifespan,
        docs_url=None, redoc_url=None, redirect_slashes=False, responses=ERRORS,
    )  # fmt: skip
    _errors(app)
    page.add(app)

    @app.get("/health", responses=HEALTH)
    def health() -> Response:
        """Whether the server answers, and how many pictures it has at hand."""
        if not worker.alive:
            return problem(503, "The net's thread has ended. Start the server again.")
        return JSONResponse({"status": "ok", "pictures": worker.reserved, "room": worker.capacity})

    @app.get("/api/model", responses=MODEL)
    def describe_model() -> Response:
        """The model: its classes, what happens to a picture first, its test, and this server's limits."""
        return JSONResponse(told)

    @app.post("/api/predict", **PREDICT)
    async def predict(
        request: Request,
        top_k: Annotated[int, Query(ge=1, le=100_000, description="classes to name")] = _TOP,
        heat_map: Annotated[bool, Query(description="where the net looked, for each picture")] = False,
        threshold: Annotated[
            float, Query(ge=0, le=1, allow_inf_nan=False, description="below it, an answer is unsure")
        ] = threshold,
    ) -> Response:  # fmt: skip
        """Classifies pictures, prepared exactly as in training and in `recaffe predict`."""
        if heat_map and worker.no_heat_maps:
            raise HTTPException(422, worker.no_heat_maps)
        wish = Wish(min(top_k, len(model.labels)), heat_map, threshold)
        return await _predicted(request, answerer, wish, limits)

    return Guard(app, limits, hosts)


async def _predicted(request: Request, answerer: Answerer, wish: Wish, limits: Limits) -> Response:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise HTTPException(415, "Send pictures as multipart/form-data, as a form with files does.")
    try:
        async with asyncio.timeout(limits.timeout):
            form = await request.form(max_fields=20, max_part_size=2**14)
    except TimeoutError:
        raise HTTPException(408, f"The request took over {limits.timeout:g} s to arrive.") from None
    except (ValueError, LookupError):  # names in an encoding of no use
        raise HTTPException(400, "The form can't be read.") from None
    try:
        files = [x for _, x in form.multi_items() if isinstance(x, UploadFile)]
        if not files:
            raise HTTPException(422, "There is no file in the form. Give each picture as `files`.")
        if len(files) > limits.pictures:
            raise HTTPException(
                413, f"{len(files)} pictures in one request; it may hold {limits.pictures}."
            )
        async with asyncio.timeout(limits.timeout):
            answers = await answerer.answers(files, wish)
    except TimeoutError:
        raise HTTPException(503, f"No answer within {limits.timeout:g} s. Try again.") from None
    except BusyError:
        return busy()
    finally:
        await form.close()
    return _response(answers)


def _response(answers: list[dict[str, Any]]) -> Response:
    """All of them with status 200 if one is good; else the error of the first, and its status."""
    statuses = [x.pop("status") for x in answers if "error" in x]
    if len(statuses) < len(answers):
        return JSONResponse({"results": answers})
    first = f"{answers[0]['name'] or 'The file'}: {answers[0]['error']}"
    said = first if len(answers) == 1 else f"None of {len(answers)} files is a picture. {first}"
    return JSONResponse({"error": said, "results": answers}, statuses[0])


def _errors(app: FastAPI) -> None:
    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> Response:
        said = error.detail
        if said == HTTPStatus(error.status_code).phrase:  # nobody here has said anything better
            said = _SAID.get(error.status_code, f"{said}.")
        return problem(error.status_code, str(said), dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = first["loc"][-1] if first["loc"] else "the request"
        return problem(422, f"{where}: {first['msg']}.")

    @app.exception_handler(RecaffeError)
    async def failed(_: Request, error: RecaffeError) -> Response:
        return problem(503, str(error))

    @app.exception_handler(Exception)
    async def broken(_: Request, error: Exception) -> Response:
        # The guard, which it reaches next, says more where the server runs.
        return problem(500, "The server failed at this. It says more where it runs.")

    @app.exception_handler(OSError)
    async def no_room(_: Request, error: OSError) -> Response:
        return problem(503, f"The server has no room for the request: {error.strerror}.")


_SAID = {
    404: "There is nothing here. /docs says what there is.",
    405: "This address doesn't take requests of this kind. /docs says which.",
}
