"""What can go wrong: by a mistake that a person can repair, or by one of ours."""

from __future__ import annotations


class UserError(Exception):
    """What is wrong, what was expected, and what to do about it, in a message for a person.

    The command line prints the message without a traceback and ends with `exit_code`.
    """

    exit_code = 2


class RayLostError(UserError):
    """Ray's own processes died in the middle of a run: no mistake, but nothing to go on with."""

    exit_code = 5  # the same command goes on


class StageError(RuntimeError):
    """A fault of ours in a worker: which stage, data set and samples it happened at."""


class DamagedFileError(UserError):
    """A file that a run wrote is not what was written: cut, changed, or of a failing disk."""

    def __init__(self, path: str, reason: str):
        """Both are the exception's arguments, so that it comes whole from another process."""
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        """What is wrong with which file, and what to do."""
        return (
            f"The file {self.path!r} of the run is damaged: {self.reason}. Restore it from a copy, "
            "or start the run anew with --restart."
        )
