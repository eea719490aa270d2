"""How often this process asked a storage again, as far as its clients tell.

botocore, which s3fs asks S3 with, has an event behind each try of a request. What s3fs begins again
above that, such as an answer that broke off, and what other clients do, nobody is told of.
"""

from __future__ import annotations

import threading

import fsspec

# Behind each try, of whatever operation; and under which name our handler is there once.
EVENT, OURS = "needs-retry.s3", "dawin-ray-retries"


class _Retries:
    """A count that several threads raise."""

    def __init__(self) -> None:
        self.lock, self.count = threading.Lock(), 0

    def heard(self, attempts: int, **_: object) -> None:
        """A request was tried, `attempts` times by now; what comes of it is not ours to say."""
        if attempts > 1:
            with self.lock:
                self.count += 1

    def take(self) -> int:
        with self.lock:
            count, self.count = self.count, 0
        return count


_RETRIES = _Retries()


def listen(fs: fsspec.AbstractFileSystem) -> None:
    """Count what this file system's client will ask again, where it tells; nothing is asked yet.

    A client has the handlers that its session had when it was made, at the first request.
    """
    if getattr(fs, "session", True) is not None or not hasattr(fs, "set_session"):
        return  # no S3, or a session that is known already
    from aiobotocore.session import AioSession  # s3fs has imported it

    fs.session = AioSession(**fs.kwargs)  # as s3fs would make it
    fs.session.register(EVENT, _RETRIES.heard, unique_id=OURS)


def take_retries() -> int:
    """Requests that were sent again since the last call, of all threads of this process."""
    return _RETRIES.take()
