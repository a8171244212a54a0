"""Baselines of EdgePlacement: POLICIES see the observation alone and can serve, REFERENCES can only be scored.

Found through the entry-point group `rlaas.baselines` and through `envs/registry.py`. They act in the discrete form. Nothing
here learns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rlaas_ray.envs.edge import config, references, rules
from rlaas_ray.errors import InvalidInput
from rlaas_ray.policies import builtin, heads
from rlaas_ray.specs.arrays import F64

_FULL = config.full()


def random() -> builtin.Builtin:
    """Each allowed action as probable as any other."""
    return builtin.Uniform(head=heads.Categorical(n=_FULL.actions))


def hold() -> builtin.Builtin:
    """Everything stays in the cloud, where it starts."""
    return rules.Hold(instance=_FULL)


def kube_hpa(target: float = 0.5) -> builtin.Builtin:
    """What a cluster does by itself: the horizontal pod autoscaler at a CPU target, and the default scheduler's scores."""
    return rules.Autoscaler(instance=_FULL, target=checked(target))


def greedy_latency(target: float = 0.6, gain: float = 8.0) -> builtin.Builtin:
    """The autoscaler's count, but placed where the users are; idle, it moves pods that save more than `gain` ms."""
    return rules.Autoscaler(instance=_FULL, target=checked(target), gain=gain, nearest=True)


def checked(target: float) -> float:
    """A CPU target of the autoscaler. Raises InvalidInput outside (0, 1]."""
    if not 0.0 < target <= 1.0:
        raise InvalidInput("target", given=target, expected="a share above 0, at most 1", cure="0.5 is half busy.")
    return float(target)


POLICIES: Mapping[str, Callable[..., builtin.Builtin]] = {
    "random": random,
    "hold": hold,
    "kube_hpa": kube_hpa,
    "greedy_latency": greedy_latency,
}
REFERENCES: Mapping[str, Callable[..., tuple[F64, F64]]] = {
    "greedy_latency_hindsight": references.hindsight,
    "bound": references.bounded,
}
REFERENCE = "greedy_latency_hindsight"


def card(mode: str) -> Mapping[str, builtin.Builtin]:  # noqa: ARG001 - the protocol of every baselines' module
    """The policies of the card; the rules do not depend on the mode, what they are worth does."""
    return {
        "random": random(),
        "hold": hold(),
        "kube_hpa 0.8": kube_hpa(0.8),
        "kube_hpa 0.6": kube_hpa(0.6),
        "kube_hpa 0.5": kube_hpa(0.5),
        "greedy_latency 0.7": greedy_latency(0.7),
        "greedy_latency 0.6": greedy_latency(0.6),
    }
