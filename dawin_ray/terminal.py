"""What a command says on a terminal: texts that steer nothing, and mistakes as messages."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from dawin_ray.errors import UserError
from dawin_ray.names import printable
from dawin_ray.stopping import EXIT_CODES, Stopped, stoppable

EXIT_SIGNAL = 128  # plus the signal, as shells have it


def echo(text: str, err: bool = False) -> None:
    """A text as it is, but for what would steer a terminal."""
    typer.echo(printable(text), err=err)


def show(*parts: Any, err: bool = False) -> None:
    """Tables and texts, in which names stand for nothing but themselves."""
    from rich.console import Console

    console = Console(markup=False, emoji=False, highlight=False, stderr=err)
    if not console.is_terminal:
        # a file or a pipe has no width; tables must not be cut to 80 columns there
        console = Console(markup=False, emoji=False, highlight=False, stderr=err, width=140)
    for part in parts:
        text = isinstance(part, str)
        # a long line is not broken
        console.print(printable(part) if text else part, soft_wrap=text)


class _PlainFormatter(logging.Formatter):
    """Log lines in which names of the data cannot steer a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a text."""
        return printable(super().format(record))


@contextmanager
def friendly(verbose: bool) -> Iterator[None]:
    """A person's mistake ends with its message and exit code 2; ours with a traceback."""
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_PlainFormatter("%(levelname)s %(name)s: %(message)s"))
    try:
        with stoppable(*EXIT_CODES):
            yield
    except UserError as error:
        if verbose:
            logging.exception("the run stopped")
        echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt as error:
        stopped = error if isinstance(error, Stopped) else Stopped(signal.SIGINT)
        echo(str(stopped), err=True)
        sys.exit(stopped.exit_code)
    except BrokenPipeError:
        # whoever read the output has had enough; Python would complain once more at its end
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        sys.exit(EXIT_SIGNAL + signal.SIGPIPE)
