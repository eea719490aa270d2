"""How often work was begun and never ended, because the process that did it died.

Ray runs the task of a dead worker again, for ever if need be: it cannot know that one image, or one
batch, kills whoever touches it. `Attempts` can: it outlives the workers, and each of them tells it
what it begins and ends. Nothing here imports Ray; the Ray engine runs one `Attempts` as an actor.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

# Of a reader at one chunk: then its images are decoded in a process of their own.
DEATHS_BEFORE_ISOLATION = 2

# Of a reader at one chunk, whatever it does: then the run stops.
MOST_DEATHS_READING = 4

# Of model actors at one chunk: then the run stops. Nodes may be lost, but seldom thrice here.
MOST_DEATHS_SCORING = 3

# Of actors while they load, beyond one start of each.
MOST_DEATHS_LOADING = 3

ASK_SECONDS = 5.0  # that the driver waits for an answer; Ray may be gone


class Attempts:
    """Counts what is under way, and keeps lines for the driver to show."""

    def __init__(self) -> None:
        """Nothing has begun."""
        self.open: Counter[tuple[str, str]] = Counter()
        self.ended: Counter[str] = Counter()
        self.images: dict[tuple[str, str], tuple[int, int]] = {}
        self.lines: list[str] = []
        self.kept: set[str] = set()
        self.again: Counter[str] = Counter()

    def begin(self, kind: str, name: str) -> int:
        """Note a try; how many have begun and not ended before it."""
        before = self.open[kind, name]
        self.open[kind, name] += 1
        return before

    def end(self, kind: str, name: str) -> None:
        """Note that a try came to its end, with success or an error."""
        self.open[kind, name] -= 1
        if not self.open[kind, name]:
            del self.open[kind, name]
        self.ended[kind] += 1
        self.images.pop((kind, name), None)

    def begin_all(self, kind: str, names: Sequence[str]) -> int:
        """Note a try of work that is done together; how many of any of it have not ended."""
        return max(self.begin(kind, name) for name in names)

    def end_all(self, kind: str, names: Sequence[str]) -> None:
        """Note the end of what `begin_all` noted."""
        for name in names:
            self.end(kind, name)

    def reached(self, kind: str, name: str, done: int, total: int) -> None:
        """Note how many images of a chunk under way are scored."""
        self.images[kind, name] = (done, total)

    def tell(self, line: str, again: str = "") -> None:
        """Keep a line for a person, once: a task that is run again tells it again.

        `again` is the kind of work that is begun again, where the line says so.
        """
        if line not in self.kept:
            self.kept.add(line)
            self.lines.append(line)
            if again:
                self.again[again] += 1

    def retries(self) -> dict[str, int]:
        """How often work was begun again, by kind."""
        return dict(self.again)

    def told(self) -> list[str]:
        """The lines since the last call."""
        lines, self.lines = self.lines, []
        return lines

    def state(self, loading: str, scoring: str) -> tuple[int, int, int]:
        """Actors that have loaded, and images scored of how many in the chunks under way."""
        kinds = (scoring, together(scoring))
        under_way = [found for (kind, _), found in self.images.items() if kind in kinds]
        done, total = (sum(column) for column in zip(*under_way, strict=True)) if under_way else (
            0, 0,
        )  # fmt: skip
        return self.ended[loading], done, total


class Tries:
    """What workers and the driver hold of an `Attempts`, wherever it lives; cheap to pickle."""

    def __init__(
        self,
        call: Callable[..., Any] | None = None,
        send: Callable[..., object] | None = None,
    ):
        """`call` and `send` take a method's name; `call` waits. Without them nothing counts."""
        self._call, self._send = call, send

    @contextmanager
    def of(self, kind: str, name: str) -> Iterator[int]:
        """A try, whose value is how many died before it. Ends unless this process dies."""
        with self._counted("begin", "end", kind, name) as before:
            yield before

    @contextmanager
    def of_all(self, kind: str, names: Sequence[str]) -> Iterator[int]:
        """One try of several things, for the price of one.

        Its value is how many died before with any of them under way; none says which.
        """
        with self._counted("begin_all", "end_all", kind, names) as before:
            yield before

    @contextmanager
    def _counted(self, begin: str, end: str, *what: Any) -> Iterator[int]:
        if self._call is None:
            yield 0
            return
        before = self._call(begin, *what)
        try:
            yield before
        finally:
            if self._send is not None:
                self._send(end, *what)

    def tell(self, line: str, again: str = "") -> None:
        """Have the driver show a line; see `Attempts.tell`."""
        if self._send is not None:
            self._send("tell", line, again)

    def retries(self) -> dict[str, int]:
        """See `Attempts.retries`."""
        return {} if self._call is None else self._call("retries", timeout=ASK_SECONDS)

    def reached(self, kind: str, name: str, done: int, total: int) -> None:
        """See `Attempts.reached`."""
        if self._send is not None:
            self._send("reached", kind, name, done, total)

    def told(self) -> list[str]:
        """See `Attempts.told`."""
        return [] if self._call is None else self._call("told", timeout=ASK_SECONDS)

    def state(self, loading: str, scoring: str) -> tuple[int, int, int]:
        """See `Attempts.state`."""
        if self._call is None:
            return 0, 0, 0
        state: tuple[int, int, int] = self._call("state", loading, scoring, timeout=ASK_SECONDS)
        return state


UNCOUNTED = Tries()


def loading(stage: str) -> str:
    """The kind of tries that are starts of a stage's actors."""
    return f"loading of {stage}"


def together(stage: str) -> str:
    """The kind of tries that are a stage's chunks of one message."""
    return f"messages of {stage}"


def nth(count: int) -> str:
    """1st, 2nd, 3rd, 4th."""
    suffix = "th" if count % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(count % 10)
    return f"{count}{suffix or 'th'}"
