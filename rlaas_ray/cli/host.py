"""The process of a host of many searches; `rlaas_ray.jobs.hosting` starts it, nobody types it.

Its one argument is the folder that it lives in. SIGTERM: everything is saved, and the next host goes on.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
from pathlib import Path

from rlaas_ray import settings, wiring
from rlaas_ray.sdk import desk, reporter


def main() -> int:
    """Serve until told to stop, or idle."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # The thread that reports asks for the interpreter many times in each request, and would wait 5 ms each time.
    sys.setswitchinterval(0.0005)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    own = settings.read()
    with reporter.connect(own.url or "", api_key=None) as client:
        wiring.host(
            own,
            folder=Path(sys.argv[1]),
            stop=stop,
            client=client,
            desk=lambda clock: desk.Desk(client=client, clock=clock),
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
