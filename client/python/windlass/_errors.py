"""Errors of a cluster, by kind."""

from __future__ import annotations

import re


class Error(Exception):
    """An error of a cluster, of the connection to it, or of an argument.

    Attributes:
        kind: What is wrong, as a word: "syntax", "not_found", "busy", …
        retryable: Whether the same call may succeed later and is safe to repeat, because it had no effect.
    """

    kind: str = "internal"
    retryable: bool = False


class InvalidError(Error):
    """The statement, its data or an argument is wrong."""

    kind = "usage"


class NotFoundError(Error):
    """A table, column, schema, option, job or result does not exist."""

    kind = "not_found"


class AlreadyExistsError(Error):
    """There is something of this name already."""

    kind = "already_exists"


class UnsupportedError(Error):
    """Windlass does not do this."""

    kind = "unsupported"


class CancelledError(Error):
    """The statement was cancelled."""

    kind = "cancelled"


class TimedOutError(Error):
    """The time limit was exceeded."""

    kind = "timed_out"


class ResourceError(Error):
    """Memory, disk or a limit does not suffice."""

    kind = "exhausted"


class UnavailableError(Error):
    """No cluster answers, or none can run it at present."""

    kind = "unavailable"


class DeniedError(Error):
    """The permission is missing."""

    kind = "denied"


class OutcomeUnknownError(Error):
    """Nobody knows whether the effect happened."""

    kind = "outcome_unknown"


class InternalError(Error):
    """A defect, or a failing disk or network."""


_CLASSES: dict[str, type[Error]] = {
    "syntax": InvalidError,
    "invalid": InvalidError,
    "usage": InvalidError,
    "unknown_option": NotFoundError,
    "not_found": NotFoundError,
    "unknown_job": NotFoundError,
    "result_lost": NotFoundError,
    "session_lost": NotFoundError,
    "already_exists": AlreadyExistsError,
    "unsupported": UnsupportedError,
    "cancelled": CancelledError,
    "timed_out": TimedOutError,
    "out_of_memory": ResourceError,
    "exhausted": ResourceError,
    "busy": UnavailableError,
    "not_leading": UnavailableError,
    "unavailable": UnavailableError,
    "unreachable": UnavailableError,
    "version": UnavailableError,
    "denied": DeniedError,
    "outcome_unknown": OutcomeUnknownError,
}


# Advice of the client for the command line, and the same for Python.
_ADVICE = (
    (re.compile(r"give one with --param (\d+)=VALUE"), "params has a value for each placeholder, in order"),
    (re.compile(r"give one with --param (\w+)=VALUE"), r"give one in params, as in {'\1': value}"),
    (re.compile(r"correct --url"), "correct the address"),
    (re.compile(r"look at 'windlass jobs list'"), "look at session.jobs()"),
    (re.compile(r"look at 'windlass cluster status'"), "look at session.status()"),
    (re.compile(r"as 'windlass jobs list' prints it"), "as session.jobs() has it"),
    (re.compile(r"see 'windlass jobs list'"), "see session.jobs()"),
)


def made(kind: str, message: str, retryable: bool) -> Error:
    """Returns the exception for an error of the native module."""
    for of_command, of_python in _ADVICE:
        message = of_command.sub(of_python, message)
    error = _CLASSES.get(kind, InternalError)(message)
    error.kind = kind
    error.retryable = retryable
    return error
