"""The decision log in memory: what `data.decision_log.ArrowDecisionLog` promises, without a disk.

For tests of whoever reads a log. Never used in production.
"""

from __future__ import annotations

import numpy as np

from rlaas_ray.specs.log import Cut, Decisions, Rewards
from rlaas_ray.specs.seams import DecisionLog


class MemoryDecisionLog(DecisionLog):
    """Files are lists of rows: `append` adds to one, `read` gives what lies beyond a cut."""

    def __init__(self, *, empty_decisions: Decisions, empty_rewards: Rewards) -> None:
        self._empty = (empty_decisions, empty_rewards)
        self._decisions: dict[str, Decisions] = {}
        self._rewards: dict[str, Rewards] = {}

    def append_decisions(self, endpoint: str, *, rows: Decisions, file: str = "0000000000-000001") -> None:
        """Add rows to the file of a writer."""
        stem = f"decisions/endpoint={endpoint}/date=1970-01-01/{file}"
        kept = self._decisions.get(stem)
        self._decisions[stem] = rows if kept is None else Decisions.concatenate([kept, rows])

    def append_rewards(self, endpoint: str, *, rows: Rewards, file: str = "0000000000-000001") -> None:
        """Add rows to the file of a writer."""
        stem = f"rewards/endpoint={endpoint}/date=1970-01-01/{file}"
        kept = self._rewards.get(stem)
        self._rewards[stem] = rows if kept is None else Rewards.concatenate([kept, rows])

    def read(self, endpoint: str, *, after: Cut, until: Cut | None = None) -> tuple[Decisions, Rewards, Cut]:
        """Rows beyond `after`, by (time_us, decision_id), and the new cut."""
        cut = dict(after)
        decided = [
            rows.take(np.arange(low, high))
            for stem, rows in sorted(self._decisions.items())
            if f"/endpoint={endpoint}/" in stem
            for low, high in [_range(stem, size=len(rows), cut=cut, until=until)]
            if low < high
        ]
        rewarded = [
            rows.take(np.arange(low, high))
            for stem, rows in sorted(self._rewards.items())
            if f"/endpoint={endpoint}/" in stem
            for low, high in [_range(stem, size=len(rows), cut=cut, until=until)]
            if low < high
        ]
        decisions = Decisions.concatenate(decided) if decided else self._empty[0]
        rewards = Rewards.concatenate(rewarded) if rewarded else self._empty[1]
        return (
            decisions.take(np.lexsort((decisions.decision_id, decisions.time_us))),
            rewards.take(np.lexsort((rewards.step, rewards.decision_id, rewards.time_us))),
            cut,
        )


def _range(stem: str, *, size: int, cut: dict[str, int], until: Cut | None) -> tuple[int, int]:
    low = cut.get(stem, 0)
    high = size if until is None else min(size, until.get(stem, 0))
    if low < high:
        cut[stem] = high
    return low, high
