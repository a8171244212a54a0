"""Route tables into a State: greater epochs only, failures leave what was, the disk remembers."""

import dataclasses
import json

import gymnasium
import numpy as np
import pytest

from rlaas_ray.errors import InvalidInput, Tampered
from rlaas_ray.monitoring.metrics import ServingMetrics
from rlaas_ray.serve.keys import Keyring
from rlaas_ray.serve.routes import NOTHING, Routes, Told


class Loader:
    """Opens `constant` policies by path; counts, and refuses what it is told to."""

    def __init__(self, policies):
        self.policies, self.opened, self.broken = policies, [], set()

    def __call__(self, path):
        self.opened.append(path.name)
        if path.name in self.broken:
            raise Tampered("bundle", given=path.name)
        return self.policies[path.name]


@pytest.fixture
def loader(world):
    return Loader({f"d-{name}": policy for name, policy in world.policies.items()})


@pytest.fixture
def make(tmp_path, loader):
    def made(published=None):
        return Routes(
            pool="policies",
            cache=tmp_path / "routes",
            load=loader,
            publish=(lambda state: None) if published is None else published.append,
            keys=Keyring(mode="loopback"),
            metrics=ServingMetrics(),
            rng=np.random.default_rng(0),
        )

    return made


def told(*tables, epoch=None):
    digests = {arm.digest for table in tables for arm in table.arms}
    epoch = max(t.epoch for t in tables) if epoch is None else epoch
    return Told(epoch=epoch, tables=tables, bundles={d: f"/bundles/{d}" for d in digests}, keys=(), pepper_path=None)


def test_a_table_is_loaded_warmed_and_published_as_one_state(make, loader, table, world):
    published = []
    state = make(published).take(told(table(epoch=3)))
    assert published == [state]
    assert (state.epoch, state.ready, list(state.endpoints)) == (3, True, ["cells"])
    assert sorted(loader.opened) == ["d-champion", "d-fallback"]
    assert {len(batch) for batch in world.policies["champion"].calls} == {1, 64}


def test_only_a_greater_epoch_is_taken(make, table):
    routes = make()
    routes.take(told(table(epoch=3)))
    state = routes.take(told(table(epoch=2, deadline_ms=9)))
    assert (state.epoch, state.endpoints["cells"].table.deadline_ms) == (3, 250)
    assert routes.take(told(table(epoch=4, deadline_ms=9))).endpoints["cells"].table.deadline_ms == 9


def test_bundles_are_opened_once_and_breakers_outlive_a_swap(make, loader, table):
    routes = make()
    held = routes.take(told(table(epoch=3))).endpoints["cells"]
    held.breaker(held.table.champion).failures = 4
    after = routes.take(told(table(epoch=4))).endpoints["cells"]
    assert loader.opened.count("d-champion") == 1
    assert after.breaker(after.table.champion).failures == 4


def test_a_table_that_cannot_be_loaded_leaves_the_old_state_and_says_so(make, loader, table):
    routes = make()
    routes.take(told(table(epoch=3)))
    loader.broken.add("d-challenger")
    state = routes.take(told(table(epoch=4, share=0.5), table(epoch=5, endpoint="drones")))
    assert state.epoch == 3  # the cursor stays, so that the API tells epoch 4 again
    assert state.endpoints["cells"].table.epoch == 3
    assert state.endpoints["drones"].table.epoch == 5
    assert "epoch 4" in routes.failed["cells"]
    loader.broken.clear()
    assert routes.take(told(table(epoch=4, share=0.5))).endpoints["cells"].table.epoch == 4
    assert routes.failed == {}


def test_a_bundle_whose_actions_are_not_finite_is_not_taken(make, table, world):
    world.policies["champion"].value = float("nan")
    assert make().take(told(table(epoch=3))).endpoints == {}


def test_arms_of_other_spaces_are_not_taken(make, table, world):
    world.policies["challenger"].observation_space = gymnasium.spaces.Box(-1, 1, (4,), np.float32)
    routes = make()
    assert routes.take(told(table(epoch=3, share=0.5))).endpoints == {}
    assert "spaces of arm 'challenger'" in routes.failed["cells"]


def test_a_deleted_endpoint_goes(make, table):
    routes = make()
    routes.take(told(table(epoch=3)))
    assert routes.take(told(table(epoch=4, deleted=True))).endpoints == {}


def test_what_was_told_is_on_disk_and_serves_a_restart_without_the_api(make, table, tmp_path):
    routes = make()
    routes.take(told(table(epoch=3), table(epoch=2, endpoint="drones")))
    routes.take(told(table(epoch=5)))
    routes._write_cache()
    again = make()
    assert again.read_cache()
    assert again.state.epoch == 5
    assert {name: e.table.epoch for name, e in again.state.endpoints.items()} == {"cells": 5, "drones": 2}
    assert (tmp_path / "routes/policies.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("text", ["", "{", "[]", '{"epoch": 1}'])
def test_rubbish_on_disk_is_left_alone(make, tmp_path, text):
    (tmp_path / "routes").mkdir()
    (tmp_path / "routes/policies.json").write_text(text)
    routes = make()
    assert not routes.read_cache()
    assert not routes.state.ready


def test_an_answer_of_the_api_that_is_none_is_refused():
    with pytest.raises(InvalidInput, match="routes of the API"):
        Told.from_json({"epoch": "x", "tables": [], "bundles": {}})


def test_told_is_json_both_ways(table):
    one = told(table(epoch=3))
    assert Told.from_json(json.loads(json.dumps(one.to_json()))) == one
    assert NOTHING.joined(one) == dataclasses.replace(one)
