"""The server of the pages: on 127.0.0.1, for whoever has the address that is printed."""

from __future__ import annotations

import resource
import secrets
import socket
from collections.abc import Callable, Sequence

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.types import ASGIApp

from dawin_ray.errors import UserError
from dawin_ray.storage import configure
from dawin_ray.view.database import Database
from dawin_ray.view.gate import TOKEN, Gate
from dawin_ray.view.opened import OpenedRun, open_runs
from dawin_ray.view.pages import Pages
from dawin_ray.view.routes import routes_of

HOST = "127.0.0.1"

# Beside what the process has when it begins. DuckDB's own limit does not count what a single
# function makes, such as a text of 4 GB.
MEMORY = 10 << 30

GRACE_SECONDS = 2  # for answers that are under way when it is stopped


def make_app(runs: Sequence[OpenedRun], token: str, port: int) -> ASGIApp:
    """The application; `token` opens it once, in one browser."""
    pages = Pages(runs, Database(runs))
    return Starlette(routes=routes_of(pages), middleware=[Middleware(Gate, token, port)])


def serve(addresses: Sequence[str], port: int, say: Callable[[str], None]) -> None:
    """Show runs until a signal ends it; `say` is told the address.

    Raises:
        UserError: a run is unfinished or damaged, or the port is taken.
    """
    runs = open_runs(addresses)
    configure(runs[0].last.job.storage_options)  # of the data, which they have in common
    token = secrets.token_urlsafe(24)
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, port))
            listening.listen()  # who is quick with the address waits, and is not refused
        except OSError as error:
            raise UserError(
                f"Port {port} of {HOST} cannot be had: {error}. Give another --port."
            ) from error
        port = listening.getsockname()[1]
        app = make_app(runs, token, port)
        _limit_memory()
        say(f"{sum(run.rows for run in runs):,} samples of {len(runs)} run(s), read-only")
        say(f"http://{HOST}:{port}/?{TOKEN}={token}")
        say("The address works once, in one browser. Ctrl-C ends it.")
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,  # an address has the token
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        uvicorn.Server(config).run(sockets=[listening])


def _limit_memory() -> None:
    with open("/proc/self/statm") as file:
        held = int(file.read().split()[5]) * resource.getpagesize()  # data and stack
    limit, hard = held + MEMORY, resource.getrlimit(resource.RLIMIT_DATA)[1]
    if hard == resource.RLIM_INFINITY or limit < hard:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
