"""Ten units, hundreds of thumbs: the second in which a small drop sells out.

    locust -f loadtests/scenarios/sold_out_burst.py --host ws://127.0.0.1:8000 \\
        --headless -u 500 -r 100 -t 60s

Imitates: a drop announced days before. Everybody is there when it opens, presses Buy in the same
instant and goes on pressing after "sold out", with fresh keys, because the button still looks live.
Nearly all traffic is refusals. What to look at: `offer.hold: sold_out` stays as fast as
`offer.hold`, nothing fails, and `live audit` finds every unit.
"""

from uuid import uuid4

from locust import constant

from loadtests import users

CLICKS = 6  # of one person in one burst


class Host(users.Host):
    quantity = 10
    sale_seconds = 8.0


class Buyer(users.Buyer):
    weight = 1
    wait_time = constant(0.2)
    qty_max = 1
    double_click = 1.0
    waits = 0.02

    def refused(self, offer: str, qty: int) -> None:
        """Press on, each time as if for the first time; then, rarely, wait in line."""
        for _ in range(CLICKS - 1):
            answer = self.click(offer, qty, key := str(uuid4()))
            if answer is None or answer.outcome not in ("held", "sold_out"):
                return
            if answer.outcome == "held":
                self.decide(key)
        super().refused(offer, qty)


__all__ = ["Buyer", "Host"]
