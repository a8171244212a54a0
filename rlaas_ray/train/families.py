"""Which family an algorithm's name means; each is imported when it is asked for.

Called by runner.py and by `rlaas algorithms`. Names are those of specs/algorithms.py; others are the user's own.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from rlaas_ray.errors import NotBuilt
from rlaas_ray.specs.algorithms import ALGORITHMS
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.train.seam import Family
from rlaas_ray.train.user import family as users

MODEL_PPO = "rlaas_ray.train.user.model_ppo:ModelPpo"  # users' own networks: trained as users' own algorithms are
# name -> module of rlaas_ray.train that holds FAMILY
_MODULES: Mapping[str, str] = {
    "ppo": "ppo",
    "ppo_lagrangian": "lagrangian.family",
    "appo": "asynchronous.impala",
    "impala": "asynchronous.impala",
    "a3c": "asynchronous.a3c",
    "q_learning": "tabular.q_learning",
    "dqn": "dqn.family",
    "sac": "actor_critic.family",
    "td3": "actor_critic.family",
    "ddpg": "actor_critic.family",
    "bc": "offline.family",
    "marwil": "offline.family",
    "cql": "offline.family",
    "iql": "offline.family",
    "lastream": "lastream.family",
}


def built(algorithm: str) -> bool:
    """Whether a name of the table trains, and not only stands there."""
    return algorithm in _MODULES


def of(spec: TrainSpec) -> Family[Any]:
    """The family that trains this spec. Raises NotBuilt, NotFound with the nearest name, InvalidInput."""
    if spec.network is not None and spec.network.custom is not None and spec.algorithm in ALGORITHMS:
        return _own_network(spec)
    if spec.fast == "off":
        return _family("stock")
    remembers = spec.network is not None and spec.network.memory != "none"
    if remembers and spec.algorithm in ALGORITHMS:  # users' own know what they do with the field
        return _remembering(spec)
    if spec.multi_agent is not None:
        return _family("multi_agent.family")
    module = _MODULES.get(spec.algorithm)
    if module is not None:
        return _family(module)
    if spec.algorithm in ALGORITHMS:
        raise NotBuilt(f"algorithm {spec.algorithm}", cure=f"Built are {', '.join(sorted(_MODULES))}.")
    return users.family_of(spec.algorithm)


def _own_network(spec: TrainSpec) -> Family[Any]:
    fields = {
        "fast": spec.fast == "off",
        "multi_agent": spec.multi_agent is not None,
        "algorithm": spec.algorithm != "ppo",
    }
    given = [f"{name}: {getattr(spec, name)}" for name, other in fields.items() if other]
    if spec.network is not None and spec.network.memory != "none":
        given.append(f"network.memory: {spec.network.memory}")
    if given:
        raise NotBuilt(
            f"a network of your own with {given[0]}",
            expected="algorithm: ppo, one agent, no memory but the module's",
            cure="Leave it out, or give hidden and activation instead of custom.",
        )
    return users.family_of(MODEL_PPO)


def _remembering(spec: TrainSpec) -> Family[Any]:
    if spec.algorithm != "ppo":
        raise NotBuilt(
            f"algorithm {spec.algorithm} with network.memory: {spec.network.memory if spec.network else None}",
            expected="algorithm: ppo",
            cure="Train it with `algorithm: ppo`, or without a memory.",
        )
    return _family("memory.family")


def _family(module: str) -> Family[Any]:
    found = importlib.import_module(f"rlaas_ray.train.{module}").FAMILY
    assert isinstance(found, Family)
    return found
