"""The channel against 3GPP's published medians; the geometry against itself; WMMSE against Sun et al. 2018."""

import numpy as np
import pytest

from rlaas_ray.envs import philox
from rlaas_ray.envs.ran import calibration, channel, layout, radio, wmmse
from rlaas_ray.errors import InvalidInput


@pytest.mark.slow
@pytest.mark.parametrize("rings", [1, 2])
@pytest.mark.parametrize(("name", "frequency"), list(calibration.PUBLISHED))
def test_calibration_medians_are_those_of_the_3gpp_companies(name, frequency, rings):
    found = calibration.calibrate(channel.Scenario(name=name, frequency_ghz=frequency), rings=rings)
    coupling, sir = calibration.PUBLISHED[name, frequency]
    assert np.median(found.coupling_db) == pytest.approx(coupling, abs=1.2)
    assert np.median(found.sir_db) == pytest.approx(sir, abs=1.0)


def test_calibration_tails_of_uma_at_6_ghz():
    found = calibration.calibrate(channel.Scenario(frequency_ghz=6.0), rings=2)
    assert np.percentile(found.coupling_db, [5, 95]) == pytest.approx([-150.4, -86.0], abs=1.2)
    assert np.percentile(found.sir_db, [5, 95]) == pytest.approx([-1.0, 25.6], abs=1.0)


def test_path_loss_closed_forms_at_100_metres():
    uma, umi = channel.Scenario(frequency_ghz=3.5), channel.Scenario(name="UMi", frequency_ghz=3.5)
    d, height, one = np.array([100.0]), np.array([1.5]), np.array([1.0])
    los, nlos = channel.path_loss(uma, d, height_m=height, environment_m=one)
    d3 = np.log10(np.hypot(100.0, 23.5))
    f = np.log10(3.5)
    assert los[0] == pytest.approx(28 + 22 * d3 + 20 * f)
    assert nlos[0] == pytest.approx(13.54 + 39.08 * d3 + 20 * f)
    los, nlos = channel.path_loss(umi, d, height_m=height, environment_m=one)
    d3 = np.log10(np.hypot(100.0, 8.5))
    assert los[0] == pytest.approx(32.4 + 21 * d3 + 20 * f)
    assert nlos[0] == pytest.approx(35.3 * d3 + 22.4 + 21.3 * f)


def test_uma_los_loss_is_continuous_at_its_break_point():
    scenario = channel.Scenario()
    breakpoint_m = 4.0 * 24.0 * 0.5 * 3.5e9 / 299_792_458.0
    d = breakpoint_m + np.array([-1e-6, 1e-6])
    los, _ = channel.path_loss(scenario, d, height_m=np.full(2, 1.5), environment_m=np.ones(2))
    assert los[0] == pytest.approx(los[1], abs=1e-4)


def test_los_probability_closed_forms():
    uma, umi = channel.Scenario(), channel.Scenario(name="UMi")
    d, low = np.array([10.0, 18.0, 100.0]), np.full(3, 1.5)
    expected = 0.18 + np.exp(-100 / 63) * 0.82
    assert channel.los_probability(uma, d, height_m=low) == pytest.approx([1.0, 1.0, expected])
    assert channel.los_probability(umi, d, height_m=low)[2] == pytest.approx(0.18 + np.exp(-100 / 36) * 0.82)
    tall = channel.los_probability(uma, d, height_m=np.full(3, 22.5))[2]
    assert tall == pytest.approx(expected * (1 + 0.95**1.5 * 1.25 * np.exp(-100 / 150)))


