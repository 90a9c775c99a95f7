"""Jobs and submissions: what runs on the cluster, and how it ended."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from ._errors import made
from ._progress import Display

if TYPE_CHECKING:
    from ._session import Session

_ENDED = ("finished", "failed", "cancelled")


class Job:
    """A job, or a submission with its jobs. It goes on without this process."""

    def __init__(self, session: Session, id: str) -> None:
        self._session = session
        self.id = id

    def __repr__(self) -> str:
        return f"<windlass.Job {self.id}>"

    def details(self) -> dict[str, Any]:
        """Returns all that the cluster knows of it: state, times, rows, stages with their plans, jobs of a submission."""
        details: dict[str, Any] = json.loads(self._session._native.job(self.id))
        return details

    @property
    def state(self) -> str:
        """queued, running, finished, failed or cancelled."""
        return str(self.details()["state"])

    def logs(self) -> list[str]:
        """Returns what happened to it, a line each."""
        return list(self._session._native.job_logs(self.id))

    def cancel(self) -> str:
        """Asks for its end, and returns the state in which it was."""
        return str(self._session._native.cancel_job(self.id))

    def wait(self, timeout: float | None = None, progress: bool | None = None) -> Job:
        """Waits until it has finished.

        Raises:
            Error: It failed or was cancelled.
            TimedOutError: It has not ended after ``timeout`` seconds. It goes on.
        """
        started, pause = time.monotonic(), 0.02
        display = Display(progress)
        try:
            while True:
                details = self.details()
                if details["state"] in _ENDED:
                    break
                if timeout is not None and time.monotonic() - started > timeout:
                    raise made("timed_out", f"{self.id} has not ended after {timeout} s, and goes on", False)
                display.update(details)
                time.sleep(pause)
                pause = min(0.5, pause * 1.5)
        finally:
            display.clear()
        if details["state"] == "failed":
            raise made("invalid", details.get("error") or f"{self.id} failed", False)
        if details["state"] == "cancelled":
            raise made("cancelled", f"{self.id} was cancelled", False)
        return self

