"""A show with everybody in it: an audience, buyers, a chat, and a host who sells again and again.

    locust -f loadtests/locustfile.py --host ws://127.0.0.1:8000 --headless -u 500 -r 100 -t 60s

Imitates: the ordinary middle of a live show, one flash offer after another (every quarter of a
minute), six viewers and three buyers for each one who chats. Afterwards `live audit` must pass.
"""

from loadtests.users import Buyer, Chatter, Host, Viewer

__all__ = ["Buyer", "Chatter", "Host", "Viewer"]
