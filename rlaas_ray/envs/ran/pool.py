"""A pool of users whose links are computed once: re-dropping a user is a gather, not a path loss.

Called when parameters are made (about a second, then cached). Holds no state of any episode; its own seed is fixed, so that every
process has the same pool.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from rlaas_ray.envs import philox
from rlaas_ray.envs.ran import channel, layout, radio
from rlaas_ray.specs.arrays import F32, I64

UNIFORM = 65_536
CENTRES = 1_024
MEMBERS = 64
ANTENNA_DBI = 17.0
_SEED = 20_180_638  # TR 38.901 V14 was dated June 2018; any constant would do, it must only stay the same
_PURPOSE_CENTRE, _PURPOSE_MEMBER = 110, 111
_CHUNK = 16_384


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pool:
    """gain_db (N, C): link with horizontal pattern, without tilt; theta_deg (N, S): angle below the horizon.

    Users 0..UNIFORM-1 are uniform; hotspot centre k holds UNIFORM + 64 k + (0..63). near (S, K): the centres within ISD/2 of a
    site, of which the first near_count (S,) are distinct.
    """

    gain_db: F32
    theta_deg: F32
    near: I64
    near_count: I64


@functools.lru_cache(maxsize=2)
def pool(scenario: channel.Scenario) -> Pool:
    """The pool of a scenario with 7 sites."""
    net = scenario.network()
    words = philox.uniforms(_SEED, purpose=_PURPOSE_CENTRE, shape=(CENTRES, 13))
    centres = layout.uniform_points(net, words)
    spread = philox.normals(philox.uniforms(_SEED, purpose=_PURPOSE_MEMBER, shape=(CENTRES * MEMBERS, 2)))
    members = layout.hotspot_points(net, np.repeat(centres, MEMBERS, axis=0), normal=spread)
    uniform = layout.uniform_points(net, philox.uniforms(_SEED, purpose=_PURPOSE_CENTRE + 10, shape=(UNIFORM, 13)))
    points = np.concatenate((uniform, members))
    gain = np.empty((len(points), net.num_cells), dtype=np.float32)
    theta = np.empty((len(points), len(net.sites)), dtype=np.float32)
    for number, start in enumerate(range(0, len(points), _CHUNK)):
        rows = slice(start, start + _CHUNK)
        made = channel.drop(scenario, net, points=points[rows], seed=_SEED, index=number)
        pattern = radio.horizontal_db(layout.off_boresight(made.azimuth_deg))
        gain[rows] = (made.gain_db[:, :, None] - pattern + ANTENNA_DBI).reshape(len(pattern), -1)
        theta[rows] = made.depression_deg
    distance = layout.links(net, centres).distance_m
    close = [np.flatnonzero(distance[:, site] <= net.isd_m / 2.0) for site in range(len(net.sites))]
    near = np.stack([np.resize(found, max(map(len, close))) for found in close])
    return Pool(gain_db=gain, theta_deg=theta, near=near, near_count=np.asarray([len(found) for found in close]))
