"""Whether anybody answers, and what is said of a cluster that was not joined."""

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from dawin_ray.engine import ray_address, ray_cluster
from dawin_ray.engine.ray_address import PREFACE, SETTINGS, check_answers, not_joined
from dawin_ray.errors import UserError
from tests.sockets import accepting


@pytest.fixture
def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def listening(answer: Callable[[socket.socket], None]):
    """The address of a server that does so with each connection, and then closes it."""

    def answer_and_close(connection: socket.socket) -> None:
        with connection:
            answer(connection)

    return accepting(answer_and_close)


def as_grpc(connection: socket.socket) -> None:
    assert connection.recv(100) == PREFACE
    for piece in (b"\0\0\x06", bytes([SETTINGS]) + b"\0\0\0\0\0", b"\0\x05\0\0\x40\0"):
        connection.sendall(piece)
        time.sleep(0.02)


def test_an_address_that_answers_is_asked_once():
    with listening(as_grpc) as address:
        for scheme in ("", "ray://"):
            check_answers(f"{scheme}{address}")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nServer: dashboard\r\n\r\n", r"'HTTP/1.1 400 Bad Request'"),
        (b"-ERR unknown command 'PRI'\r\n", r"ERR unknown command"),
        (b"\x1b[31m\n", r"says '.*x1b\[31m'"),
    ],
    ids=["HTTP", "Redis", "binary"],
)
def test_another_program_is_said_at_once_with_what_it_says(answer, words):
    def say(connection):
        connection.recv(100)
        connection.sendall(answer)

    begin = time.monotonic()
    with listening(say) as address, pytest.raises(UserError, match=f"is no Ray head.*{words}") as e:
        check_answers(address)
    assert time.monotonic() - begin < 2
    assert "\x1b" not in str(e.value)
    assert "6379" in str(e.value)


@pytest.mark.parametrize("seconds", [0.0, 9.0], ids=["closes", "is silent"])
def test_an_open_port_that_says_nothing_is_said_soon(monkeypatch, seconds):
    monkeypatch.setattr(ray_address, "PROBE_SECONDS", 0.4)
    monkeypatch.setattr(ray_address, "PROBE_PAUSE_SECONDS", 0.1)
    begin, left = time.monotonic(), threading.Event()
    with (
        listening(lambda connection: left.wait(seconds)) as address,
        pytest.raises(UserError, match=r"is no Ray head: in \d s it said nothing"),
    ):
        check_answers(address)
    left.set()
    assert time.monotonic() - begin < 2


def test_a_head_behind_a_port_that_opens_before_it_is_waited_for(monkeypatch):
    monkeypatch.setattr(ray_address, "PROBE_PAUSE_SECONDS", 0.05)
    tries = []

    def answer(connection):
        tries.append(1)
        if len(tries) == 3:
            as_grpc(connection)

    with listening(answer) as address:
        check_answers(address)
    assert len(tries) == 3


def test_what_is_encrypted_is_left_to_ray(monkeypatch):
    monkeypatch.setenv("RAY_USE_TLS", "1")
    with listening(lambda connection: None) as address:
        check_answers(address)


def test_a_real_server_of_grpc_answers():
    grpc = pytest.importorskip("grpc")
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    check_answers(f"127.0.0.1:{port}")
    server.stop(None)


@pytest.mark.parametrize("address", ["auto", "local", "anyscale://cluster", "host:port"])
def test_what_is_no_host_and_port_is_left_to_ray(address):
    check_answers(address)


def test_nobody_is_said_soon(monkeypatch, free_port):
    # a last try begins before PROBE_SECONDS are over, and lasts no longer than they do
    assert ray_address.PROBE_SECONDS + 1 < 15
    monkeypatch.setattr(ray_address, "PROBE_SECONDS", 0.3)
    monkeypatch.setattr(ray_address, "PROBE_PAUSE_SECONDS", 0.1)
    begin = time.monotonic()
    with pytest.raises(UserError, match=rf"Nobody answers.*127\.0\.0\.1:{free_port}.*refused"):
        check_answers(f"127.0.0.1:{free_port}")
    assert time.monotonic() - begin < 2


