"""What can go wrong: by a mistake that a person can repair, or by one of ours."""


class UserError(Exception):
    """What is wrong, what was expected, and what to do about it, in a message for a person.

    The command line prints the message without a traceback and exits with code 2.
    """


class RayLostError(UserError):
    """Ray's own processes died in the middle of a run: no mistake, but nothing to go on with."""


class StageError(RuntimeError):
    """A fault of ours in a worker: which stage, data set and samples it happened at."""
