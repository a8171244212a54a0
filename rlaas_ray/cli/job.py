"""What this very process is to the place that started it.

Asked by the commands that make runs. Looks at the environment that Ray gives its jobs, and at nothing else.
"""

from __future__ import annotations

import json
import os

from rlaas_ray import settings
from rlaas_ray.jobs import processes

_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"


def unannounced() -> str | None:
    """The submission id of the Ray job that this process is, where it is one."""
    told = settings.variable(_JOB)
    if not told:
        return None
    found = (json.loads(told).get("metadata") or {}).get("job_submission_id")
    return str(found) if found else None


def place_ref(attempt: int) -> str:
    """What this very process is called by its place."""
    return unannounced() or f"{os.getpid()}:{processes.start_time(os.getpid())}:{attempt}"
