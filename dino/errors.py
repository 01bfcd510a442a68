"""Errors that a person can cause, and the exit statuses that tell schedulers what happened."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

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


def explain_validation(error: ValidationError, model: type[BaseModel]) -> str:
    """The first problem of a pydantic error, as part of a sentence."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown key '{key}'{suggest(key.split('.')[-1], model.model_fields)}"
    message = first["msg"].removeprefix("Value error, ")
    return f"'{key}': {message[0].lower()}{message[1:]} (got {first['input']!r})" if key else message


def suggest(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for the nearest known word, or nothing."""
    nearest = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean '{nearest[0]}'?" if nearest else ""
