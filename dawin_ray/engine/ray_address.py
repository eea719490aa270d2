"""Whether a Ray cluster answers at an address, and in which words to say why it was not joined.

Ray itself asks a dead address twenty times, 41 s each, without a word.
"""

from __future__ import annotations

import os
import re
import socket
import time

from dawin_ray.errors import UserError
from dawin_ray.names import first_line

# A head that is being started may refuse a connection for some seconds, or have no name yet.
PROBE_SECONDS, PROBE_PAUSE_SECONDS, CONNECT_SECONDS = 12.0, 1.0, 4.0

MAX_PORT = 65_535

VERSIONS = re.compile(r"Ray: (\S+)\s+Python: (\S+)")

REFUSED_TOKEN = ("AuthenticationError", "InvalidAuthToken", "Unauthenticated")

HOW_TO_JOIN = (
    "Check the address, start a cluster (see cluster/), or leave compute.address and RAY_ADDRESS "
    "out to run on this machine."
)


def ask_once() -> None:
    """Have Ray ask an address only once; before Ray is imported, which reads this."""
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")


def check_answers(address: str) -> None:
    """Nothing, where somebody listens at `host:port`; addresses of other forms are not asked.

    Raises:
        UserError: nobody does, for PROBE_SECONDS.
    """
    place = address.removeprefix("ray://")
    host, colon, port = place.rpartition(":")
    if not colon or not port.isdigit():
        return  # such as auto, of which Ray knows more
    if not 0 < int(port) <= MAX_PORT:
        raise UserError(f"The Ray address {address!r} has no port of 1 to {MAX_PORT}.")
    begin = time.monotonic()
    while True:
        left = PROBE_SECONDS - (time.monotonic() - begin)
        try:
            timeout = max(0.1, min(CONNECT_SECONDS, left))
            with socket.create_connection((host.strip("[]"), int(port)), timeout):
                return
        except OSError as error:
            if left <= PROBE_PAUSE_SECONDS:
                raise UserError(
                    f"Nobody answers at the Ray address {address!r}, tried for "
                    f"{time.monotonic() - begin:.0f} s: {first_line(error)}. {HOW_TO_JOIN}"
                ) from error
            time.sleep(PROBE_PAUSE_SECONDS)


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
