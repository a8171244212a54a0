"""Large-scale channel of 3GPP TR 38.901: path loss, line of sight, building entry, shadowing; UMa and UMi.

Called for the pool of users (dynamics), the calibration and the optimisation problem. No fast fading, no antenna, no framework;
randomness comes as uniforms from philox.py. f in GHz, distances in m, gains in dB.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlaas_ray.envs import philox
from rlaas_ray.envs.ran import layout
from rlaas_ray.errors import InvalidInput
from rlaas_ray.specs.arrays import F64, Bool

_LIGHT = 299_792_458.0
_PURPOSE_USER, _PURPOSE_LINK, _PURPOSE_POINT = 100, 101, 102
_POINT_WORDS = 1 + 3 * 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """UMa or UMi with its carrier; the site's height and distances follow from the name (TR 38.901 Table 7.2-1)."""

    name: str = "UMa"
    frequency_ghz: float = 3.5

    def __post_init__(self) -> None:
        if self.name not in {"UMa", "UMi"}:
            raise InvalidInput("scenario", given=self.name, expected="UMa or UMi", cure="Use 'UMa' or 'UMi'.")

    @property
    def site_height_m(self) -> float:
        """Height of the antenna."""
        return 25.0 if self.name == "UMa" else 10.0

    def network(self, *, rings: int = 1) -> layout.Network:
        """The scenario's hexagons: ISD 500 m and 35 m, or 200 m and 10 m."""
        if self.name == "UMa":
            return layout.network(500.0, rings=rings, min_distance_m=35.0)
        return layout.network(200.0, rings=rings, min_distance_m=10.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Users:
    """What a user carries whatever the site: height, indoor depth (0 outdoors), building entry loss, all (N,)."""

    indoor: Bool
    height_m: F64
    depth_m: F64
    entry_db: F64


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Drop:
    """Users and their links: gain without antennas (N, S) in dB, azimuth and depression angle (N, S) in degrees."""

    points: F64
    gain_db: F64
    azimuth_deg: F64
    depression_deg: F64
    users: Users


def uniform_drop(scenario: Scenario, net: layout.Network, *, count: int, seed: int) -> Drop:
    """`count` users, uniform over the network, every draw from the stream (seed, 0)."""
    uniform = philox.uniforms(seed, purpose=_PURPOSE_POINT, shape=(count, _POINT_WORDS))
    return drop(scenario, net, points=layout.uniform_points(net, uniform), seed=seed)


def drop(scenario: Scenario, net: layout.Network, *, points: F64, seed: int, index: int = 0) -> Drop:
    """The large-scale channel of users at `points` (N, 2)."""
    users = draw_users(scenario, philox.uniforms(seed, purpose=_PURPOSE_USER, shape=(len(points), 8), index=index))
    link = layout.links(net, points)
    shape = (len(points), len(net.sites), 6)
    gain = link_gain(
        scenario,
        users,
        distance_m=link.distance_m,
        uniform=philox.uniforms(seed, purpose=_PURPOSE_LINK, shape=shape, index=index),
    )
    depression = np.degrees(np.arctan2(scenario.site_height_m - users.height_m[:, None], link.distance_m))
    return Drop(points=points, gain_db=gain, azimuth_deg=link.azimuth_deg, depression_deg=depression, users=users)


def draw_users(scenario: Scenario, uniform: F64) -> Users:
    """Indoor state, floor, depth, building of each user. uniform (N, 8)."""
    indoor = uniform[:, 0] < 0.8
    floors = 4 + np.minimum((uniform[:, 1] * 5).astype(np.int64), 4)
    floor = 1 + np.minimum((uniform[:, 2] * floors).astype(np.int64), floors - 1)
    high_loss = uniform[:, 4] < 0.5
    f = scenario.frequency_ghz
    glass, irr_glass, concrete = 2.0 + 0.2 * f, 23.0 + 0.3 * f, 5.0 + 4.0 * f
    low = 5.0 - 10.0 * np.log10(0.3 * 10.0 ** (-glass / 10.0) + 0.7 * 10.0 ** (-concrete / 10.0))
    high = 5.0 - 10.0 * np.log10(0.7 * 10.0 ** (-irr_glass / 10.0) + 0.3 * 10.0 ** (-concrete / 10.0))
    depth = 25.0 * np.minimum(uniform[:, 3], uniform[:, 5])
    spread = np.where(high_loss, 6.5, 4.4) * philox.normals(uniform[:, 6:8])[:, 0]
    return Users(
        indoor=indoor,
        height_m=np.where(indoor, 3.0 * (floor - 1) + 1.5, 1.5),
        depth_m=np.where(indoor, depth, 0.0),
        # One value per user, not per link: the wall is the user's.
        entry_db=np.where(indoor, np.where(high_loss, high, low) + 0.5 * depth + spread, 0.0),
    )


def link_gain(scenario: Scenario, users: Users, *, distance_m: F64, uniform: F64) -> F64:
    """Gain (N, S) in dB without antennas; one line-of-sight state and one shadowing per (user, site). uniform (N, S, 6)."""
    height = np.broadcast_to(users.height_m[:, None], distance_m.shape)
    los = uniform[:, :, 0] < los_probability(
        scenario, np.maximum(distance_m - users.depth_m[:, None], 1.0), height_m=height
    )
    environment = _environment_height(
        scenario, distance_m, height_m=height, chance=uniform[:, :, 1], which=uniform[:, :, 2]
    )
    loss_los, loss_nlos = path_loss(scenario, distance_m, height_m=height, environment_m=environment)
    sigma_nlos = 6.0 if scenario.name == "UMa" else 7.82
    sigma = np.where(users.indoor[:, None], 7.0, np.where(los, 4.0, sigma_nlos))
    shadow = sigma * philox.normals(uniform[:, :, 4:6])[:, :, 0]
    return -(np.where(los, loss_los, loss_nlos) + users.entry_db[:, None] + shadow)


def los_probability(scenario: Scenario, distance_m: F64, *, height_m: F64) -> F64:
    """Table 7.4.2-1; `distance_m` is the outdoor part of the 2D distance."""
    d = np.maximum(distance_m, 18.0)
    if scenario.name == "UMi":
        return 18.0 / d + np.exp(-d / 36.0) * (1.0 - 18.0 / d)
    near = 18.0 / d + np.exp(-d / 63.0) * (1.0 - 18.0 / d)
    tall = 1.0 + _tall(height_m) * 1.25 * (d / 100.0) ** 3 * np.exp(-d / 150.0)
    return np.where(distance_m <= 18.0, 1.0, near * tall)


def path_loss(scenario: Scenario, distance_m: F64, *, height_m: F64, environment_m: F64) -> tuple[F64, F64]:
    """Table 7.4.1-1: losses in dB with and without line of sight. `environment_m` is h_E."""
    site, f = scenario.site_height_m, scenario.frequency_ghz
    log_f = np.log10(f)
    d3 = np.hypot(distance_m, site - height_m)
    log_d = np.log10(d3)
    breakpoint_m = 4.0 * (site - environment_m) * (height_m - environment_m) * f * 1e9 / _LIGHT
    beyond = np.log10(breakpoint_m**2 + (site - height_m) ** 2)
    if scenario.name == "UMa":
        near, far = 28.0 + 22.0 * log_d + 20.0 * log_f, 28.0 + 40.0 * log_d + 20.0 * log_f - 9.0 * beyond
        blocked = 13.54 + 39.08 * log_d + 20.0 * log_f - 0.6 * (height_m - 1.5)
    else:
        near, far = 32.4 + 21.0 * log_d + 20.0 * log_f, 32.4 + 40.0 * log_d + 20.0 * log_f - 9.5 * beyond
        blocked = 35.3 * log_d + 22.4 + 21.3 * log_f - 0.3 * (height_m - 1.5)
    los = np.where(distance_m <= breakpoint_m, near, far)
    return los, np.maximum(los, blocked)


def _tall(height_m: F64) -> F64:
    """C'(h_UT): zero up to 13 m."""
    return (np.maximum(height_m - 13.0, 0.0) / 10.0) ** 1.5


def _environment_height(scenario: Scenario, distance_m: F64, *, height_m: F64, chance: F64, which: F64) -> F64:
    """h_E: 1 m, or (UMa, tall users) with the note of Table 7.4.1-1 uniform on {12, 15, ..., h_UT - 1.5}.

    It must be drawn: with 1 m for all, users on high floors are too lucky.
    """
    if scenario.name == "UMi":
        return np.ones_like(distance_m)
    far = np.where(distance_m <= 18.0, 0.0, 1.25 * (distance_m / 100.0) ** 3 * np.exp(-distance_m / 150.0))
    steps = np.floor((height_m - 1.5 - 12.0) / 3.0).astype(np.int64) + 1
    drawn = 12.0 + 3.0 * np.minimum(np.floor(which * steps), steps - 1)
    one = (chance < 1.0 / (1.0 + _tall(height_m) * far)) | (steps < 1)
    return np.where(one, 1.0, drawn)
