"""RLlib's classes as hosts of families: seam.OnRay. The one door between the families and RLlib.

Imported by runner.py when a plan wants actors: RLlib takes seconds to import.
"""

from __future__ import annotations

from typing import Any

from rlaas_ray.train.presets import PpoPlan
from rlaas_ray.train.rllib import algorithm, asynchronous, hosting, stock
from rlaas_ray.train.seam import Build, OnRay, Parts, Trainer


class OnRllib(OnRay):
    """Each kind of family to the module that hosts it."""

    def columnar(self, parts: Parts[Any], given: Build[Any]) -> Trainer:
        return hosting.build(parts, given)

    def ppo(self, given: Build[PpoPlan]) -> Trainer:
        return algorithm.build(given)

    def runners(self, parts: Parts[Any], given: Build[Any]) -> Any:
        return asynchronous.EnvRunners(parts, given)

    def stock(self, given: Build[Any]) -> Trainer:
        return stock.build(given)
