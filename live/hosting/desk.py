"""The desk has two logs: hosts read `desk`, moderators `staff`, where nothing tells of money.

Always: whatever goes to the desk goes to both, in the form that each may read.
"""

from dataclasses import replace

from live.domain.channels import Channel, ChannelKind
from live.domain.events import Event, OrderEvent, StaffItem, StaffOrder, StaffOrderEvent
from live.showlog.log import ShowLog


async def publish(log: ShowLog, channel: Channel, event: Event, *, key: str = "") -> None:
    """Publish an event, on the desk for both kinds of readers. Raises UNREACHABLE errors.

    With a key, a repeat after half of it publishes the other half only.
    """
    await log.publish(channel, event, key=key)
    if channel.kind is ChannelKind.DESK:
        staff = replace(channel, kind=ChannelKind.STAFF)
        await log.publish(staff, without_money(event), key=key and f"{key}:staff")


def without_money(event: Event) -> Event:
    """The event as a moderator may see it; an offer's price is no secret, an order's sum is."""
    if not isinstance(event, OrderEvent):
        return event
    order = event.order
    return StaffOrderEvent(
        type=event.type,
        at=event.at,
        order=StaffOrder(
            order=order.order,
            show=order.show,
            state=order.state,
            items=tuple(StaffItem(item.offer, item.qty) for item in order.items),
            created_at=order.created_at,
        ),
    )
