"""Pools in memory: what `serve.pools.ServePools` promises, without Ray.

For tests of control. Tells each pool it was asked for as running; can lose its head as a real one does.
"""

from __future__ import annotations

from collections.abc import Mapping

from rlaas_ray.specs.seams import Pools


class MemoryPools(Pools):
    """`applied` lists every call; `restart_head` forgets all pools under a new id; `head` False: nobody answers."""

    def __init__(self) -> None:
        self.applied: list[str] = []
        self.head = True
        self._running: dict[str, str] = {}
        self._heads = 1

    def restart_head(self) -> None:
        """A new head, which knows of no pool."""
        self._heads += 1
        self._running.clear()

    def apply(self, pool: str) -> None:
        """The pool runs."""
        self.applied.append(pool)
        self._running[pool] = "RUNNING"

    def delete(self, pool: str) -> None:
        """The pool is gone."""
        self._running.pop(pool, None)

    def running(self) -> Mapping[str, str]:
        """What was applied and not deleted."""
        return dict(self._running)

    def head_id(self) -> str | None:
        """Changes with `restart_head`."""
        return f"session_{self._heads}" if self.head else None
