"""Types at the prompt of `windlass sql` as a person at a terminal does: prompt.py WINDLASS HOME"""

import os
import pty
import re
import select
import signal
import sys
import time

PATIENCE = 60
PASTED = "select 1234 + 21;\nselect 1234 + 22;\nselect\n  1234 + 23\n;\n\\timing\nselect 1234 + 24;\n"


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, command, environment):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(command[0], command, environment)
        self.seen = ""

    def type(self, text):
        os.write(self.fd, text.encode())

    def wait_for(self, pattern):
        """Reads until the pattern appears behind what was waited for before."""
        end = time.monotonic() + PATIENCE
        while not (found := re.search(pattern, self.seen)):
            left = end - time.monotonic()
            ready = select.select([self.fd], [], [], max(left, 0))[0]
            if not ready:
                sys.exit(f"{pattern!r} did not appear; on the terminal is: {self.seen!r}")
            try:
                self.seen += os.read(self.fd, 65536).decode(errors="replace")
            except OSError:
                sys.exit(f"the program ended before {pattern!r} appeared: {self.seen!r}")
        self.seen = self.seen[found.end() :]

    def ends(self):
        """Its exit code, after what it still prints."""
        end = time.monotonic() + PATIENCE
        while select.select([self.fd], [], [], max(end - time.monotonic(), 0))[0]:
            try:
                self.seen += os.read(self.fd, 65536).decode(errors="replace")
            except OSError:
                return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        sys.exit(f"the program does not end; on the terminal is: {self.seen!r}")


def prompt(windlass, home):
    environment = {"HOME": home, "TERM": "xterm", "PATH": os.environ["PATH"]}
    terminal = Terminal([windlass, "sql"], environment)
    terminal.wait_for("windlass> ")
    return terminal


def main(windlass, home):
    first = prompt(windlass, home)
    # All at once, before the first answer.
    first.type(PASTED)
    for answer in [r"\b1255\b", r"\b1256\b", r"\b1257\b", "timing is off", r"\b1258\b"]:
        first.wait_for(answer)
    # Words are completed, and what is typed while a statement runs is kept.
    first.type("sel\t 4000 + 1;\nselect 4000 + 2;\n")
    first.wait_for(r"\b4001\b")
    first.wait_for(r"\b4002\b")
    # Ctrl-C ends the statement, not the program.
    first.type("select count(*) from generate_series(1, 10000000) a cross join generate_series(1, 1000000) b;\n")
    first.wait_for("stages")
    first.type("\x03")
    first.wait_for("cancelled")
    first.type("select 4000 + 3;\n")
    first.wait_for(r"\b4003\b")
    # Before the prompt is there, the end of input is the terminal's to interpret, and goes with its line discipline.
    first.wait_for("windlass> ")
    first.type("\x04")
    if code := first.ends():
        sys.exit(f"Ctrl-D ends the prompt with exit code {code}")
    # The next one remembers.
    second = prompt(windlass, home)
    second.type("\x1b[A")
    second.wait_for(r"select 4000 \+ 3;")
    second.type("\n")
    second.wait_for(r"\b4003\b")
    second.type("\\q\n")
    if code := second.ends():
        sys.exit(f"\\q ends the prompt with exit code {code}")
    print("ok")


signal.alarm(5 * PATIENCE)
main(*sys.argv[1:])
