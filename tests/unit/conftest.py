"""Fixtures of the unit tests."""

import pytest

from tests.support.node import NODE, Run, module_runner


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run lines of JavaScript beside the pages' modules."""
    if NODE is None:
        pytest.skip("node is not on PATH: static modules not run")
    return module_runner(tmp_path_factory.mktemp("static"))
