"""Errors on their way from Ray's workers: encodable there, and plain words for a person here."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from dawin_ray.errors import RayLostError, StageError, UserError
from dawin_ray.names import first_line, printable

# What Ray Data puts behind the message of an exception: how often it tried, and its own settings.
RAYS_WORDS = re.compile(r"\nFailed to [^\n]+ attempts \(total backoff ")

PACKAGE, NODE = re.compile(r"No module named '([\w.]+)'"), re.compile(r"\bip=([\w.:]+)")


@contextmanager
def told_plainly() -> Iterator[None]:
    """Out of Ray's wrappings: the mistake of a person's that a worker found, or what Ray lost.

    Raises:
        UserError: the first.
        RayLostError: the second.
    """
    try:
        yield
    except Exception as error:
        if (ours := _user_error(error)) is not None:
            raise UserError(RAYS_WORDS.split(str(ours))[0]) from error
        if (words := _never_began(error)) is not None:
            raise UserError(words) from error
        if (words := _words_of_ray(error)) is not None:
            raise RayLostError(
                f"Ray gave the run up: {words}. As a rule a machine was lost, or ran out of memory "
                "or disk; Ray's logs say more. The same command goes on where the run stopped."
            ) from error
        raise


@contextmanager
def encodable() -> Iterator[None]:
    """Errors leave as text that can be encoded: Ray tries a task for ever whose error cannot."""
    try:
        yield
    except Exception as error:
        try:
            "".join(traceback.format_exception(error)).encode()
        except UnicodeEncodeError:
            kind = UserError if isinstance(error, UserError) else StageError
            words = str(error) if kind is UserError else f"{type(error).__name__}: {error}"
            raise kind(printable(words)) from None
        raise


def _words_of_ray(error: BaseException | None) -> str | None:
    """What Ray says where its own parts failed, and not what they ran."""
    from ray import exceptions

    of_ray = (
        exceptions.RayActorError, exceptions.WorkerCrashedError, exceptions.LocalRayletDiedError,
        exceptions.NodeDiedError, exceptions.OutOfMemoryError, exceptions.OutOfDiskError,
        exceptions.ObjectStoreFullError, exceptions.ObjectLostError, exceptions.RaySystemError,
    )  # fmt: skip
    while error is not None:
        if isinstance(error, of_ray):
            return f"{first_line(error)}"
        error = error.__cause__
    return None


def _user_error(error: BaseException | None) -> UserError | None:
    """The mistake of a person's that a worker found, out of Ray's wrappings."""
    for current in _wrapped(error):
        # Ray's wrapping is a subclass of its own, with the traceback in it
        if isinstance(current, UserError) and type(current).__module__ == UserError.__module__:
            return current
    return None


def _never_began(error: BaseException) -> str | None:
    """Why a worker could not even begin, of which Ray keeps no exception but only the text."""
    from ray.exceptions import RayError

    for current in _wrapped(error):
        if not isinstance(current, RayError):
            continue
        text = printable(str(current))
        where = f"The node {found[1]}" if (found := NODE.search(text)) else "A node"
        if found := PACKAGE.search(text):
            return (
                f"{where} has no package that has the module {found[1]!r}. Install the same "
                "packages on all nodes, or send this one with the job (ray job submit "
                "--working-dir, or a runtime environment)."
            )
        if getattr(current, "actor_init_failed", False):
            lines = [line.strip() for line in text.splitlines() if line.strip()]
            last = lines[-1].removeprefix(f"{UserError.__module__}.UserError: ")
            return f"{where} could not start a model actor: {last}"
    return None


def _wrapped(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and all that led to it."""
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        current = todo.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        todo += [getattr(current, "cause", None), current.__cause__, current.__context__]
