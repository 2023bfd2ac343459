"""A command with embedded engines, as a process of its own that tests may kill.

    python tests/support/engine_host.py DATA_DIR

Prints one JSON line when both engines answer, or one with `error`. Then each line on its standard
input is an order: `mend` (answers with the names), `stop`. End of input without `stop` is a crash.
"""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from live.base.errors import EngineError
from live.base.settings import Settings
from live.base.telemetry import set_up_logs
from live.tools.engines.embedded import Engines


def say(answer: dict[str, object]) -> None:
    os.write(1, json.dumps(answer).encode() + b"\n")


def main() -> None:
    set_up_logs(role="test", quiet=True)  # standard output is ours
    settings = Settings(redis_url=None, database_url=None, secret=None, data_dir=Path(sys.argv[1]))
    try:
        engines = Engines.start(settings)
    except EngineError as error:
        say({"error": str(error)})
        return
    say(
        {
            "redis_url": engines.redis_url,
            "database_url": engines.database_url,
            "started": engines.started,
            "uid": os.getuid(),
        }
    )
    for order in sys.stdin:
        if order.strip() == "stop":
            engines.stop()
            say({"stopped": True})
            return
        say({"mended": engines.mend()})
    os._exit(1)


if __name__ == "__main__":
    main()
