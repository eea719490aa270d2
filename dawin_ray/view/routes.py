"""Which address is which page, and how its answer goes out."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from html import escape
from importlib.resources import files
from typing import TypeVar

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route

from dawin_ray.errors import UserError
from dawin_ray.names import escaped
from dawin_ray.view import looking
from dawin_ray.view.export import csv_lines, parquet_file, webdataset
from dawin_ray.view.filters import Choice
from dawin_ray.view.images import Kind, Picture
from dawin_ray.view.opened import OpenedRun
from dawin_ray.view.pages import Pages
from dawin_ray.view.reports import CSP, report_of, target_of

STATIC = {"view.css": "text/css", "view.js": "text/javascript", "icon.svg": "image/svg+xml"}

KINDS: dict[str, Kind] = {"thumb": "thumb", "whole": "whole", "crop": "crop"}

ROWS, COLUMNS = 5, 26  # of the words in place of an image

Query = Mapping[str, str]

T = TypeVar("T")


def routes_of(pages: Pages) -> list[Route]:
    """The routes; those that take time run in threads."""
    shown: dict[str, Callable[[Query], str]] = {
        "/": pages.suite,
        "/look": pages.look,
        "/confusions": pages.confusions,
        "/sample": pages.sample,
    }
    return [
        *(Route(path, _page(pages, made)) for path, made in shown.items()),
        Route("/sql", lambda request: _sql(pages, request.query_params)),
        Route("/image", lambda request: _image(pages, request.query_params)),
        Route("/export", lambda request: _export(pages, request.query_params)),
        Route("/static/{name}", _static),
        *(
            Route(f"/run/{{run}}{folder}/{name}", _of_report(pages, made))
            for folder in ("", "/batches/{batch}")
            for name, made in (("report.html", _report), ("look", _link))
        ),
    ]


def _page(pages: Pages, made: Callable[[Query], str]) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        try:
            return HTMLResponse(made(request.query_params))
        except UserError as error:
            return HTMLResponse(pages.problem(request.query_params, error), 400)

    return answer


def _of_report(
    pages: Pages, made: Callable[[OpenedRun, str, Query], Response]
) -> Callable[[Request], Response]:
    """What lies under the address of a run's report, by that run and its batch."""

    def answer(request: Request) -> Response:
        place = request.path_params
        try:
            return made(pages.run_of(place), place.get("batch", ""), request.query_params)
        except UserError as error:
            return HTMLResponse(pages.problem(request.query_params, error), 400)

    return answer


def _report(run: OpenedRun, batch: str, _: Query) -> Response:
    return HTMLResponse(report_of(run, batch), headers={"content-security-policy": CSP})


def _link(run: OpenedRun, batch: str, query: Query) -> Response:
    return RedirectResponse(target_of(run, batch, query), 303)


def _sql(pages: Pages, query: Query) -> Response:
    try:
        pages.run_of(query)
        Choice.of(query)
    except UserError as error:
        return HTMLResponse(pages.problem(query, error), 400)
    if "sql" not in query:
        return HTMLResponse(pages.sql(query, None))
    try:
        result = pages.database.query(query["sql"])
    except UserError as error:
        return HTMLResponse(pages.sql(query, None, str(error)), 400)
    return HTMLResponse(pages.sql(query, result))


def _image(pages: Pages, query: Query) -> Response:
    try:
        run = pages.run_of(query)
        kind = KINDS.get(query.get("kind", ""), "thumb")
        images = pages.images[run.number]
        picture = images.picture(query.get("dataset", ""), query.get("sample", ""), kind)
    except UserError as error:
        picture = _words(str(error))
    return Response(picture.content, media_type=picture.type)


def _export(pages: Pages, query: Query) -> Response:
    kind = query.get("format", "")
    try:
        run = pages.run_of(query)
        sql = query.get("sql") or Choice.of(query).sql(run, looking.OF_TILES)
        if kind == "csv":
            lines = csv_lines(pages.database, sql)
            return _download("samples.csv", "text/csv; charset=utf-8", _begun(lines))
        if kind == "webdataset":
            pieces = webdataset(pages.database, pages.images[run.number], sql)
            return _download("samples.tar", "application/x-tar", _begun(pieces))
        if kind == "parquet":
            path = parquet_file(pages.database, sql)
            return FileResponse(
                path, media_type="application/vnd.apache.parquet", filename="samples.parquet",
                background=BackgroundTask(path.unlink),
            )  # fmt: skip
        raise UserError("format is one of csv, parquet and webdataset.")
    except UserError as error:
        return HTMLResponse(pages.problem(query, error), 400)


def _begun(pieces: Iterator[T]) -> Iterator[T]:
    """The same, the first piece made already: what is wrong is raised here."""
    return itertools.chain([next(pieces)], pieces)


def _download(name: str, kind: str, pieces: Iterator[str] | Iterator[bytes]) -> Response:
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(pieces, media_type=kind, headers=headers)


def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in STATIC:
        return Response("404: there is no such file", 404)
    content = files("dawin_ray.view").joinpath("static", name).read_bytes()
    return Response(content, media_type=STATIC[name])


def _words(text: str) -> Picture:
    """Words in place of an image; a failed request would be an error of the page."""
    line = escaped(text)[: ROWS * COLUMNS]
    rows = "".join(
        f'<text x="6" y="{20 + 16 * i}">{escape(line[at : at + COLUMNS])}</text>'
        for i, at in enumerate(range(0, len(line), COLUMNS))
    )
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 192 108" width="192" height="108" '
        f'font-family="sans-serif" font-size="12" fill="#888888">{rows}</svg>'
    )
    return Picture(content=svg.encode(), type="image/svg+xml")
