"""A show: a live broadcast with its run order and its offers."""

import hashlib
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

from live.domain.ids import ShowId, Sku
from live.domain.offer import OfferTerms, OfferView, current

PINS_MAX = 3
RUN_ORDER_MAX = 100
TITLE_CHARS_MAX = 200
ANNOUNCEMENT_CHARS_MAX = 500


class ShowStatus(StrEnum):
    """scheduled <-> rehearsal; scheduled | rehearsal -> live <-> paused -> ended."""

    SCHEDULED = "scheduled"
    REHEARSAL = "rehearsal"
    LIVE = "live"
    PAUSED = "paused"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Announcement:
    text: str
    until: int | None  # Unix ms; None: until the next one


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductCard:
    """What viewers see of a pinned product, whether or not it has an offer yet."""

    sku: Sku
    title: str
    image_url: str
    price_minor: int
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowState:
    """A show as Postgres knows it, with its offers' terms: what the show log stores beside its end.

    `version` grows with every change by a host or the keeper, so the newest state wins whatever
    the order of arrival. `passcode` is the digest of the rehearsal's, "" where none is set.
    `slots` counts the offers that the show ever had; `offers` are all of them as Postgres reads
    them, and the current ones in what is stored and sent (`bounded`).
    """

    id: ShowId
    title: str
    status: ShowStatus
    language: str
    currency: str
    playback_url: str
    pins: tuple[Sku, ...]
    run_order: tuple[Sku, ...]
    announcement: Announcement | None
    paid_partnership: bool
    slow_mode_seconds: int
    frozen: bool
    stock_epoch: int
    version: int
    offers: tuple[OfferTerms, ...]
    starts_at: int | None = None  # Unix ms; when the host means to go on air
    passcode: str = ""
    pinned: tuple[ProductCard, ...] = ()  # the products of `pins`, in their order
    providers: tuple[str, ...] = ()  # ways to pay in this show; empty: all of the shop's
    slots: int = 0

    def bounded(self) -> Self:
        """The same with its current offers alone: what grows with a show's life stays behind."""
        return replace(self, offers=current(self.offers))


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowView:
    """The `show` object of the public contract; `providers` empty: all of the shop's."""

    id: ShowId
    title: str
    status: ShowStatus
    language: str
    currency: str
    playback_url: str
    pins: tuple[Sku, ...]
    run_order: tuple[Sku, ...]
    offers: tuple[OfferView, ...]
    announcement: Announcement | None
    paid_partnership: bool
    slow_mode_seconds: int
    version: int
    frozen: bool = False  # hosts may change no configuration at the moment
    starts_at: int | None = None
    pinned: tuple[ProductCard, ...] = ()
    providers: tuple[str, ...] = ()


def passcode_digest(show: str, passcode: str) -> str:
    """What a show's state tells of its passcode: enough to check one, and no more."""
    return hashlib.sha256(f"{show}\n{passcode}".encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductView:
    """The `product` object of the public contract; `available = on_hand - allotted`.

    `allotted` counts what all offers of the product may sell or have sold; a closed offer has given
    the rest back.
    """

    sku: Sku
    title: str
    description: str
    image_url: str
    price_minor: int
    currency: str
    on_hand: int
    allotted: int
    sold: int
    available: int
