"""Baselines of DroneDelivery: pilots that see the observation alone and can serve, and the bound.

Found through the entry-point group `rlaas.baselines` and through envs/registry.py. The reference keeps out of zones and
away from traffic by its own field; there is no shield among the baselines. Nothing here learns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rlaas_ray.envs.drones import pilots, references
from rlaas_ray.errors import InvalidInput
from rlaas_ray.policies import builtin, heads
from rlaas_ray.specs.arrays import F64

PD_MPS, FAST_MPS, FIELD_MPS = 13.0, 18.0, 20.0


def random() -> builtin.Builtin:
    """Uniform accelerations."""
    return builtin.Uniform(head=heads.UniformBox(low=(-1.0,) * 3, high=(1.0,) * 3))


def hover() -> builtin.Builtin:
    """Brakes and stays."""
    return pilots.Hover()


def pd(cruise_mps: float = PD_MPS) -> builtin.Builtin:
    """Straight to the goal; knows of no zone and no traffic."""
    return pilots.Pilot(cruise_mps=_speed(cruise_mps))


def pd_fast() -> builtin.Builtin:
    """`pd` at 18 m/s, not slower than the max-range speed."""
    return pilots.Pilot(cruise_mps=FAST_MPS)


def pd_field(cruise_mps: float = FIELD_MPS) -> builtin.Builtin:
    """`pd` that turns along the edge of zones and away from other drones, and brakes later; tuned on 128 worlds."""
    return pilots.Pilot(cruise_mps=_speed(cruise_mps), field=True, brake=2.8, approach_s=0.8, gain_mps=10.0)


def pd_energy() -> builtin.Builtin:
    """`pd` at the ground speed of least energy per metre in the measured wind."""
    return pilots.Pilot(thrifty=True)


POLICIES: Mapping[str, Callable[..., builtin.Builtin]] = {
    "random": random,
    "hover": hover,
    "pd": pd,
    "pd_fast": pd_fast,
    "pd_field": pd_field,
    "pd_energy": pd_energy,
}
REFERENCES: Mapping[str, Callable[..., tuple[F64, F64]]] = {"bound": references.bounded}
REFERENCE = "pd_field"


def card(_mode: str) -> Mapping[str, builtin.Builtin]:
    """The policies of the card: the same pilots in every mode."""
    return {name: factory() for name, factory in POLICIES.items()}


def _speed(cruise_mps: float) -> float:
    if not 0.0 < cruise_mps <= 30.0:
        raise InvalidInput("cruise_mps", given=cruise_mps, expected="a speed above 0, at most 30 m/s")
    return float(cruise_mps)
