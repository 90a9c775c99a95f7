"""Progress of statements and jobs, in terminals and notebooks."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

_BAR = 24
_DELAY = 0.5


def _in_notebook() -> bool:
    shell = sys.modules.get("IPython")
    if shell is None:
        return False
    running = shell.get_ipython()
    return running is not None and type(running).__name__ == "ZMQInteractiveShell"


def line(progress: dict[str, Any], elapsed: float) -> str:
    """Returns one line about a statement or a job."""
    tasks, done = progress.get("tasks", 0), progress.get("tasks_done", 0)
    if not tasks:
        return f"{progress.get('state') or 'planning'}  {elapsed:.1f} s"
    full = min(_BAR, _BAR * done // tasks)
    rows = progress.get("rows", 0)
    return f"[{'█' * full}{'░' * (_BAR - full)}] tasks {done}/{tasks}  {rows:,} rows  {elapsed:.1f} s"


class Display:
    """Shows progress, if somebody looks: a terminal, or a notebook. Short statements show nothing."""

    def __init__(self, show: bool | None = None) -> None:
        self._notebook = _in_notebook()
        self._show = show if show is not None else self._notebook or sys.stderr.isatty()
        self._started = time.monotonic()
        self._shown = 0
        self._handle: Any = None

    def update(self, progress: dict[str, Any]) -> None:
        elapsed = time.monotonic() - self._started
        if not self._show or elapsed < _DELAY:
            return
        text = line(progress, elapsed)
        if self._notebook:
            from IPython.display import Pretty, display  # type: ignore[import-not-found,unused-ignore]

            if self._handle is None:
                self._handle = display(Pretty(text), display_id=True)
            else:
                self._handle.update(Pretty(text))
            return
        sys.stderr.write("\r" + text.ljust(self._shown))
        sys.stderr.flush()
        self._shown = len(text)

    def callback(self) -> Callable[[str | None], None] | None:
        """Returns what the native module calls, if anybody looks: with news, or with None."""
        return (lambda news: self.update(json.loads(news)) if news is not None else None) if self._show else None

    def clear(self) -> None:
        if self._shown:
            sys.stderr.write("\r" + " " * self._shown + "\r")
            sys.stderr.flush()
            self._shown = 0
