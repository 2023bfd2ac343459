"""Names of channels, there and back."""

import pytest

from live.domain.channels import ChannelKind, parse_wire_name, wire_name
from live.domain.ids import ShowId

SHOW = ShowId("demo")


@pytest.mark.parametrize("kind", ["show", "chat", "pulse", "desk"])
def test_public_name_is_read_back(kind: str) -> None:
    """Each kind that clients may name."""
    name = wire_name(ChannelKind(kind), SHOW)
    assert name == f"{kind}:demo"
    assert parse_wire_name(name) == (ChannelKind(kind), SHOW)


def test_both_desks_have_one_name() -> None:
    """A moderator asks for the desk; what they get is decided by their rights."""
    assert wire_name(ChannelKind.STAFF, SHOW) == wire_name(ChannelKind.DESK, SHOW)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "demo",
        "show",
        "show:",
        ":demo",
        "show:de mo",
        "show:a:b",
        "staff:demo",
        "me:demo",
        "#ada",
    ],
)
def test_other_names_are_no_channels_of_a_show(name: str) -> None:
    """Inner kinds, personal channels and names that no show has."""
    assert parse_wire_name(name) is None
