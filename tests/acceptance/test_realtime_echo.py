"""The echo behind both doors works, so that Autobahn finds it working wherever it can be had."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.raw import Raw, frame


@pytest.fixture(scope="module", params=["front", "asgi"])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    options = ["--asgi"] if request.param == "asgi" else []
    command = [sys.executable, "-m", "tests.support.echo_app", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield int(server.stdout.readline().removeprefix("listening "))
        server.terminate()


async def test_messages_of_both_kinds_come_back(port: int) -> None:
    """Whole ones, in parts, with a ping between them."""
    raw = await Raw.upgraded(port)
    raw.writer.write(frame(0x81, b"text") + frame(0x82, b"\xff"))
    assert await raw.read_frame() == (0x1, b"text")
    assert await raw.read_frame() == (0x2, b"\xff")
    raw.writer.write(frame(0x02, b"par") + frame(0x89, b"?") + frame(0x80, b"ts"))
    assert await raw.read_frame() == (0xA, b"?")
    assert await raw.read_frame() == (0x2, b"parts")
    await raw.close()


async def test_it_closes_as_asked(port: int) -> None:
    """With the peer's code; with 1007 for what is no text."""
    raw = await Raw.upgraded(port)
    raw.writer.write(frame(0x88, b"\x03\xe8"))
    assert (await raw.closed())[0] == 1000
    await raw.close()
    raw = await Raw.upgraded(port)
    raw.writer.write(frame(0x81, b"\xff"))
    assert (await raw.closed())[0] == 1007
    await raw.close()
