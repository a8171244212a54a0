"""The training specs that the repository ships are valid and resolve to a plan."""

from pathlib import Path

import pytest
import yaml

from rlaas_ray.specs import document
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.train import runner

CONFIGS = sorted(
    path
    for path in (Path(__file__).parents[3] / "configs").glob("*.yaml")
    if yaml.safe_load(path.read_text()).get("kind") == "Train"
)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_shipped_spec_resolves(path: Path) -> None:
    spec = document.parse(TrainSpec, yaml.safe_load(path.read_text()))
    worlds, plan = runner.resolve(spec)
    told = spec.num_env_runners
    assert plan.num_env_runners == (told if told is not None else 2 if spec.dataset is None else 0)
    assert worlds.units == (21 if "Ran" in spec.env else 1)


def test_there_are_some() -> None:
    assert len(CONFIGS) >= 3
