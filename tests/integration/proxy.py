"""An HTTP proxy before an S3 server that fails, breaks off and dawdles, at given rates."""

import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BUSY = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
FAULTY = b"<Error><Code>InternalError</Code><Message>We encountered an error.</Message></Error>"
PAUSE = 0.3  # seconds, of a delayed request


class FaultyProxy:
    """Passes requests on to `port` of this machine; a seeded share of them meets a fault.

    `faults` maps 503, 500, reset (the connection, before an answer or in the middle of one) and
    delay to their shares. `asked` counts requests by method and path, `met` the faults.
    """

    def __init__(self, port: int, faults: dict, seed: int = 0):
        self.faults, self.asked, self.met = faults, Counter(), Counter()
        draw, lock, proxy = random.Random(seed), threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                with lock:
                    fault = proxy.drawn(draw.random())
                    late = draw.random() < 0.5  # the server has done it, and nobody hears of it
                    proxy.asked[self.command, self.path.partition("?")[0]] += 1
                    proxy.met[fault] += 1
                if fault == "delay":
                    time.sleep(PAUSE)
                elif fault and not late:
                    self.fail(fault)
                    return
                onward = http.client.HTTPConnection("127.0.0.1", port)
                try:
                    onward.putrequest(
                        self.command, self.path, skip_host=True, skip_accept_encoding=True
                    )
                    for name, value in self.headers.items():
                        onward.putheader(name, value)
                    onward.endheaders(body)
                    response = onward.getresponse()
                    content = response.read()
                finally:
                    onward.close()
                if fault in (500, 503, "reset"):
                    self.fail(fault, content)
                    return
                self.send_response_only(response.status)
                size = response.headers.get("Content-Length", "0")
                for name, value in response.headers.items():
                    if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                        self.send_header(name, value)
                head = self.command == "HEAD"
                self.send_header("Content-Length", size if head else str(len(content)))
                self.end_headers()
                if not head:
                    self.wfile.write(content)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer  # noqa: N815

            def fail(self, fault, content: bytes = b"") -> None:
                self.close_connection = True
                if fault == "reset":
                    if content and self.command == "GET":
                        self.send_response_only(200)
                        self.send_header("Content-Length", str(len(content)))
                        self.end_headers()
                        self.wfile.write(content[: len(content) // 2])
                        self.wfile.flush()
                    # lingering for no time makes close() send RST
                    self.connection.setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                    )
                    self.connection.close()
                    return
                text = BUSY if fault == 503 else FAULTY
                self.send_response_only(fault)
                self.send_header("Content-Type", "application/xml")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(text)

            def log_message(self, *args) -> None:
                """Says nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *args: None  # clients that hang up are expected
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"

    def drawn(self, number: float):
        """The fault that a uniform number stands for, or None."""
        for fault, share in self.faults.items():
            if number < share:
                return fault
            number -= share
        return None

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
