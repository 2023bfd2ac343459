"""Before the first user: may this server be loaded, is the show there, does the run end?

Always: every run ends, even one started without `-t`; whatever is wrong with the target is said
once, and no user of it is loaded. A run by command ends with it; on the web page only that run
does, and the page says why and takes another host.
"""

import sys
from collections.abc import Mapping
from uuid import uuid4

import gevent
import requests
from locust import events
from locust.env import Environment

from loadtests.guard import SHOW, TargetError, check_host, http_url, secret, token

USERS_MAX = 20_000
SECONDS_MAX = 1_800  # without `-t`
HTTP_SECONDS = 10.0
SKU = "load-test"
UNITS = 1_000_000  # on hand, so that no run ends for want of goods


def _give_up(text: str, environment: Environment) -> None:
    sys.stderr.write(f"{text}\n")
    runner = environment.runner
    if environment.web_ui is None or runner is None:
        sys.exit(2)
    runner.log_exception("target", text, "")  # the page's list of exceptions
    # Behind the start that is under way now; each user looks at the host as well, and stops.
    gevent.spawn_later(0, runner.stop)


@events.init.add_listener  # type: ignore[untyped-decorator]  # Locust's events have no types
def _check_target(environment: Environment, **_: object) -> None:
    """Refuse before the first user exists."""
    if environment.host is None:
        return  # the web page asks for it; each user checks it, too
    try:
        check_host(environment.host)
        secret()
    except TargetError as fault:
        _give_up(str(fault), environment)


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def _bound_run(environment: Environment, **_: object) -> None:
    """End a run that nobody ends, and refuse one with too many users."""
    options = environment.parsed_options
    runner = environment.runner
    if runner is None or options is None:
        return  # used as a library: whoever wrote that bounds it
    if (options.num_users or 0) > USERS_MAX:
        _give_up(f"-u {options.num_users}: at most {USERS_MAX} users", environment)
        return
    if not options.run_time:
        # The page outlives its runs.
        gevent.spawn_later(SECONDS_MAX, runner.stop if environment.web_ui else runner.quit)
    try:
        check_host(environment.host)
        secret()
        prepare(http_url(environment.host))
    except (TargetError, requests.RequestException) as fault:
        _give_up(f"the show could not be prepared: {fault}", environment)


def prepare(base: str) -> None:
    """A product with stock, and the show, live; what is there already stays. Raises TargetError.

    Before the first user: a viewer who comes to a show that does not exist is turned away for good.
    """
    with requests.Session() as http:
        http.trust_env = False
        http.headers["Authorization"] = f"Bearer {token('host', 'load-host', ['*'])}"
        product: dict[str, str | int] = {"sku": SKU, "title": "Load test item"}
        product |= {"price_minor": 1_500, "currency": "USD", "on_hand": UNITS}
        _post(http, f"{base}/v1/products", product)
        show = {"id": SHOW, "title": "Load test", "currency": "USD"}
        _post(http, f"{base}/v1/shows", show)
        answer = http.get(f"{base}/v1/shows/{SHOW}", timeout=HTTP_SECONDS)
        status = answer.json().get("status") if answer.ok else f"answer {answer.status_code}"
        if status in ("scheduled", "rehearsal", "paused"):
            action = "resume" if status == "paused" else "start"
            _post(http, f"{base}/v1/shows/{SHOW}/{action}", {})
        elif status != "live":
            raise TargetError(f"show {SHOW} is {status}; LIVE_SHOW names another one")


def _post(http: requests.Session, url: str, body: Mapping[str, str | int]) -> None:
    headers = {"Idempotency-Key": str(uuid4())}
    answer = http.post(url, json=body, headers=headers, timeout=HTTP_SECONDS)
    if not answer.ok and answer.status_code != requests.codes.conflict:  # there already
        raise TargetError(f"POST {url}: {answer.status_code} {answer.text[:200]}")
