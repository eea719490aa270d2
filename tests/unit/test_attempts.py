"""What is begun and never ended is counted, across processes that die."""

from contextlib import suppress

import pytest

from dawin_ray.attempts import UNCOUNTED, Attempts, Tries, loading, nth


def tries_of(attempts: Attempts) -> Tries:
    """Handles in this process to a counter in this process."""

    def call(method, *arguments, timeout=None):
        return getattr(attempts, method)(*arguments)

    return Tries(call, call)


def test_tries_that_died_are_counted_by_kind_and_name():
    attempts = Attempts()
    tries = tries_of(attempts)
    for _ in range(2):  # tries without an end: their processes are gone
        attempts.begin("read", "a")
    with tries.of("read", "a") as deaths:
        assert deaths == 2
    with tries.of("read", "b") as deaths:
        assert deaths == 0
    with tries.of("pass 1", "a") as deaths:
        assert deaths == 0


def test_things_done_together_are_counted_together():
    attempts = Attempts()
    tries = tries_of(attempts)
    with tries.of_all("pass 1", ["a", "b"]) as deaths:
        assert deaths == 0
    attempts.begin_all("pass 1", ["b", "c"])  # died
    for names, expected in ((["a", "b"], 1), (["a"], 0), (["c", "d"], 1)):
        with tries.of_all("pass 1", names) as deaths:
            assert deaths == expected
    assert set(attempts.open) == {("pass 1", "b"), ("pass 1", "c")}  # nothing is kept of the rest


def test_an_error_is_an_end():
    tries = tries_of(Attempts())
    with suppress(ValueError), tries.of("read", "a"):
        raise ValueError
    with tries.of("read", "a") as deaths:
        assert deaths == 0


def test_a_generator_that_is_dropped_ends_its_try():
    tries = tries_of(Attempts())

    def read():
        with tries.of("read", "a"):
            yield

    reading = read()
    next(reading)
    reading.close()
    with tries.of("read", "a") as deaths:
        assert deaths == 0


def test_lines_are_told_once_and_the_state_is_that_of_what_runs():
    attempts = Attempts()
    tries = tries_of(attempts)
    tries.tell("one")
    assert tries.told() == ["one"]
    assert tries.told() == []
    with tries.of(loading("pass 1"), ""):
        assert tries.state(loading("pass 1"), "pass 1") == (0, 0, 0)
    with tries.of("pass 1", "a"), tries.of("pass 1", "b"):
        tries.reached("pass 1", "a", 3, 16)
        tries.reached("pass 1", "b", 5, 8)
        assert tries.state(loading("pass 1"), "pass 1") == (1, 8, 24)
    assert tries.state(loading("pass 1"), "pass 1") == (1, 0, 0)


def test_without_a_counter_nothing_counts():
    with UNCOUNTED.of("read", "a"), UNCOUNTED.of("read", "a") as deaths:
        assert deaths == 0
    assert UNCOUNTED.told() == []


@pytest.mark.parametrize(
    ("count", "word"),
    [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (12, "12th"), (22, "22nd")],
)
def test_ordinals(count, word):
    assert nth(count) == word


def test_a_line_that_is_told_again_is_shown_once():
    attempts = Attempts()
    attempts.tell("a reader died")
    assert attempts.told() == ["a reader died"]
    attempts.tell("a reader died")
    attempts.tell("another")
    assert attempts.told() == ["another"]
