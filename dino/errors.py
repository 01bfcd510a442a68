"""Errors that a person can cause, and the exit statuses that tell schedulers what happened."""

EXIT_USER_ERROR = 2
"""A mistake a person can mend: one sentence on stderr, no traceback."""

EXIT_DIVERGED = 1
"""The run's own numbers made going on pointless (NaN or infinite loss); one message, no traceback."""

EXIT_REQUEUE = 75
"""EX_TEMPFAIL: state was saved after SIGTERM or SIGUSR2; run the same command again to go on."""


class UserError(Exception):
    """A mistake in the input; its message is one sentence that names the thing and the way out."""


class Interrupted(BaseException):
    """A signal asked the run to stop and its state has been saved; becomes exit status 75.

    Like KeyboardInterrupt it may come at any time, and no code that expects errors takes it for one.
    """


class DivergenceError(Exception):
    """A training stopped being finite; the message names step, quantity and likely causes. Exit status 1."""
