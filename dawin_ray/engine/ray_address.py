"""Whether a Ray cluster answers at an address, and in which words to say why it was not joined.

Ray itself asks a dead address twenty times, 41 s each, without a word, and is deaf meanwhile.
"""

from __future__ import annotations

import os
import re
import socket
import time

from dawin_ray.errors import UserError
from dawin_ray.names import first_line, printable

# A head that is being started may refuse a connection for some seconds, or have no name yet.
PROBE_SECONDS, PROBE_PAUSE_SECONDS, CONNECT_SECONDS = 12.0, 1.0, 4.0

# Read when Ray is imported: how often it asks, and how long it then waits for an answer, in
# seconds. So what is no cluster is said, and a signal heard, within 20 s.
ASKED_ONCE = {"RAY_NUM_REDIS_GET_RETRIES": "1", "RAY_py_gcs_connect_timeout_s": "10"}

# What a client of gRPC's, as Ray's are, says first: HTTP/2's preface and a frame of no settings. A
# server says its own settings (RFC 9113, 3.4). Nine bytes begin a frame, the fourth is its type.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"
FRAME_BYTES, TYPE_AT, SETTINGS = 9, 3, 4

READ_BYTES = 128  # of what another program says; enough for its first line

MAX_PORT = 65_535

VERSIONS = re.compile(r"Ray: (\S+)\s+Python: (\S+)")

REFUSED_TOKEN = ("AuthenticationError", "InvalidAuthToken", "Unauthenticated")

HOW_TO_JOIN = (
    "Check the address, start a cluster (see cluster/), or leave compute.address and RAY_ADDRESS "
    "out to run on this machine."
)


def ask_once() -> None:
    """Have Ray ask an address once and not for long; before Ray is imported, which reads this."""
    for name, value in ASKED_ONCE.items():
        os.environ.setdefault(name, value)


def check_answers(address: str) -> None:
    """Nothing, where a server such as Ray's answers at `host:port`.

    Addresses of other forms are not asked.

    Raises:
        UserError: another program listens there, or nobody answers for PROBE_SECONDS.
    """
    place = address.removeprefix("ray://")
    host, colon, port = place.rpartition(":")
    if not colon or not port.isdigit():
        return  # such as auto, of which Ray knows more
    if not 0 < int(port) <= MAX_PORT:
        raise UserError(f"The Ray address {address!r} has no port of 1 to {MAX_PORT}.")
    begin = time.monotonic()
    while True:
        left = max(0.1, PROBE_SECONDS - (time.monotonic() - begin))
        said, nobody = b"", None
        try:
            timeout = min(CONNECT_SECONDS, left)
            with socket.create_connection((host.strip("[]"), int(port)), timeout) as connection:
                if _encrypted() or _is_settings(said := _greeting(connection, left)):
                    return
        except OSError as error:
            nobody = error
        waited = time.monotonic() - begin
        # who says something else will not become a Ray; who closes may wait for one that starts
        if said or PROBE_SECONDS - waited <= PROBE_PAUSE_SECONDS:
            raise _not_there(address, said, nobody, waited) from nobody
        time.sleep(PROBE_PAUSE_SECONDS)


def _greeting(connection: socket.socket, seconds: float) -> bytes:
    """What a server says first to a client of gRPC's; nothing where it closes or is silent."""
    end, said = time.monotonic() + seconds, b""
    try:
        connection.sendall(PREFACE)
        while len(said) < FRAME_BYTES:
            connection.settimeout(max(0.1, end - time.monotonic()))
            if not (more := connection.recv(READ_BYTES)):
                break
            said += more
    except OSError:
        return said
    return said


def _is_settings(said: bytes) -> bool:
    return len(said) >= FRAME_BYTES and said[TYPE_AT] == SETTINGS


def _encrypted() -> bool:
    """Whether Ray would speak TLS, in which a greeting is not for us to read."""
    return os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true")


def _not_there(address: str, said: bytes, nobody: OSError | None, waited: float) -> UserError:
    if nobody is not None:
        return UserError(
            f"Nobody answers at the Ray address {address!r}, tried for {waited:.0f} s: "
            f"{first_line(nobody)}. {HOW_TO_JOIN}"
        )
    line = printable(said.decode(errors="replace").strip("\r\n").partition("\r")[0])
    words = f"it says {line!r}" if line else f"in {waited:.0f} s it said nothing that a Ray does"
    return UserError(
        f"What answers at the Ray address {address!r} is no Ray head: {words}. A head has port "
        f"6379, as a rule (8265 is its dashboard); or it hangs. {HOW_TO_JOIN}"
    )


def not_joined(address: str, error: BaseException) -> UserError:
    """Why a cluster that answers could not be joined, from what Ray raised."""
    told = _told(error)
    if "ersion mismatch" in told and len(found := VERSIONS.findall(told)) == 2:
        (theirs, their_python), (ours, our_python) = found
        return UserError(
            f"The Ray cluster at {address!r} has Ray {theirs} and Python {their_python}, this "
            f"process Ray {ours} and Python {our_python}; both must be the same. Start this "
            "command with the cluster's versions (ray job submit runs it on the cluster), or the "
            "cluster with these."
        )
    if any(word in told for word in REFUSED_TOKEN):
        given = _given_token()
        return UserError(
            f"The Ray cluster at {address!r} refuses this process: {given}. Set "
            "RAY_AUTH_MODE=token and the cluster's token, in RAY_AUTH_TOKEN, in a file that "
            "RAY_AUTH_TOKEN_PATH names, or in ~/.ray/auth_token."
        )
    return UserError(
        f"Cannot join the Ray cluster at {address!r}: {first_line(error)}. Somebody answers there: "
        "check that it is a Ray head's port (6379, as a rule), that the cluster is healthy (ray "
        f"status), and its authentication (RAY_AUTH_MODE=token and its token). {HOW_TO_JOIN}"
    )


def _told(error: BaseException) -> str:
    """All that was said, with the causes, which have the reason as a text at times."""
    words, seen = [], set[int]()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        words.append(f"{type(current).__name__}: {current}")
        current = current.__cause__ or current.__context__
    return "\n".join(words)


def _given_token() -> str:
    mode = os.environ.get("RAY_AUTH_MODE")
    if mode is not None and mode.lower() != "token":
        return f"it wants a token, and RAY_AUTH_MODE is {mode} here"
    if "RAY_AUTH_TOKEN" in os.environ:
        return "the token in RAY_AUTH_TOKEN is not its token"
    if path := os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return f"the token in {path} (RAY_AUTH_TOKEN_PATH) is not its token"
    return "it has another token than ~/.ray/auth_token, or there is none"
