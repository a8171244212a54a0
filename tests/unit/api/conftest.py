"""A house per test: the whole control plane on twins."""

import pytest

from rlaas_ray.testing.house import House


@pytest.fixture
def house(tmp_path):
    made = House(tmp_path / "home")
    yield made
    made.application.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One house for tests that are refused and so change nothing."""
    made = House(tmp_path_factory.mktemp("shared") / "home")
    yield made
    made.application.close()
