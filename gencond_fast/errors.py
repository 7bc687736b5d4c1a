"""The two errors that a user meets: the input is wrong, or the run failed."""

from __future__ import annotations


class InputError(ValueError):
    """The user gave something wrong; the command line exits with code 2.

    The message is one sentence: it names the file, class or option, and says what to do.
    """


class RunError(Exception):
    """A run failed although its input is right; the command line exits with code 1."""
