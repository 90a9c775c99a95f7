"""A cluster on this machine that lives as long as its session."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
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


# Waits until nobody has the other end of its input, which is when this process has ended, however it did. Then it ends the primary ($1) and what that has
# left behind, and removes the temporary folder ($3). $2 is the cluster's folder.
_WATCH = """
cat >/dev/null
kill -TERM "$1" 2>/dev/null
tries=0
while kill -0 "$1" 2>/dev/null && [ $tries -lt 200 ]; do sleep 0.1; tries=$((tries + 1)); done
kill -KILL "$1" 2>/dev/null
for process in /proc/[0-9]*; do
    [ "$process" = "/proc/$$" ] && continue
    tr '\\0' ' ' <"$process/cmdline" 2>/dev/null | grep -qF -- "$2/executors" || continue
    kill -KILL "${process#/proc/}"
    tries=0
    while kill -0 "${process#/proc/}" 2>/dev/null && [ $tries -lt 50 ]; do sleep 0.1; tries=$((tries + 1)); done
done
[ -z "$3" ] || rm -rf -- "$3"
"""


class LocalCluster:
    """A primary, and one executor that it starts. Everything lies in a folder, a temporary one by default."""

    def __init__(self, folder: str | os.PathLike[str] | None, slots: int | None, memory: str | None) -> None:
        if slots is not None and slots < 1:
            raise InvalidError(f"slots is {slots}: a cluster runs at least one task at a time")
        if folder is not None and not os.fspath(folder):
            raise InvalidError("folder is empty: name a folder, or leave it out for a temporary one")
        command = [binary(), "primary", "--listen", "127.0.0.1:0", "--rest", "127.0.0.1:0"]
        self._temporary = None if folder is not None else tempfile.mkdtemp(prefix="windlass-")
        self.folder = Path(folder if folder is not None else str(self._temporary)).absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        ready, log = self.folder / "ready.json", self.folder / "log"
        ready.unlink(missing_ok=True)
        command += ["--dir", str(self.folder / "primary"), "--warehouse", str(self.folder / "warehouse")]
        command += ["--min-executors", "1", "--max-executors", "1", "--executor-dir", str(self.folder / "executors")]
        command += ["--executor-slots", str(slots or os.cpu_count() or 1), "--ready-file", str(ready)]
        if memory is not None:
            command += ["--executor-memory", memory]
        try:
            with open(log, "ab") as output:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
                )
        except OSError as error:
            self._forget_folder()
            raise UnavailableError(f"the cluster did not start: {error}") from error
        self._watch = subprocess.Popen(
            ["/bin/sh", "-c", _WATCH, "windlass", str(self._process.pid), str(self.folder), self._temporary or ""],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            self.url = self._address(ready, log)
        except BaseException:
            self.stop()
            raise

    def _address(self, ready: Path, log: Path) -> str:
        until = time.monotonic() + _START
        while time.monotonic() < until:
            if self._process.poll() is not None:
                said = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
                raise UnavailableError(f"the cluster did not start: {'; '.join(said[-5:]) or command_of(self._process)}")
            if ready.exists() and ready.stat().st_size > 0:
                return str(json.loads(ready.read_text())["url"])
            time.sleep(0.01)
        raise UnavailableError(f"the cluster did not start in {_START:.0f} s: {log.read_text(errors='replace')[-500:]}")

    def stop(self) -> None:
        """Ends the processes, and removes the temporary folder."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STOP)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._watch.stdin is not None:
            self._watch.stdin.close()
        self._watch.wait()

    def _forget_folder(self) -> None:
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)


def command_of(process: subprocess.Popen[bytes]) -> str:
    return f"{process.args!r} ended with {process.returncode} and said nothing"