def test_building_entry_loss_has_the_published_means():
    uniform = philox.uniforms(1, purpose=1, shape=(200_000, 8))
    users = channel.draw_users(channel.Scenario(frequency_ghz=3.5), uniform)
    assert users.indoor.mean() == pytest.approx(0.8, abs=0.005)
    assert users.depth_m[users.indoor].mean() == pytest.approx(25 / 3, abs=0.1)  # E min of two U(0, 25)
    assert set(np.unique(users.height_m)) <= {1.5 + 3.0 * k for k in range(8)}
    glass, coated, concrete = 2.7, 24.05, 19.0
    low = 5 - 10 * np.log10(0.3 * 10 ** (-glass / 10) + 0.7 * 10 ** (-concrete / 10))
    high = 5 - 10 * np.log10(0.7 * 10 ** (-coated / 10) + 0.3 * 10 ** (-concrete / 10))
    assert users.entry_db[users.indoor].mean() == pytest.approx((low + high) / 2 + 25 / 6, abs=0.15)
    assert (users.entry_db[~users.indoor] == 0).all()


@pytest.mark.parametrize(("rings", "sites"), [(1, 7), (2, 19)])
def test_the_torus_looks_the_same_from_every_site(rings, sites):
    net = layout.network(rings=rings)
    assert len(net.sites) == sites
    profile = np.sort(np.round(layout.links(net, net.sites).distance_m, 6), axis=1)
    assert (profile == profile[0]).all()
    assert profile[0, 1:7] == pytest.approx(np.full(6, 500.0))


def test_uniform_points_are_in_the_hexagons_and_not_too_near():
    net = layout.network()
    points = layout.uniform_points(net, philox.uniforms(3, purpose=1, shape=(50_000, 13)))
    nearest = layout.links(net, points).distance_m.min(axis=1)
    assert nearest.min() >= 35.0 - 1e-9
    assert nearest.max() <= 500.0 / np.sqrt(3.0) + 1e-9
    # Uniform: the share within 125 m of a site is the ring's area over the hexagon's.
    hexagon = np.sqrt(3.0) / 2.0 * 500.0**2
    expected = np.pi * (125.0**2 - 35.0**2) / (hexagon - np.pi * 35.0**2)
    assert (nearest < 125.0).mean() == pytest.approx(expected, abs=4 * np.sqrt(expected / 50_000))


def test_neighbours_are_six_others_and_alike_for_every_site():
    found = layout.neighbours(layout.network())
    assert found.shape == (21, 6)
    assert all(cell not in row and len(set(row)) == 6 for cell, row in enumerate(found))
    own_site = (found // 3 == (np.arange(21) // 3)[:, None]).sum(axis=1)
    assert len(set(own_site)) == 1


def test_antenna_patterns_are_exact():
    assert radio.horizontal_db(np.array([0.0, 32.5, 65.0, 180.0])) == pytest.approx([0, 3, 12, 25])
    assert radio.vertical_db(np.array([6.0, 11.0, 40.0]), np.full(3, 6.0)) == pytest.approx([0, 3, 20])
    peak = calibration.antenna_db(np.array([102.0]), phi_deg=np.array([0.0]))
    assert peak[0] == pytest.approx(8.0 - 12 * (12 / 65) ** 2 + 10.0)


def test_unknown_scenarios_and_rings_say_what_is_known():
    with pytest.raises(InvalidInput, match="UMa or UMi"):
        channel.Scenario(name="RMa")
    with pytest.raises(InvalidInput, match="1 or 2"):
        layout.network(rings=3)


@pytest.mark.parametrize(("links", "published", "all_on"), [(10, 2.82, 1.416), (20, 3.65, 1.440), (30, 4.15, 1.439)])
def test_wmmse_reaches_the_published_sum_rates(links, published, all_on):
    rng = np.random.default_rng(0)
    gain = rng.exponential(size=(2000, links, links))  # |CN(0, 1)|^2
    power = wmmse.wmmse(gain)
    assert ((power >= 0) & (power <= 1.0 + 1e-12)).all()
    assert wmmse.sum_rate(gain, power).mean() == pytest.approx(published, abs=0.06)
    assert wmmse.sum_rate(gain, np.ones_like(power)).mean() == pytest.approx(all_on, abs=0.03)


def test_wmmse_without_interference_uses_full_power():
    gain = np.eye(4)[None] * 3.0
    assert wmmse.wmmse(gain) == pytest.approx(np.ones((1, 4)))
    with pytest.raises(InvalidInput, match="n, K, K"):
        wmmse.wmmse(np.ones((2, 3)))
