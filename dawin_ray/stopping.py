"""Signals that ask a run to stop: it unwinds as by a Ctrl-C, so that what it holds is given back.

Slurm, Kubernetes and `ray job stop` send SIGTERM, and Slurm SIGUSR1 before a time limit. A chunk
that is under way is committed whole or not at all, as always.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# As shells have it, 128 and the signal; who asks in advance by SIGUSR1 would ask by SIGTERM next.
EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 143}

# The same signal again within so long is the same wish: Slurm signals every step of a job, and a
# batch script passes on what it gets.
SAME_SECONDS = 1.0

AGAIN_SECONDS = 0.1  # until a signal that was lost in a finaliser is raised again

END = b"\0"  # to the thread that listens: no signal has this number

MESSAGE = "Stopped. The same command resumes the run where it was."

# What is done before a second signal ends this process at once: it must be quick.
before_leaving: list[Callable[[], None]] = []


class Stopped(KeyboardInterrupt):
    """A signal asked to stop; Ray and Python let it through like a Ctrl-C."""

    def __init__(self, number: int):
        """The number of the signal."""
        super().__init__(MESSAGE)
        self.number = number

    @property
    def exit_code(self) -> int:
        """With which a command ends."""
        return EXIT_CODES.get(signal.Signals(self.number), 128 + self.number)


@contextmanager
def stoppable(*numbers: signal.Signals) -> Iterator[None]:
    """The first of these signals raises `Stopped` in the block, a second one ends the process.

    The handlers of before are put back. Only in the main thread; elsewhere nothing is changed.
    """
    if not numbers or threading.current_thread() is not threading.main_thread():
        yield
        return
    wishes = _Wishes()
    with wishes.watched(numbers):
        try:
            yield
        except KeyboardInterrupt as error:
            # Ray raises another one in place of that which it catches
            if wishes.number is None or isinstance(error, Stopped):
                raise
            raise Stopped(wishes.number) from error


def unheeded() -> tuple[signal.Signals, ...]:
    """The signals to stop that would end this process without a word."""
    of_schedulers = (signal.SIGTERM, signal.SIGUSR1)
    return tuple(number for number in of_schedulers if signal.getsignal(number) is signal.SIG_DFL)


@contextmanager
def undisturbed() -> Iterator[None]:
    """A first signal waits for the end of the block, which must be short: something is given back.

    Only in the main thread, where signals are raised.
    """
    wishes = _Wishes.current
    if wishes is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    wishes.held += 1
    try:
        yield
    finally:
        wishes.held -= 1
        if not wishes.held:
            wishes.due()


class _Wishes:
    """What signals have asked for."""

    current: _Wishes | None = None

    def __init__(self) -> None:
        """Nothing yet."""
        self.number: int | None = None  # of the first
        self.raised, self.held = False, 0
        self.main = threading.get_ident()

    @contextmanager
    def watched(self, numbers: tuple[signal.Signals, ...]) -> Iterator[None]:
        """Has the signals' handlers for the block, and a thread that hears the second one."""
        ears, mouth = os.pipe()
        os.set_blocking(mouth, False)
        last, hook = _Wishes.current, sys.unraisablehook
        before = {number: signal.signal(number, self._handle) for number in numbers}
        wakeup = signal.set_wakeup_fd(mouth, warn_on_full_buffer=False)
        thread = threading.Thread(target=self._listen, args=(ears, numbers), daemon=True)
        thread.start()
        _Wishes.current, sys.unraisablehook = self, self._after_finaliser(hook)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)
            _Wishes.current, sys.unraisablehook = last, hook
            os.write(mouth, END)
            thread.join()
            os.close(mouth)
            os.close(ears)

    def due(self) -> None:
        """Raise what is to be raised, unless it was or has to wait."""
        if self.number is not None and not self.raised and not self.held:
            self.raised = True
            raise Stopped(self.number)

    def _handle(self, number: int, _: Any) -> None:
        if self.number is None:
            self.number = number
        self.due()

    def _listen(self, ears: int, numbers: tuple[signal.Signals, ...]) -> None:
        """Ends the process at a second wish, also where the main thread is in a long call."""
        first: tuple[int, float] | None = None
        while (heard := os.read(ears, 1)) != END:
            number, now = heard[0], time.monotonic()
            if number not in numbers:
                continue
            if first is None:
                first = number, now
            elif number != first[0] or now - first[1] > SAME_SECONDS:
                for action in before_leaving:
                    action()
                os._exit(Stopped(number).exit_code)

    def _after_finaliser(self, hook: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Python drops what is raised in a finaliser: then it is raised once more."""

        def again() -> None:
            self.raised = False
            if self.number is not None:
                signal.pthread_kill(self.main, self.number)

        def dropped(what: Any) -> None:
            if isinstance(what.exc_value, Stopped):
                threading.Timer(AGAIN_SECONDS, again).start()
            else:
                hook(what)

        return dropped
