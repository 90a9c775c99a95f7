"""The ``windlass`` command that the wheel carries."""

from __future__ import annotations

import os
import sys

from ._cluster import binary


def main() -> None:
    command = binary()
    os.execv(command, [command, *sys.argv[1:]])
