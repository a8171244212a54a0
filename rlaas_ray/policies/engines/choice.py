"""Which engine computes an arm: by name, or the quickest at batch 1 of those that the certificate found equal.

Called by loading and by the certificate. Loads an engine's library when that engine is made, not before.
"""

from __future__ import annotations

import importlib
import statistics
from collections.abc import Callable, Mapping
from typing import Literal, cast, get_args

from rlaas_ray.errors import InvalidInput, NotFound, nearest
from rlaas_ray.policies.network import Network
from rlaas_ray.specs.arrays import F32
from rlaas_ray.specs.seams import Policy, Recurrent

EngineName = Literal["numpy", "onnx", "torch"]
NAMES: tuple[str, ...] = get_args(EngineName)
UNASKED = ("numpy", "onnx")  # torch costs 1.7 s and 200 MB to import: by name only
_TIE = 1.10  # below this ratio the difference is noise, and onnxruntime wins: it is the better one at larger batches
_WARM_UP, _ROUNDS = 50, 200


def make(name: str, *, network: Network, model: bytes) -> Recurrent:
    """The engine `name` of a network and its ONNX bytes. Only a network with a memory may be asked for a `step`."""
    if name not in NAMES:
        raise NotFound(f"no engine {name!r}", given=name, expected=" or ".join(NAMES), cure=nearest(name, list(NAMES)))
    module = importlib.import_module(f"rlaas_ray.policies.engines.{name}_engine")
    if name == "onnx":
        return cast("Recurrent", module.OnnxEngine(model))  # a module found by name has no types
    return cast("Recurrent", getattr(module, f"{name.capitalize()}Engine")(network))


def quickest(engines: Mapping[str, Policy], *, observation: F32, timer: Callable[[], float]) -> str:
    """The name of the engine with the least median time for `observation` (1, d); ties (< 10 %) go to onnx."""
    if not engines:
        raise InvalidInput("no engine to choose from", given=[], expected="at least one that the certificate passed")
    medians = {name: _median_s(engine, observation=observation, timer=timer) for name, engine in engines.items()}
    best = min(medians, key=lambda name: medians[name])
    return "onnx" if medians.get("onnx", float("inf")) <= medians[best] * _TIE else best


def _median_s(engine: Policy, *, observation: F32, timer: Callable[[], float]) -> float:
    for _ in range(_WARM_UP):
        engine.distribution(observation)
    times = []
    for _ in range(_ROUNDS):
        start = timer()
        engine.distribution(observation)
        times.append(timer() - start)
    return statistics.median(times)
