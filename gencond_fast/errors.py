"""The two kinds of error a user meets: their input is wrong, or the run failed."""

from __future__ import annotations


class InputError(Exception):
    """Something the user gave is wrong; the command line exits with code 2.

    The message is one sentence that names the file, class or option and says what to do.
    """


class RunError(Exception):
    """A run failed through no fault of its input; the command line exits with code 1."""
