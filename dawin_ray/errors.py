"""The one exception that stands for a mistake a person can repair."""


class UserError(Exception):
    """What is wrong, what was expected, and what to do about it, in a message for a person.

    The command line prints the message without a traceback and exits with code 2.
    """
