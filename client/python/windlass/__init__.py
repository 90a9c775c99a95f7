"""Windlass from Python: SQL over a cluster, or over one that this process starts.

    import windlass

    with windlass.connect() as session:
        session.load(frame, "readings")
        print(session.sql("SELECT sensor, avg(value) AS value FROM readings GROUP BY sensor").pandas())
"""

from ._errors import (
    AlreadyExistsError,
    CancelledError,
    DeniedError,
    Error,
    InternalError,
    InvalidError,
    NotFoundError,
    OutcomeUnknownError,
    ResourceError,
    TimedOutError,
    UnavailableError,
    UnsupportedError,
)
from ._jobs import Job
from ._native import version as __version__
from ._result import Result
from ._session import Session, connect

__all__ = [
    "AlreadyExistsError",
    "CancelledError",
    "DeniedError",
    "Error",
    "InternalError",
    "InvalidError",
    "Job",
    "NotFoundError",
    "OutcomeUnknownError",
    "ResourceError",
    "Result",
    "Session",
    "TimedOutError",
    "UnavailableError",
    "UnsupportedError",
    "__version__",
    "connect",
]
