"""What signals do to a run, and what is left as it was."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from dawin_ray import stopping
from dawin_ray.stopping import EXIT_CODES, Stopped, stoppable, undisturbed, unheeded

BOTH = (signal.SIGTERM, signal.SIGUSR1)


def kill(number=signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


@pytest.fixture(autouse=True)
def handlers():
    before = {number: signal.getsignal(number) for number in EXIT_CODES}
    hook = sys.unraisablehook
    yield
    assert {number: signal.getsignal(number) for number in EXIT_CODES} == before
    assert sys.unraisablehook is hook
    assert signal.set_wakeup_fd(-1) == -1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 143)])
def test_a_signal_unwinds_the_block(number, code):
    ended = []

    def work():
        try:
            kill(number)
        finally:
            ended.append("given back")

    with pytest.raises(Stopped, match="The same command resumes") as stopped, stoppable(*BOTH):
        work()
    assert (stopped.value.number, stopped.value.exit_code) == (number, code)
    assert ended
    assert Stopped(signal.SIGINT).exit_code == 130


def test_a_signal_that_ray_makes_a_plain_interrupt_keeps_its_number():
    def of_ray():
        try:
            kill()
        except KeyboardInterrupt:
            raise KeyboardInterrupt from None

    with pytest.raises(Stopped) as stopped, stoppable(*BOTH):
        of_ray()
    assert stopped.value.exit_code == 143


def test_an_interrupt_of_another_hand_passes():
    with pytest.raises(KeyboardInterrupt) as interrupt, stoppable(*BOTH):
        raise KeyboardInterrupt
    assert type(interrupt.value) is KeyboardInterrupt


def test_what_is_given_back_is_given_back_whole():
    steps = []

    def give_back():
        with undisturbed():
            with undisturbed():
                kill()
                steps.append("one")
            steps.append("two")
        steps.append("not reached")

    with pytest.raises(Stopped), stoppable(*BOTH):
        give_back()
    assert steps == ["one", "two"]


def test_nothing_is_held_where_nothing_listens():
    with undisturbed():
        pass


def test_the_same_wish_sent_twice_is_one():
    """By Slurm to a step and by the batch script that passes it on."""

    def work():
        try:
            kill()
        finally:
            kill()
            time.sleep(0.05)

    with pytest.raises(Stopped), stoppable(*BOTH):
        work()


class _Finaliser:
    def __del__(self):
        kill()
        for _ in range(10):  # the signal is raised in here, and dropped
            time.sleep(0)


def test_a_signal_that_is_dropped_in_a_finaliser_comes_again():

    def work():
        _Finaliser()
        for _ in range(100):
            time.sleep(0.05)

    with pytest.raises(Stopped), stoppable(*BOTH):
        work()


def test_other_threads_change_nothing():
    found = []

    def work():
        with stoppable(*BOTH), undisturbed():
            found.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [before]


def test_only_signals_that_would_end_the_process_are_taken_over():
    assert unheeded() == BOTH
    for handler in (lambda *_: None, signal.SIG_IGN):
        before = signal.signal(signal.SIGUSR1, handler)
        assert unheeded() == (signal.SIGTERM,)
        signal.signal(signal.SIGUSR1, before)
    with stoppable(*BOTH):
        assert unheeded() == ()


DEAF = """
import ctypes, signal, sys
from dawin_ray import stopping
stopping.before_leaving.append(lambda: print("left", flush=True))
with stopping.stoppable(signal.SIGTERM, signal.SIGINT):
    try:
        print("ready", flush=True)
        while True: sys.stdin.read(1)
    finally:
        print("cleaning", flush=True)
        while True: ctypes.CDLL("libc.so.6").sleep(600)  # a call that no handler interrupts
"""


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_a_process_that_is_deaf(second):
    process = subprocess.Popen(
        [sys.executable, "-c", DEAF], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "cleaning\n"
    if second == signal.SIGTERM:
        time.sleep(stopping.SAME_SECONDS + 0.2)
    process.send_signal(second)
    assert process.wait(timeout=30) == EXIT_CODES[second]
    assert process.stdout.readline() == "left\n"
