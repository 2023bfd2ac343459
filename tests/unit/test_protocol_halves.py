"""Half a character in a client's JSON: they are told which field it was, and stay."""

import json

import centrifuge.protocol.client_pb2 as pb
import pytest

from live.protocol import commands as c
from live.protocol.codec import FrameError
from live.protocol.codec_json import JSON
from live.protocol.codec_protobuf import PROTOBUF
from live.protocol.codes import Failure
from tests.support.session_kit import connected

HALF, OTHER_HALF, WHOLE = r"\ud83d", r"\ude00", r"\ud83d\ude00"
DATA = [
    ('{"text":"hi %s there"}', "text"),
    ('{"text":"%s"}', "text"),
    ('{"contact":{"name":"A","email":"%s"}}', "contact.email"),
    ('{"items":[{"offer":"a"},{"offer":"%s"}]}', "items.offer"),
    ('{"contact":{"%s":"x"}}', "contact"),
    ('{"%s":1}', "data"),
    ('"%s"', "data"),
    ('["", ["%s"]]', "data"),
]
ENVELOPES = [
    ('{"id":7,"subscribe":{"channel":"%s"}}', "channel"),
    ('{"id":7,"refresh":{"token":"%s"}}', "token"),
    ('{"id":7,"history":{"channel":"a","since":{"epoch":"%s"}}}', "since.epoch"),
    ('{"id":7,"subscribe":{"%s":1}}', "subscribe"),
    ('{"id":7,"later":"%s"}', "later"),
]


def malformed(frame: str) -> c.Malformed:
    (command,) = JSON.decode(frame.encode())
    assert command.id == 7
    assert isinstance(command.body, c.Malformed), command
    return command.body


@pytest.mark.parametrize("half", [HALF, OTHER_HALF, OTHER_HALF + HALF, HALF + "x", HALF + r"A"])
@pytest.mark.parametrize(("data", "field"), DATA)
@pytest.mark.parametrize("method", ["rpc", "publish"])
def test_half_a_character_in_data_names_the_field(
    method: str, data: str, field: str, half: str
) -> None:
    """As the application's own bad fields: error 1400, the field first."""
    body = malformed(f'{{"id":7,"{method}":{{"data":{data % half}}}}}')
    assert body.in_data
    assert body.fault.partition(": ")[0] == field


@pytest.mark.parametrize(("frame", "field"), ENVELOPES)
def test_half_a_character_elsewhere_names_the_field(frame: str, field: str) -> None:
    """As any other bad field of a command: error 107."""
    body = malformed(frame % HALF)
    assert not body.in_data
    assert body.fault.partition(": ")[0] == field


@pytest.mark.parametrize(("data", "field"), DATA)
def test_protobuf_says_the_same(data: str, field: str) -> None:
    """Its data is the same JSON."""
    request = pb.PublishRequest(channel="a", data=(data % HALF).encode())
    message = pb.Command(id=7, publish=request).SerializeToString()
    (command,) = PROTOBUF.decode(bytes((len(message),)) + message)
    assert isinstance(command.body, c.Malformed)
    assert command.body.in_data
    assert command.body.fault.partition(": ")[0] == field


def test_whole_characters_pass() -> None:
    """Written as two escapes."""
    (command,) = JSON.decode(b'{"id":7,"publish":{"data":"%s"}}' % WHOLE.encode())
    assert isinstance(command.body, c.PublishRequest)
    assert json.loads(bytes(command.body.data)) == "\U0001f600"


@pytest.mark.parametrize(
    "frame",
    [
        '{"id":7,"publish":{"data":"%s"}',
        '{"publish":{"data":"%s"}}',
        '{"id":true,"publish":{"data":"%s"}}',
        '{"id":-1,"publish":{"data":"%s"}}',
        '["%s"]',
        '{"id":7,"publish":{"data":' + "[" * 5_000 + '"%s"' + "]" * 5_000 + "}}",
    ],
    ids=["cut off", "no id", "a flag as id", "negative id", "no object", "too deep"],
)
def test_what_is_no_command_besides_is_a_frame_error(frame: str) -> None:
    """Nobody can be told."""
    with pytest.raises(FrameError):
        JSON.decode((frame % HALF).encode())


@pytest.mark.parametrize(
    ("frame", "failure"),
    [
        (r'{"id":7,"rpc":{"data":{"text":"\ud83d"}}}', (1400, "text: ")),
        (r'{"id":7,"subscribe":{"channel":"\ud83d"}}', (107, "bad request: channel: ")),
    ],
)
def test_connection_stays(frame: str, failure: tuple[int, str]) -> None:
    """A buyer in the middle of a checkout is told, not sent away."""
    line = connected()
    line.session.receive(frame.encode())
    (reply,) = line.peer.replies()
    error = reply["error"]
    assert isinstance(error, dict)
    assert reply["id"] == 7
    assert error["code"] == failure[0] and error["message"].startswith(failure[1])
    assert Failure(error["code"], error["message"]).temporary is False
    assert line.peer.closed is None
