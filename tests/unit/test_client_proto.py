"""client.proto is what the codec speaks: what was made from it is up to date, its numbers are those
of the protocol as the SDK has it."""

import subprocess
import sys
from pathlib import Path

import centrifuge.protocol.client_pb2 as theirs
import pytest
from google.protobuf.descriptor import Descriptor

from live.protocol import client_pb2 as ours

ROOT = Path(__file__).parents[2]
MADE = ("live/protocol/client_pb2.py", "live/protocol/client_pb2.pyi")
NAMES = {"RpcRequest": "RPCRequest", "RpcResult": "RPCResult"}
"""What they call otherwise; names do not travel."""
OPAQUE = {("SubscribeRequest", "tf")}
"""A message whose bytes nobody here reads."""
LATER = {("SubscribeRequest", "type")} | {
    ("PublishRequest", one) for one in ("type", "key", "removed")
}
"""Newer than the SDK's copy of the protocol."""


def test_generated_modules_are_those_of_the_proto(tmp_path: Path) -> None:
    """scripts/protobuf was run after the last change of client.proto."""
    made = [f"--python_out={tmp_path}", f"--pyi_out={tmp_path}"]
    command = [sys.executable, "-m", "grpc_tools.protoc", "--proto_path=.", *made]
    subprocess.run([*command, "live/protocol/client.proto"], cwd=ROOT, check=True)

    for name in MADE:
        assert (ROOT / name).read_text() == (tmp_path / name).read_text(), "run scripts/protobuf"


@pytest.mark.parametrize("name", sorted(ours.DESCRIPTOR.message_types_by_name))
def test_fields_have_the_numbers_and_types_of_the_protocol(name: str) -> None:
    """Every field that we read or write is theirs, by name, number and type."""
    mine: Descriptor = ours.DESCRIPTOR.message_types_by_name[name]
    other: Descriptor = theirs.DESCRIPTOR.message_types_by_name[NAMES.get(name, name)]
    for field in mine.fields:
        if (name, field.name) in LATER:
            continue
        known = other.fields_by_name[field.name]
        assert known.number == field.number, field.name
        if (name, field.name) not in OPAQUE:
            assert known.type == field.type and known.is_repeated == field.is_repeated, field.name
