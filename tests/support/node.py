"""Programs run by Node: the pages' modules, a few lines of JavaScript, packages from npm."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from live.pages.assets import FOLDER

NODE = shutil.which("node")
NODE_SECONDS = 30
NPM_SECONDS = 60

Run = Callable[[str], Any]  # what JSON says


def module_runner(folder: Path) -> Run:
    """Copy `live/pages/static` to `folder`, beside a package.json that says "module".

    The answer runs lines of JavaScript there; `out(value)` at their end is the result.
    """
    shutil.copytree(FOLDER, folder, dirs_exist_ok=True)
    (folder / "package.json").write_text('{"type": "module"}')

    def run_lines(lines: str) -> Any:
        script = folder / "test.js"
        script.write_text(f"const out = (v) => console.log(JSON.stringify(v));\n{lines}")
        assert NODE is not None
        done = subprocess.run(
            [NODE, "--experimental-vm-modules", "--no-warnings", str(script)],
            capture_output=True,
            text=True,
            timeout=NODE_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run_lines


def install(folder: Path, package: str) -> None:
    """Have npm install a package below `folder`; where that is not possible the test is skipped."""
    npm = shutil.which("npm")
    if npm is None or NODE is None:
        pytest.skip(f"node and npm are needed for {package}")
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]
    try:
        done = subprocess.run(
            [*command, str(folder), package], capture_output=True, text=True, timeout=NPM_SECONDS
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm did not install {package} in time")
    if done.returncode:
        pytest.skip(f"npm could not install {package}: {done.stderr[-200:]}")


def run_node(script: Path, text: str) -> str:
    """What a script prints that reads `text`."""
    assert NODE is not None
    done = subprocess.run(
        [NODE, str(script)], input=text, capture_output=True, text=True, timeout=NODE_SECONDS
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
