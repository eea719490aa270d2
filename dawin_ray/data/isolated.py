"""Decoding in a process of its own, where an image has killed the process that decoded it.

`python -m dawin_ray.data.isolated` is that process: it takes images on its standard input, one
after the other, and answers each with a crop or a reason. It dies with its parent.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import resource
import selectors
import signal
import struct
import subprocess
import sys
import time
from typing import IO, Any, BinaryIO

import numpy as np

from dawin_ray.data.images import ImageDecoder
from dawin_ray.models import Preprocessing

# Beside what its libraries take: 179 million pixels in floats of three channels are 2.1 GB.
MAX_BYTES = 4 << 30

# The largest images that pass take seconds.
MAX_SECONDS = 120.0

END_SECONDS = 60.0  # a process that dies may write its memory to a file first

START_SECONDS = 600.0  # importing the libraries, on a machine that is busy

REQUEST, ANSWER = struct.Struct("<qq"), struct.Struct("<cq")  # border, bytes; what, bytes

READY, CROP, REASON = b"r", b"c", b"e"

PR_SET_PDEATHSIG = 1  # of prctl(2)

FATAL = "killed the process that decoded it"  # begins a reason


class OwnProcess:
    """Decodes images in a child process, which may die, hang or ask for all memory.

    It stands where an `ImageDecoder` would, and gives the same crops. Close it.
    """

    def __init__(self, decoder: ImageDecoder):
        """`decoder` is made again in the child, of its class and preprocessing."""
        kind, of = type(decoder), decoder.preprocessing
        made = {"class": [kind.__module__, kind.__qualname__], "of": of.to_values()}
        self.made, self.shape = json.dumps(made).encode(), (*of.size, 3)
        self.child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> OwnProcess:
        """Itself; the child starts with the first image."""
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the child."""
        self._end()

    def __call__(self, encoded: bytes, border: int = 0) -> np.ndarray | str:
        """A crop uint8 [H, W, 3], equal to what this process would make, or why there is none."""
        child = self.child or self._start()
        try:
            _write(child, REQUEST.pack(border, len(encoded)) + encoded)
            what, content = _answer(child, MAX_SECONDS)
        except TimeoutError:
            self._end()
            return f"cannot be decoded within {MAX_SECONDS:g} s"
        except (EOFError, BrokenPipeError):
            code = self._end(END_SECONDS)
            if code == -signal.SIGKILL:
                return f"{FATAL} ({_words_of(code)}): out of memory, "\
                    "as a rule"  # fmt: skip
            return f"{FATAL} ({_words_of(code)})"
        if what == REASON:
            return content.decode()
        return np.frombuffer(content, dtype=np.uint8).reshape(self.shape)

    def _start(self) -> subprocess.Popen[bytes]:
        paths = [path or os.getcwd() for path in sys.path]
        self.child = child = subprocess.Popen(
            [sys.executable, "-m", "dawin_ray.data.isolated"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        )  # fmt: skip
        try:
            _write(child, REQUEST.pack(0, len(self.made)) + self.made)
            _answer(child, START_SECONDS)
        except (EOFError, BrokenPipeError, TimeoutError) as error:
            code = self._end(END_SECONDS)
            raise RuntimeError(
                f"the process that decodes images one by one does not start ({_words_of(code)})"
            ) from error
        return child

    def _end(self, seconds: float = 1.0) -> int:
        """Wait so long for the child's end, then stop it; how it ended."""
        child, self.child = self.child, None
        if child is None:
            return 0
        with contextlib.suppress(BrokenPipeError):  # it is dead, which is why it is asked
            _pipe(child.stdin).close()
        try:
            code = child.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            code = child.wait()
        _pipe(child.stdout).close()
        return code


def _write(child: subprocess.Popen[bytes], data: bytes) -> None:
    pipe = _pipe(child.stdin)
    pipe.write(data)
    pipe.flush()


def _answer(child: subprocess.Popen[bytes], seconds: float) -> tuple[bytes, bytes]:
    deadline, pipe = time.monotonic() + seconds, _pipe(child.stdout).fileno()
    what, size = ANSWER.unpack(_read(pipe, ANSWER.size, deadline))
    return what, _read(pipe, size, deadline)


def _read(pipe: int, size: int, deadline: float) -> bytes:
    parts = []
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while size:
            if not selector.select(max(deadline - time.monotonic(), 0)):
                raise TimeoutError
            if not (part := os.read(pipe, min(size, 1 << 20))):
                raise EOFError
            parts.append(part)
            size -= len(part)
    return b"".join(parts)


def _pipe(end: IO[bytes] | None) -> IO[bytes]:
    assert end is not None, "the child was started with pipes"
    return end


def _words_of(code: int) -> str:
    return f"signal {-code}, {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _limit(size: int) -> None:
    """No more memory than this beside what is taken by now."""
    with open("/proc/self/statm") as statm:
        taken = int(statm.read().split()[0]) * resource.getpagesize()
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = taken + size if most == resource.RLIM_INFINITY else min(taken + size, most)
    resource.setrlimit(resource.RLIMIT_AS, (limit, most))


def _made(what: dict[str, Any]) -> ImageDecoder:
    module, name = what["class"]
    kind: type[ImageDecoder] = getattr(importlib.import_module(module), name)
    return kind(Preprocessing.from_values(what["of"]))


def _serve(requests: BinaryIO, answers: BinaryIO) -> None:
    def answer(what: bytes, content: bytes = b"") -> None:
        answers.write(ANSWER.pack(what, len(content)) + content)
        answers.flush()

    def request() -> tuple[int, bytes] | None:
        if len(head := requests.read(REQUEST.size)) < REQUEST.size:
            return None
        border, size = REQUEST.unpack(head)
        return border, requests.read(size)

    first = request()
    if first is None:
        return  # the parent has gone before it said anything
    decode = _made(json.loads(first[1]))
    _limit(MAX_BYTES)
    answer(READY)
    while (asked := request()) is not None:
        border, encoded = asked
        found = decode(encoded, border)
        if isinstance(found, str):
            answer(REASON, found.encode(errors="backslashreplace"))
        else:
            answer(CROP, np.ascontiguousarray(found, dtype=np.uint8).tobytes())


def main() -> None:
    """The child: answers on what was its standard output, which libraries may write to."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is the parent's business
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        _serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
