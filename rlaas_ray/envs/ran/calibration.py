"""The channel against 3GPP's published calibration: coupling loss and geometry of six deployments.

Called by the acceptance test and by whoever doubts the channel. Uniform drop, exact ten-element array, no fast fading; published
medians are those of the R1-165974 company results as tabulated in QuaDRiGa's `tutorials/calib_3GPP_ref_data.m` (rows
cl38900a, gf38900a).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlaas_ray.envs.ran import channel, layout
from rlaas_ray.specs.arrays import F64

ELEMENTS = 10
STEERED_DEG = 102.0  # zenith angle
ELEMENT_DBI = 8.0
SIDE_LOBE_DB = 30.0
# (scenario, GHz): median coupling loss dB, median geometry SIR dB.
PUBLISHED = {
    ("UMa", 6.0): (-120.3, 8.6),
    ("UMa", 30.0): (-140.1, 8.6),
    ("UMa", 70.0): (-156.6, 8.5),
    ("UMi", 6.0): (-112.2, 7.3),
    ("UMi", 30.0): (-132.4, 7.5),
    ("UMi", 70.0): (-149.1, 7.5),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calibration:
    """Of each user: gain to the serving cell and ratio to the sum of all others, dB, (N,)."""

    coupling_db: F64
    sir_db: F64


def calibrate(scenario: channel.Scenario, *, rings: int, users: int = 12_000, seed: int = 0) -> Calibration:
    """Drop users over 7 or 19 sites and measure what the companies measured; the serving cell has the largest gain."""
    net = scenario.network(rings=rings)
    dropped = channel.uniform_drop(scenario, net, count=users, seed=seed)
    zenith = 90.0 + dropped.depression_deg
    antenna = antenna_db(zenith[:, :, None], phi_deg=layout.off_boresight(dropped.azimuth_deg))
    gain = (dropped.gain_db[:, :, None] + antenna).reshape(users, -1)
    linear = 10.0 ** (gain / 10.0)
    serving = linear.max(axis=1)
    others = linear.sum(axis=1) - serving
    return Calibration(coupling_db=10.0 * np.log10(serving), sir_db=10.0 * np.log10(serving / others))


def antenna_db(zenith_deg: F64, *, phi_deg: F64) -> F64:
    """One column of ten elements, half a wavelength apart, steered to 102 degrees: element pattern and exact array factor."""
    vertical = np.minimum(12.0 * ((zenith_deg - 90.0) / 65.0) ** 2, SIDE_LOBE_DB)
    horizontal = np.minimum(12.0 * (phi_deg / 65.0) ** 2, SIDE_LOBE_DB)
    element = ELEMENT_DBI - np.minimum(vertical + horizontal, SIDE_LOBE_DB)
    phase = np.pi * (np.cos(np.radians(zenith_deg)) - np.cos(np.radians(STEERED_DEG)))
    factor = np.exp(1j * phase[..., None] * np.arange(ELEMENTS)).sum(axis=-1) / np.sqrt(ELEMENTS)
    found: F64 = element + 20.0 * np.log10(np.maximum(np.abs(factor), 1e-6))
    return found
