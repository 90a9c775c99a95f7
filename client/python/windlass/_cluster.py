"""A cluster on this machine that lives as long as its session."""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ._errors import InvalidError, UnavailableError

_START = 60.0
_STOP = 20.0


def binary() -> str:
    """Returns the path of the ``windlass`` command: that of WINDLASS_BINARY, of this package, or of PATH."""
    named = os.environ.get("WINDLASS_BINARY")
    if named:
        return named
    carried = Path(__file__).with_name("bin") / "windlass"
    if carried.exists():
        return str(carried)
    found = shutil.which("windlass")
    if found:
        return found
    raise InvalidError(
        "there is no 'windlass' command: install the package from a wheel, put the command into PATH, or name it with WINDLASS_BINARY"
    )


def _ends_with_parent() -> None:
    # Linux tells a process that its parent has ended, even if that was killed.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


class LocalCluster:
    """A primary, and one executor that it starts. Everything lies in a folder, a temporary one by default."""

    def __init__(self, folder: str | os.PathLike[str] | None, slots: int | None, memory: str | None) -> None:
        self._temporary = None if folder is not None else tempfile.mkdtemp(prefix="windlass-")
        self.folder = Path(folder if folder is not None else str(self._temporary)).absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        ready, log = self.folder / "ready.json", self.folder / "log"
        ready.unlink(missing_ok=True)
        command = [binary(), "primary", "--listen", "127.0.0.1:0", "--rest", "127.0.0.1:0"]
        command += ["--dir", str(self.folder / "primary"), "--warehouse", str(self.folder / "warehouse")]
        command += ["--min-executors", "1", "--max-executors", "1", "--executor-dir", str(self.folder / "executors")]
        command += ["--executor-slots", str(slots or os.cpu_count() or 1), "--ready-file", str(ready)]
        if memory is not None:
            command += ["--executor-memory", memory]
        with open(log, "ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_ends_with_parent,
            )
        atexit.register(self.stop)
        try:
            self.url = self._address(ready, log)
        except BaseException:
            self.stop()
            raise

    def _address(self, ready: Path, log: Path) -> str:
        until = time.monotonic() + _START
        while time.monotonic() < until:
            if self._process.poll() is not None:
                last = log.read_text(errors="replace").strip().splitlines()[-1:]
                raise UnavailableError(f"the cluster did not start: {' '.join(last)}; its log is {log}")
            if ready.exists() and ready.stat().st_size > 0:
                return str(json.loads(ready.read_text())["url"])
            time.sleep(0.01)
        raise UnavailableError(f"the cluster did not start in {_START:.0f} s: its log is {log}")

    def stop(self) -> None:
        """Ends the processes, and removes the temporary folder."""
        atexit.unregister(self.stop)
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STOP)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None
