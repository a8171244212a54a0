"""A house per test: the whole control plane on twins."""

import pytest

from rlaas_ray.testing.house import House


@pytest.fixture
def house(tmp_path):
    made = House(tmp_path / "home")
    yield made
    made.application.close()
