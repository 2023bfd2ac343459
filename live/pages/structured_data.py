"""schema.org JSON-LD of a show and its offers, for search engines and link previews."""

from datetime import UTC, datetime
from urllib.parse import urljoin

import orjson

from live.domain.links import is_link
from live.domain.money import minor_digits
from live.domain.offer import OfferView, Phase, is_untold
from live.domain.show import ShowStatus, ShowView


def decimal_price(minor: int, currency: str) -> str:
    """Write minor units as a decimal number: (1999, "EUR") is "19.99"."""
    digits = minor_digits(currency)
    if digits == 0:
        return str(minor)
    text = str(minor).rjust(digits + 1, "0")
    return f"{text[:-digits]}.{text[-digits:]}"


def json_ld(show: ShowView, url: str) -> str:
    """Describe a public show as JSON for a script element's text.

    "<", ">" and "&" are written as escapes: no title can end the element it stands in.
    """
    data: dict[str, object] = {
        "@context": "https://schema.org",
        "@type": "BroadcastEvent",
        "@id": url,
        "url": url,
        "name": show.title,
        "inLanguage": show.language,
        "isLiveBroadcast": show.status is ShowStatus.LIVE,
        # Of a show that is over, too: schema.org knows none for "took place as planned".
        "eventStatus": "https://schema.org/EventScheduled",
        "eventAttendanceMode": "https://schema.org/OnlineEventAttendanceMode",
        "location": {"@type": "VirtualLocation", "url": url},
        "offers": [_offer(offer, url) for offer in show.offers if not is_untold(offer)],
    }
    if show.starts_at is not None:
        data["startDate"] = _iso(show.starts_at)
    text = orjson.dumps(data).decode()
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _offer(offer: OfferView, url: str) -> dict[str, object]:
    product = {"@type": "Product", "sku": offer.sku, "name": offer.title}
    if is_link(offer.image_url):
        product["image"] = urljoin(url, offer.image_url)
    data: dict[str, object] = {
        "@type": "Offer",
        "identifier": offer.id,
        "url": url,
        "itemOffered": product,
        "price": decimal_price(offer.price_minor, offer.currency),
        "priceCurrency": offer.currency,
        "availability": _availability(offer),
        "inventoryLevel": {"@type": "QuantitativeValue", "value": offer.left},
    }
    if offer.opens_at is not None:
        data["availabilityStarts"] = _iso(offer.opens_at)
    if offer.closes_at is not None:
        data["availabilityEnds"] = _iso(offer.closes_at)
    return data


def _availability(offer: OfferView) -> str:
    if offer.phase is Phase.SCHEDULED:
        return "https://schema.org/PreOrder"
    if offer.phase is Phase.OPEN:
        return f"https://schema.org/{'SoldOut' if offer.left == 0 else 'InStock'}"
    if offer.phase is Phase.CLOSED and offer.left == 0:
        return "https://schema.org/SoldOut"
    return "https://schema.org/OutOfStock"


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds")
