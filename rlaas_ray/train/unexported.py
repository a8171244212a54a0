"""Trainers whose policy no bundle can hold: their run succeeds without one, is evaluated as it is, and says what is missing.

Filled by train/user, asked by runner.py where a trainer exports nothing.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from rlaas_ray.evaluation.episodes import Decider as Decider


@runtime_checkable
class Unexported(Protocol):
    """What such a trainer has beside seam.Trainer."""

    def decider(self) -> Decider:
        """Who acts in the evaluation."""
        ...

    def told(self) -> dict[str, Any]:
        """What the result says instead of a bundle: `bundle_missing` in words, perhaps `files`."""
        ...
