"""How long `rlaas quickstart --fast` takes on a quiet machine, in a home of its own: wall seconds to its report.

    python -m benchmarks.quickstart

Prints a line and exits 1 where it takes 90 s or more.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time

BAR_S = 90.0


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RLAAS_", "RAY_"))}
        load, began_s = os.getloadavg()[0], time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "rlaas_ray.cli", "quickstart", "--fast", "--json", "--out", f"{folder}/out"],
            env={**kept, "HOME": folder, "TMPDIR": folder},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        took_s = time.monotonic() - began_s
    print(json.dumps({"quickstart_fast_s": round(took_s, 1), "bar_s": BAR_S, "load_before": round(load, 1)}))
    return int(took_s >= BAR_S)


if __name__ == "__main__":
    sys.exit(main())
