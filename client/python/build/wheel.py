"""Builds the wheel: the native module by maturin, and the ``windlass`` command beside it.

WINDLASS_BUILD_PROFILE is the profile of cargo, ``release`` by default.
"""

import os
import shutil
import subprocess
from pathlib import Path

import maturin

PACKAGE = Path(__file__).resolve().parent.parent
PROFILE = os.environ.get("WINDLASS_BUILD_PROFILE", "release")


def _carry_the_command() -> None:
    tree = PACKAGE.parent.parent
    # The whole workspace, so that its other builds are used.
    subprocess.run(["cargo", "build", "--workspace", "--bin", "windlass", "--profile", PROFILE], cwd=tree, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", tree / "target"))
    built = target / ("debug" if PROFILE == "dev" else PROFILE) / "windlass"
    carried = PACKAGE / "windlass" / "bin" / "windlass"
    carried.parent.mkdir(exist_ok=True)
    carried.unlink(missing_ok=True)
    shutil.copy2(built, carried)
    if shutil.which("strip"):
        subprocess.run(["strip", str(carried)], check=True)


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    _carry_the_command()
    os.environ["MATURIN_PEP517_ARGS"] = f"--profile {PROFILE}"
    return maturin.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_sdist(sdist_directory, config_settings=None):
    raise RuntimeError("the package is built from the tree of Windlass: there is no source distribution")


get_requires_for_build_wheel = maturin.get_requires_for_build_wheel
prepare_metadata_for_build_wheel = maturin.prepare_metadata_for_build_wheel
