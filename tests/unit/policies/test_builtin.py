"""Built-in policies are found by entry point, named by bundles, and refused when another version would act in their name."""

import importlib.metadata
import json
import types

import numpy as np
import pytest
from gymnasium import spaces as gs

from rlaas_ray.errors import InvalidInput, NotFound, Refused
from rlaas_ray.policies import builtin, bundle, heads, manifest

OBSERVATIONS = gs.Box(-1, 1, (3,), np.float32)
ACTIONS = gs.Box(-2, 2, (2,), np.float32)


class Hold:
    """Always the same action; the second entry out of the env's bounds."""

    def __init__(self, *, level: float = 0.5) -> None:
        if not isinstance(level, float):
            raise TypeError("level must be a number")
        self.head = heads.Point(entries=2)
        self.level = level

    def distribution(self, observations):
        return np.tile(np.array([self.level, 9.0], np.float32), (len(observations), 1))


@pytest.fixture
def installed(monkeypatch):
    """An installed package with one entry point; the version can be set."""
    state = types.SimpleNamespace(version="1.4.2", module=types.SimpleNamespace(POLICIES={"hold": Hold}))

    class Entry:
        value = "package.baselines"

        @property
        def dist(self):
            return types.SimpleNamespace(name="package", version=state.version)

        def load(self):
            return state.module

    def entry_points(*, group, name):
        assert group == "rlaas.baselines"
        return [Entry()] if name == "Net-v1" else []

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    return state


def write(path, *, env="Net-v1", name="hold", **parameters):
    return bundle.write_builtin(
        path, env=env, name=name, parameters=parameters, observation_space=OBSERVATIONS, action_space=ACTIONS
    )


def test_a_built_in_bundle_names_its_policy_and_acts_like_any_other(installed, tmp_path):
    digest = write(tmp_path / "b", level=1.5)
    found = bundle.verify(tmp_path / "b")
    assert found.builtin.to_json() == {
        "policy": "baseline:Net-v1/hold",
        "parameters": {"level": 1.5},
        "package": "package",
        "version": "1.4.2",
    }
    policy = bundle.load(tmp_path / "b")
    assert policy.digest == digest
    drawn = policy.decide(policy.encode(np.zeros((2, 3))), rng=np.random.default_rng(0))
    assert drawn.action_proposed.tolist() == [[1.5, 9.0]] * 2
    assert drawn.action.tolist() == [[1.5, 2.0]] * 2
    assert drawn.propensity.tolist() == [1.0, 1.0]
    assert {p.name for p in (tmp_path / "b").iterdir()} == {"manifest.json", "card.md"}


def test_the_same_call_gives_the_same_digest_and_other_parameters_another(installed, tmp_path):
    assert write(tmp_path / "a") == write(tmp_path / "b") != write(tmp_path / "c", level=0.25)


def test_a_built_in_bundle_travels_as_an_archive(installed, tmp_path):
    digest = write(tmp_path / "b")
    bundle.pack(tmp_path / "b", tmp_path / "b.tar.zst")
    assert bundle.load(tmp_path / "b.tar.zst").digest == digest


@pytest.mark.parametrize(("version", "accepted"), [("1.4.9", True), ("1.5.0", False), ("2.4.2", False)])
def test_another_minor_version_of_the_package_is_refused_with_a_cure(installed, tmp_path, version, accepted):
    write(tmp_path / "b")
    installed.version = version
    if accepted:
        bundle.load(tmp_path / "b")
        return
    with pytest.raises(Refused, match="another version of package") as caught:
        bundle.load(tmp_path / "b")
    assert "package 1.4" in caught.value.cure


def test_an_unknown_built_in_is_not_found_with_the_nearest(installed, tmp_path):
    with pytest.raises(NotFound, match="'holt'") as caught:
        write(tmp_path / "b", name="holt")
    assert "'hold'" in caught.value.cure
    assert builtin.known("Net-v1") == ["hold", "random"]


def test_parameters_that_the_policy_does_not_take_are_refused(installed, tmp_path):
    for parameters in ({"level": "high"}, {"tilt": 3}):
        with pytest.raises(InvalidInput, match="parameters of a built-in"):
            write(tmp_path / "b", **parameters)


def test_an_entry_point_without_policies_is_refused(installed, tmp_path):
    installed.module = types.SimpleNamespace()
    with pytest.raises(InvalidInput, match="POLICIES"):
        write(tmp_path / "b")


def test_a_policy_whose_head_changed_is_refused(installed, tmp_path):
    write(tmp_path / "b")

    class Other(Hold):
        def __init__(self) -> None:
            super().__init__()
            self.head = heads.DiagonalGaussian(entries=2)

    installed.module.POLICIES["hold"] = Other
    with pytest.raises(Refused, match="another head"):
        bundle.load(tmp_path / "b")


def test_a_forged_name_is_not_found(installed, tmp_path):
    write(tmp_path / "b")
    body = json.loads((tmp_path / "b" / "manifest.json").read_text())
    body["builtin"]["policy"] = "baseline:Net-v1/other"
    body["digest"] = manifest.digest(body)
    (tmp_path / "b" / "manifest.json").write_text(json.dumps(body))
    with pytest.raises(NotFound):
        bundle.verify(tmp_path / "b")


def test_every_env_has_a_random_policy(tmp_path):
    for space, density in ((gs.Discrete(4), 0.25), (gs.MultiDiscrete([2, 5]), 0.1), (ACTIONS, 1 / 16)):
        path = tmp_path / str(density)
        bundle.write_builtin(
            path,
            env="Anything-v0",
            name="random",
            parameters={},
            observation_space=OBSERVATIONS,
            action_space=space,
        )
        policy = bundle.load(path)
        drawn = policy.decide(np.zeros((3, 3), np.float32), rng=np.random.default_rng(0))
        np.testing.assert_allclose(drawn.propensity, density)


def test_no_random_policy_without_bounds(tmp_path):
    with pytest.raises(InvalidInput, match="finite bounds"):
        builtin.uniform(gs.Box(-np.inf, 1, (1,)))
