"""The sync face is made from the async one, and what is public stays public."""

import inspect
from pathlib import Path

import pytest

import rlaas.sdk
from rlaas_ray.sdk import faces


@pytest.mark.parametrize(("source", "target"), faces.FILES.items())
def test_the_sync_face_is_what_the_async_one_makes(source: str, target: str) -> None:
    folder = Path(inspect.getfile(faces)).parent
    made = faces.formatted(faces.sync((folder / source).read_text(), source=source))
    assert made == (folder / target).read_text(), "run python -m rlaas_ray.sdk.faces"


@pytest.mark.parametrize("name", ["RLaaSClient", "Run", "Endpoint", "Rollout"])
def test_both_faces_offer_the_same(name: str) -> None:
    one, other = getattr(rlaas.sdk, name), getattr(rlaas.sdk, f"Async{name}")
    public = {member for member in vars(one) if not member.startswith("_")}
    assert public == {{"aclose": "close"}.get(member, member) for member in vars(other) if not member.startswith("_")}


def test_what_is_promised_is_there() -> None:
    assert all(hasattr(rlaas.sdk, name) for name in rlaas.sdk.__all__)
