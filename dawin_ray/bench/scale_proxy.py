"""A proxy before an S3 server: each request takes a fixed time more, and is counted.

It has a process and two doors, one for the driver and one for its tasks, so that who asked is known
without a look into either.
"""

from __future__ import annotations

import http.client
import multiprocessing
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.sharedctypes import SynchronizedArray
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

Who = Literal["driver", "tasks"]
DOORS: tuple[Who, ...] = ("driver", "tasks")

REQUESTS = ("GET", "PUT", "HEAD", "LIST", "DELETE")
BYTES = ("sent", "received")
WAITED = "waited"  # microseconds in which at least one request was under way
KINDS = (*REQUESTS, *BYTES, WAITED)

HOPS = ("connection", "content-length", "expect", "transfer-encoding")  # of one connection alone

START_SECONDS = 60.0

Counts = dict[Who, dict[str, int]]


class CountingProxy:
    """The proxy as its maker sees it: where its doors are, and what has come through them."""

    def __init__(self, endpoint: str, latency: float):
        """Before the server at `endpoint`, http://host:port; `latency` in seconds a request."""
        context = multiprocessing.get_context("spawn")
        self.latency = latency
        self.counts: SynchronizedArray[int] = context.Array("q", len(DOORS) * len(KINDS))
        here, there = context.Pipe()
        address = urlsplit(endpoint)
        if address.scheme != "http" or address.hostname is None:
            raise ValueError(f"the endpoint {endpoint!r} is not of the form http://host:port")
        upstream = (address.hostname, address.port or 80)
        self.process = context.Process(
            target=_serve, args=(upstream, latency, self.counts, there), daemon=True
        )
        self.process.start()
        if not here.poll(START_SECONDS):
            raise TimeoutError("the counting proxy did not start")
        self.doors: dict[Who, str] = here.recv()

    def seen(self) -> Counts:
        """Requests of each kind since the start, and bytes, by who asked."""
        with self.counts.get_lock():
            values = iter([self.counts[i] for i in range(len(DOORS) * len(KINDS))])
        return {who: {kind: next(values) for kind in KINDS} for who in DOORS}

    def stop(self) -> None:
        """Ends its process."""
        self.process.terminate()
        self.process.join()


@contextmanager
def counting(endpoint: str, latency: float) -> Iterator[CountingProxy]:
    """A proxy that is stopped at the end."""
    proxy = CountingProxy(endpoint, latency)
    try:
        yield proxy
    finally:
        proxy.stop()


def _serve(
    upstream: tuple[str, int], latency: float, counts: SynchronizedArray[int], ready: Any
) -> None:
    doors = {}
    for i, who in enumerate(DOORS):
        handler = _handler(upstream, latency, _Door(counts, i * len(KINDS)))
        server = _Server(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        doors[who] = f"http://127.0.0.1:{server.server_address[1]}"
    ready.send(doors)
    threading.Event().wait()  # until the process is ended


class _Door:
    """What comes through one door."""

    def __init__(self, counts: SynchronizedArray[int], first: int):
        """Its counts begin at `first`."""
        self.counts, self.first = counts, first
        self.lock, self.since, self.under_way = threading.Lock(), 0.0, 0

    def add(self, kind: str, count: int) -> None:
        """Count so much more."""
        with self.counts.get_lock():
            self.counts[self.first + KINDS.index(kind)] += count

    @contextmanager
    def waited(self) -> Iterator[None]:
        """A request is under way."""
        with self.lock:
            self.under_way += 1
            if self.under_way == 1:
                self.since = time.monotonic()
        try:
            yield
        finally:
            with self.lock:
                self.under_way -= 1
                if not self.under_way:
                    self.add(WAITED, int(1e6 * (time.monotonic() - self.since)))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """Clients that hang up are expected."""


def _handler(
    upstream: tuple[str, int], latency: float, door: _Door
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with door.waited():
                response, content = self._ask(body)
            door.add(kind_of(self.command, self.path), 1)
            door.add(BYTES[0], len(body))
            door.add(BYTES[1], len(content))
            self.send_response_only(response.status)
            for name, value in response.headers.items():
                if name.lower() not in HOPS:
                    self.send_header(name, value)
            head = self.command == "HEAD"
            size = response.headers.get("Content-Length", "0") if head else str(len(content))
            self.send_header("Content-Length", size)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer  # noqa: N815

        def _ask(self, body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
            begun = time.monotonic()
            onward = http.client.HTTPConnection(*upstream)
            try:
                onward.putrequest(
                    self.command, self.path, skip_host=True, skip_accept_encoding=True
                )
                for name, value in self.headers.items():
                    if name.lower() not in HOPS:
                        onward.putheader(name, value)
                onward.putheader("Content-Length", str(len(body)))
                onward.endheaders(body)
                response = onward.getresponse()
                content = response.read()
            finally:
                onward.close()
            time.sleep(max(0.0, latency - (time.monotonic() - begun)))
            return response, content

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    return Handler


def kind_of(method: str, path: str) -> str:
    """What a request is counted as: a listing and a delete of many go by their own names."""
    query = parse_qs(urlsplit(path).query, keep_blank_values=True)
    if method == "GET" and ("list-type" in query or "prefix" in query):
        return "LIST"
    if method == "POST":
        return "DELETE" if "delete" in query else "PUT"  # else a part of an upload
    return method


def difference(after: Mapping[Who, Mapping[str, int]], before: Counts) -> Counts:
    """What was counted between two looks."""
    return {
        who: {kind: count - before[who][kind] for kind, count in of_who.items()}
        for who, of_who in after.items()
    }
