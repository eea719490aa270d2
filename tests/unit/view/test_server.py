"""The command as it is used: a process of its own, its address, its limit of memory, its end."""

import http.client
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from dawin_ray.view import database, export, server


@pytest.fixture
def shown(run_dir):
    """A process that shows a run, its port, and the way of its token."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dawin_ray", "view", run_dir], stdout=subprocess.PIPE, text=True
    )
    line = next(line for line in process.stdout if "token=" in line)
    address = line.strip().removeprefix("http://127.0.0.1:")
    port, _, path = address.partition("/")
    yield process, int(port), f"/{path}"
    process.kill()
    process.wait()


def ask(port: int, path: str, cookie: str = "") -> tuple[int, str, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path, headers={"cookie": cookie})
    answer = connection.getresponse()
    return (
        answer.status,
        (answer.getheader("set-cookie") or "").split(";")[0],
        answer.read().decode(),
    )


def test_what_takes_too_much_memory_fails_alone_and_a_signal_ends_it(shown):
    process, port, path = shown
    assert ask(port, "/")[0] == 401
    status, cookie, _ = ask(port, path)
    assert status == 303
    assert ask(port, "/", cookie)[0] == 200
    # 24 GB in one value, which DuckDB's own limit does not see
    status, _, text = ask(port, f"/sql?sql={quote('SELECT list_sum(range(3000000000))')}", cookie)
    assert status == 400
    assert "Memory" in text
    assert ask(port, "/look", cookie)[0] == 200
    assert ask(port, path)[0] == 401
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0


def test_the_limits_are_those_that_the_readme_tells():
    told = Path(server.__file__).with_name("README.md").read_text()
    for words in (
        f"for at most {database.SECONDS:g} s",
        f"an export {database.EXPORT_SECONDS / 60:g} minutes",
        f"at most {export.MAX_ROWS:,} rows and {export.MAX_IMAGES:,} images",
        f"takes {database.MEMORY.removesuffix('GB')} GB by its own count",
        f"most {server.MEMORY >> 30} GiB more",
        f"listens on {server.HOST} alone",
    ):
        assert words in " ".join(told.split()), words
