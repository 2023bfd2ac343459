"""Addresses and secrets of what the shop itself runs: whether they can serve as such."""

import base64
import binascii
import re
from urllib.parse import urlsplit

SIGNING_SECRET_BYTES = range(24, 65)  # as Standard Webhooks has it
_PLACEHOLDERS = frozenset({"{hold}", "{show}"})


def checkout_faults(url: str) -> list[str]:
    """What is wrong with the address of the shop's checkout; "": none is given."""
    if not url:
        return []
    faults = []
    if "{hold}" not in url:
        faults.append("needs {hold}, which becomes the signed hold")
    unknown = sorted(set(re.findall(r"\{[^{}]*\}", url)) - _PLACEHOLDERS)
    faults += [f"has {one}, which is neither {{hold}} nor {{show}}" for one in unknown]
    if not _is_plain(url) or "{" in urlsplit(url).netloc:
        faults.append("must be an address with a host, without a user or blanks")
    return faults


def service_faults(url: str) -> list[str]:
    """What is wrong with the address of a service whose calls are paths below it."""
    if not url or (_is_plain(url) and "?" not in url and "#" not in url):
        return []
    return ["must be an address with a host, without user, ? and #"]


def is_signing_secret(text: str) -> bool:
    try:
        key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        return False
    return text.startswith("whsec_") and len(key) in SIGNING_SECRET_BYTES


def _is_plain(url: str) -> bool:
    """Whether an address has a host, and neither a user nor anything that ends it early."""
    parts = urlsplit(url)
    return bool(parts.hostname) and "@" not in parts.netloc and not re.search(r"[\s\\]", url)
