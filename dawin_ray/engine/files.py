"""Files that are read and written beside forwards, so that the models do not wait for storage."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Made = TypeVar("Made")


class Beside:
    """Does work in threads; without any, when its outcome is asked for."""

    def __init__(self, threads: int):
        """Starts no thread before there is work."""
        self.pool = ThreadPoolExecutor(threads, "files") if threads else None

    def begin(self, work: Callable[[], Made]) -> Callable[[], Made]:
        """What waits for the work, and returns or raises what came of it."""
        return work if self.pool is None else self.pool.submit(work).result
