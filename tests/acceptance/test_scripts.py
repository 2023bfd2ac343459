"""The scripts on a machine with little: what they need, what they say, and what they become.

Method: a copy of the scripts in a directory with a space, with stand-ins for uv and Python first on
an otherwise empty PATH, so that nothing is installed here. The real way is CI's own first step.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("sh", "dirname", "rm", "cat", "env", "mkdir", "chmod")

UV = """#!/bin/sh
case "$1" in
--version) echo "uv 0.0.0" ;;
sync)
    echo "uv $*" >>calls
    mkdir -p .venv/bin
    for name in live python; do
        printf '#!/bin/sh\\necho "$$ %s $*" >>calls\\nexit 7\\n' $name >.venv/bin/$name
        chmod +x .venv/bin/$name
    done ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    copy = tmp_path / "a checkout"
    shutil.copytree(ROOT / "scripts", copy / "scripts")
    shutil.copytree(ROOT / ".ci", copy / ".ci")
    return copy


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A PATH with the least that a Unix has, and no Python."""
    place = tmp_path / "bin"
    place.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found is not None
        (place / name).symlink_to(found)
    return place


def _stand_in(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def _python(tools: Path, name: str = "python3") -> None:
    _stand_in(tools / name, f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')


def _run(
    checkout: Path, tools: Path, script: str, *arguments: str, **variables: str
) -> tuple[int, int, str]:
    """Return process id, exit code and standard error."""
    child = subprocess.Popen(
        [checkout / script, *arguments],
        env={"PATH": str(tools), "HOME": str(checkout), **variables},
        cwd="/",
        stderr=subprocess.PIPE,
        text=True,
    )
    _, said = child.communicate()
    return child.pid, child.returncode, said


def test_demo_becomes_the_command(checkout: Path, tools: Path) -> None:
    """One process from script to command, arguments as they were given, its exit code passed on."""
    _python(tools)
    _stand_in(tools / "uv", UV)

    pid, code, _ = _run(checkout, tools, "scripts/demo", "--once", "two words")

    synced, became = (checkout / "calls").read_text().splitlines()
    assert synced == "uv sync --frozen --quiet --inexact --no-dev --extra engines"
    assert became == f"{pid} live demo --once two words"
    assert code == 7


@pytest.mark.parametrize("script", ["scripts/test", ".ci/run"])
def test_tests_become_pytest(checkout: Path, tools: Path, script: str) -> None:
    """The suite runs with all tools and engines, and its exit code is the script's."""
    _python(tools)
    _stand_in(tools / "uv", UV)

    pid, code, _ = _run(checkout, tools, script, "-k", "x y")

    synced, became = (checkout / "calls").read_text().splitlines()
    assert synced == "uv sync --frozen --quiet --extra engines"
    assert became == f"{pid} python -m pytest -n 5 --dist loadfile -k x y"
    assert code == 7


def test_newer_python_under_another_name_is_found(checkout: Path, tools: Path) -> None:
    """An old `python3` is passed over for a `python3.13` beside it."""
    _stand_in(tools / "python3", "#!/bin/sh\nexit 1\n")
    _python(tools, "python3.13")
    _stand_in(tools / "uv", UV.replace('"uv $*"', '"with $UV_PYTHON"'))

    _run(checkout, tools, "scripts/demo")

    assert (checkout / "calls").read_text().splitlines()[0] == f"with {tools / 'python3.13'}"


def test_chosen_python_is_used(checkout: Path, tools: Path) -> None:
    """UV_PYTHON is the user's word, in a fresh checkout and where there is an environment."""
    _python(tools)
    _stand_in(tools / "uv", UV.replace('"uv $*"', '"with $UV_PYTHON"'))

    _run(checkout, tools, "scripts/demo", UV_PYTHON="3.13")
    _run(checkout, tools, "scripts/demo", UV_PYTHON="3.13")

    told = (checkout / "calls").read_text().splitlines()
    assert [line for line in told if line.startswith("with")] == ["with 3.13"] * 2


def test_missing_python_is_named(checkout: Path, tools: Path) -> None:
    """Without Python 3.11 the script says so, and how to get it, and does nothing."""
    _stand_in(tools / "python3", "#!/bin/sh\nexit 1\n")
    _stand_in(tools / "uv", UV)

    _, code, said = _run(checkout, tools, "scripts/demo")

    assert code == 1
    assert "Python 3.11 or later is needed" in said
    assert "apt install" in said
    assert not (checkout / "calls").exists()


def test_missing_venv_and_pip_are_named(checkout: Path, tools: Path) -> None:
    """A Python that can install nothing is named with what it lacks; no half-made folder stays."""
    _stand_in(
        tools / "python3",
        '#!/bin/sh\n[ "$1" = -c ] && exit 0\necho "No module named $2" >&2\nexit 1\n',
    )

    _, code, said = _run(checkout, tools, "scripts/demo")

    assert code == 1
    assert "No module named pip" in said
    assert "python3-venv" in said
    assert not (checkout / ".boot").exists()


@pytest.mark.parametrize("way", ["venv", "target"])
def test_uv_is_installed_where_it_is_missing(checkout: Path, tools: Path, way: str) -> None:
    """First into a virtual environment, else into a plain folder; both end in .boot/bin/uv."""
    installs = f"mkdir -p .boot/bin; cat >.boot/bin/uv <<'END'\n{UV}END\nchmod +x .boot/bin/uv\n"
    if way == "venv":
        pip = f"cat >.boot/bin/python <<'PY'\n#!/bin/sh\n{installs}PY\nchmod +x .boot/bin/python\n"
        body = f'[ "$2" = venv ] || exit 1\nmkdir -p .boot/bin\n{pip}'
    else:
        body = f'[ "$2 $3" = "pip install" ] || exit 1\n{installs}'
    _stand_in(tools / "python3", f'#!/bin/sh\n[ "$1" = -c ] && exit 0\n{body}')

    _, code, said = _run(checkout, tools, "scripts/demo")

    assert (code, said) == (7, "")
    assert os.access(checkout / ".boot" / "bin" / "uv", os.X_OK)
    assert sorted(path.name for path in checkout.glob(".boot*")) == [".boot"]


def test_scripts_are_executable_in_git() -> None:
    """A fresh clone can run them; git keeps that bit, and only for these."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-s", "scripts", ".ci"],
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("this is no git checkout")
    modes = {line.split()[3]: line.split()[0] for line in listed.stdout.splitlines()}

    runnable = {path for path, mode in modes.items() if mode == "100755"}

    names = ("check", "demo", "lint", "protobuf", "test")
    assert runnable == {".ci/run", *(f"scripts/{name}" for name in names)}