def test_a_head_that_is_starting_is_waited_for(monkeypatch, free_port):
    monkeypatch.setattr(ray_address, "PROBE_PAUSE_SECONDS", 0.05)
    tries, servers = [], []

    def connect(address, timeout):
        tries.append(timeout)
        if len(tries) < 3:
            raise ConnectionRefusedError
        ours, server = socket.socketpair()
        server.sendall(b"\0\0\0" + bytes([SETTINGS]) + bytes(5))
        servers.append(server)  # or it would close
        return ours

    monkeypatch.setattr(socket, "create_connection", connect)
    check_answers(f"127.0.0.1:{free_port}")
    assert len(tries) == 3
    assert all(timeout <= ray_address.CONNECT_SECONDS for timeout in tries)


def test_a_port_that_cannot_be_is_said_at_once():
    begin = time.monotonic()
    with pytest.raises(UserError, match="has no port of 1 to 65535"):
        check_answers("127.0.0.1:99999")
    assert time.monotonic() - begin < 1


def test_a_host_without_a_name_is_told(monkeypatch):
    def connect(address, timeout):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setattr(ray_address, "PROBE_SECONDS", 0.0)
    with pytest.raises(UserError, match=r"Nobody answers.*gaierror.*Name or service not known"):
        check_answers("no-such-host.invalid:6379")


def test_the_run_asks_before_ray_does(monkeypatch, free_port):
    import ray

    def never(**options):
        raise AssertionError("Ray would wait for 15 minutes")

    monkeypatch.setattr(ray, "init", never)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)  # by another test
    monkeypatch.setattr(ray_address, "PROBE_SECONDS", 0.0)
    for name, value in ray_address.ASKED_ONCE.items():
        monkeypatch.setenv(name, value)
    with (
        pytest.raises(UserError, match=r"Nobody answers"),
        ray_cluster.ray_session(f"127.0.0.1:{free_port}"),
    ):
        pass


def raised(words: str, cause: str = "") -> Exception:
    try:
        try:
            raise RuntimeError(cause)
        except RuntimeError as error:
            raise ConnectionError(words) from error
    except ConnectionError as error:
        return error


MISMATCH = (
    "Version mismatch: The cluster was started with:\n    Ray: 2.50.0\n    Python: 3.12.1\n"
    "This process on node 10.0.0.1 was started with:\n    Ray: 2.60.0\n    Python: 3.11.2\n"
)
TOKEN = "ray.exceptions.AuthenticationError: RPC error: InvalidAuthToken: Authentication token is"


def test_other_versions_are_named():
    words = str(not_joined("h:1", RuntimeError(MISMATCH)))
    assert "has Ray 2.50.0 and Python 3.12.1, this process Ray 2.60.0 and Python 3.11.2" in words


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "another token than ~/.ray/auth_token"),
        ({"RAY_AUTH_MODE": "disabled"}, "RAY_AUTH_MODE is disabled here"),
        ({"RAY_AUTH_TOKEN": "x"}, "the token in RAY_AUTH_TOKEN is not its token"),
        ({"RAY_AUTH_TOKEN_PATH": "/t"}, r"the token in /t \(RAY_AUTH_TOKEN_PATH\)"),
    ],
)
def test_a_token_that_is_refused_is_told_with_where_it_is_from(monkeypatch, environment, words):
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    error = not_joined("h:1", raised("Failed to connect to Ray cluster at h:1", TOKEN))
    with pytest.raises(UserError, match=words):
        raise error
    assert "refuses this process" in str(error)


def test_what_else_ray_says_is_told():
    words = str(not_joined("h:1", Exception("The current node timed out during startup.")))
    assert words.startswith("Cannot join the Ray cluster at 'h:1': Exception: The current node")
