"""The pages' modules run by Node: a few lines of JavaScript, and what they print as JSON."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from live.pages.assets import FOLDER

NODE = shutil.which("node")
NODE_SECONDS = 30

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
