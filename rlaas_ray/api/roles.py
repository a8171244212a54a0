"""Who may do what: one table from method and path to the roles that may; a test walks the app's routes against it.

Read by the key middleware before any router runs. A path that is not here is refused, not allowed.
Which roles there are is in `store/keys.py`; what they may at a policy server in `serve/keys.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

READ = frozenset({"viewer", "operator", "approver", "admin"})
WORK = frozenset({"operator", "admin"})
ADMIN = frozenset({"admin"})
RUN = frozenset({"run", "operator", "admin"})
POOL = frozenset({"pool", "admin"})
OPEN: frozenset[str] = frozenset()  # nobody needs a key

V1 = "/api/v1"
TABLE: Mapping[str, frozenset[str]] = {
    "GET /health": OPEN,
    "GET /docs": OPEN,
    "GET /docs/problems/{slug}": OPEN,
    "GET /openapi.json": OPEN,
    "GET /metrics": READ,
    "GET /internal/routes": POOL,
    f"GET {V1}/environments": READ,
    f"GET {V1}/environments/{{env_id:path}}": READ,
    f"GET {V1}/runs": READ,
    f"POST {V1}/runs": WORK,
    f"POST {V1}/runs/report": RUN,
    f"GET {V1}/runs/{{run_id}}": READ | {"run"},
    f"GET {V1}/runs/{{run_id}}/events": READ | {"run"},
    f"GET {V1}/runs/{{run_id}}/metrics": READ,
    f"GET {V1}/runs/{{run_id}}/progress": READ,
    f"GET {V1}/runs/{{run_id}}/logs": READ,
    f"POST {V1}/runs/{{run_id}}/stop": WORK,
    f"POST {V1}/runs/{{run_id}}/resume": WORK,
    f"POST {V1}/runs/{{run_id}}/claim": RUN,
    f"POST {V1}/runs/{{run_id}}/heartbeat": RUN,
    f"POST {V1}/runs/{{run_id}}/events": RUN,
    f"POST {V1}/runs/{{run_id}}/metrics": RUN,
    f"POST {V1}/runs/{{run_id}}/finish": RUN,
    f"POST {V1}/runs/{{run_id}}/register": RUN,
    **{
        f"{verb} {V1}/{noun}{tail}": roles
        for noun in ("training", "optimization", "evaluations", "tuning")
        for verb, tail, roles in (
            ("POST", "", WORK),
            ("GET", "", READ),
            ("GET", "/{run_id}", READ),
            ("GET", "/{run_id}/progress", READ),
            ("GET", "/{run_id}/metrics", READ),
            ("GET", "/{run_id}/logs", READ),
            ("GET", "/{run_id}/front", READ),
            ("GET", "/{run_id}/trials", READ),
            ("POST", "/{run_id}/stop", WORK),
        )
    },
    f"POST {V1}/optimization/{{run_id}}/choose": WORK,
    f"GET {V1}/optimization/{{run_id}}/choices": READ,
    f"GET {V1}/models": READ,
    f"POST {V1}/models/import": WORK,
    f"GET {V1}/models/{{reference}}": READ | {"run"},
    f"GET {V1}/models/{{reference}}/versions": READ,
    f"GET {V1}/models/{{reference}}/metrics": READ,
    f"GET {V1}/models/{{reference}}/bundle": READ,
    f"POST {V1}/models/{{reference}}/verify": READ,
    f"POST {V1}/models/{{reference}}/deploy": WORK,
    f"PUT {V1}/models/{{reference}}/aliases/{{alias}}": WORK,
    f"DELETE {V1}/models/{{reference}}": WORK,
    f"GET {V1}/endpoints": READ,
    f"GET {V1}/endpoints/{{name}}": READ | {"decider"},
    f"PUT {V1}/endpoints/{{name}}": WORK,
    f"DELETE {V1}/endpoints/{{name}}": WORK,
    f"GET {V1}/endpoints/{{name}}/history": READ,
    f"GET {V1}/endpoints/{{name}}/evidence": READ,
    f"GET {V1}/endpoints/{{name}}/rollouts": READ,
    f"POST {V1}/endpoints/{{name}}/rollouts": WORK,
    f"GET {V1}/endpoints/{{name}}/rollouts/{{rollout_id}}": READ,
    f"GET {V1}/endpoints/{{name}}/rollouts/{{rollout_id}}/evidence": READ,
    f"POST {V1}/endpoints/{{name}}/rollouts/{{rollout_id}}/promote": WORK,
    f"POST {V1}/endpoints/{{name}}/rollouts/{{rollout_id}}/abort": WORK,
    f"GET {V1}/keys": ADMIN,
    f"POST {V1}/keys": ADMIN,
    f"DELETE {V1}/keys/{{key_id}}": ADMIN,
    f"GET {V1}/audit": ADMIN,
    f"GET {V1}/audit/verify": ADMIN,
    f"GET {V1}/audit/head": ADMIN,
}


@lru_cache(maxsize=1)
def _patterns() -> list[tuple[str, re.Pattern[str], frozenset[str]]]:
    found = []
    for entry, roles in TABLE.items():
        method, path = entry.split(" ")
        text = re.sub(r"\{\w+:path\}", "(?:.+)", path)
        text = re.sub(r"\{\w+\}", "[^/]+", text)
        found.append((method, re.compile(text), roles))
    return found


def needed(method: str, path: str) -> frozenset[str] | None:
    """The roles of which a key needs one; empty: none at all; None: no such path (admins alone get to hear that)."""
    wanted = "GET" if method == "HEAD" else method
    return next((roles for verb, form, roles in _patterns() if verb == wanted and form.fullmatch(path)), None)
