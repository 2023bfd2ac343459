"""The image's health check: does the role that runs in this container live?

    python healthy.py [healthz|readyz]

A gateway serves port 8000, a settler that runs alone 8001 (LIVE_PORT and LIVE_OPS_PORT say
otherwise); who answers is the one that is here. Standard library only, no import of the service.
"""

import os
import sys
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

SECONDS = 2.0  # each port; the check as a whole has 5


def main(arguments: list[str]) -> int:
    path = arguments[0] if arguments else "healthz"
    ask = build_opener(ProxyHandler({})).open  # a proxy of the environment is not for us
    faults: list[str] = []
    for name, port in (("LIVE_PORT", "8000"), ("LIVE_OPS_PORT", "8001")):
        url = f"http://127.0.0.1:{os.environ.get(name) or port}/{path}"
        try:
            with ask(url, timeout=SECONDS):
                return 0
        except (URLError, OSError) as error:
            faults.append(f"{url}: {error}")
    sys.stderr.write("; ".join(faults) + "\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
