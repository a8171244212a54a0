"""Who needs a key, at the data plane's own door and through the API's forwarding; and that keys of the API open the door."""

import asyncio

import httpx
import pytest

from rlaas_ray.api import forward
from rlaas_ray.serve import plane
from rlaas_ray.serve.routes import Told
from rlaas_ray.testing import bundles
from rlaas_ray.testing.house import House

HERE, ELSEWHERE = "127.0.0.1", "203.0.113.9"
PATH = "/v1/endpoints/cells/decisions"
BODY = {"unit": "cell-7", "observation": [0.1, 0.2, 0.3, 0.4]}


class Doors:
    """A control plane, and a data plane that has taken its news, both in this process."""

    def __init__(self, root):
        self.house = House(root / "home")
        self.root = root
        self.plane = plane.build(pool="policies", home=root / "plane", data=root / "plane", auth="loopback")
        self.hears()

    def hears(self):
        """The data plane takes the keys that the API's feed tells now, with a table of a policy of ours."""
        digest = bundles.a_bundle(self.root / "bundle") if not (self.root / "bundle").exists() else self.digest
        self.digest = digest
        told = self.house.application.feed.news("policies", after_epoch=-1, listener=None)
        told |= {"epoch": 1, "tables": [bundles.a_table(digest).to_json()]}
        told |= {"bundles": {digest: str(self.root / "bundle")}}
        self.plane.routes.take(Told.from_json(told))

    def ask(self, *, through_api, peer, headers=(), key=None):
        """Status of one decision for a client at `peer`, straight or through the API."""
        given = [*headers, *([("authorization", f"Bearer {key}")] if key else [])]
        if not through_api:
            return asyncio.run(_post(self.plane.door, peer=peer, headers=given))
        self.house.application.feed.hear("policies", address="127.0.0.1:8002", pid=None, epoch=1)
        native = httpx.ASGITransport(self.plane.door, client=(HERE, 40_000))
        app = forward.Forward(self.house.api, application=self.house.application, transport=native)
        return asyncio.run(_post(app, peer=peer, headers=given))


async def _post(app, *, peer, headers):
    transport = httpx.ASGITransport(app, client=(peer, 50_000))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        return (await client.post(PATH, json=BODY, headers=headers)).status_code


@pytest.fixture(scope="module")
def doors(tmp_path_factory):
    made = Doors(tmp_path_factory.mktemp("doors"))
    yield made
    made.plane.close()
    made.house.application.close()


@pytest.mark.parametrize("through_api", [False, True])
@pytest.mark.parametrize(
    ("peer", "headers", "status"),
    [
        (HERE, [], 200),
        ("::1", [], 200),
        (HERE, [("x-forwarded-for", "127.0.0.1")], 200),
        (ELSEWHERE, [], 401),
        # What a stranger says of itself opens nothing.
        (ELSEWHERE, [("x-forwarded-for", "127.0.0.1")], 401),
        (ELSEWHERE, [("x-forwarded-for", "127.0.0.1"), ("x-forwarded-for", "::1")], 401),
        (ELSEWHERE, [("forwarded", "for=127.0.0.1")], 401),
        # A proxy on this machine in front of us names its client.
        (HERE, [("x-forwarded-for", ELSEWHERE)], 401),
        (HERE, [("x-forwarded-for", ELSEWHERE), ("x-forwarded-for", "127.0.0.1")], 401),
        (HERE, [("x-forwarded-for", "127.0.0.1.evil.example")], 401),
        (HERE, [("x-forwarded-for", "")], 401),
        (HERE, [("forwarded", "for=203.0.113.9")], 401),
    ],
)
def test_only_who_sits_on_this_machine_needs_no_key(doors, through_api, peer, headers, status):
    assert doors.ask(through_api=through_api, peer=peer, headers=headers) == status


@pytest.mark.parametrize("through_api", [False, True])
def test_a_key_of_the_api_opens_the_data_plane_until_it_is_revoked(doors, through_api):
    made = doors.house.ask("POST", "/api/v1/keys", json={"roles": ["decider"], "note": "cells"}).json()
    assert doors.ask(through_api=through_api, peer=ELSEWHERE, key=made["secret"]) == 401  # not heard of yet
    doors.hears()
    assert doors.ask(through_api=through_api, peer=ELSEWHERE, key=made["secret"]) == 200
    doors.house.ask("DELETE", f"/api/v1/keys/{made['id']}")
    doors.hears()
    assert doors.ask(through_api=through_api, peer=ELSEWHERE, key=made["secret"]) == 401


def test_the_admins_key_opens_the_data_plane_and_a_viewers_does_not(doors):
    viewer = doors.house.ask("POST", "/api/v1/keys", json={"roles": ["viewer"], "note": "looks"}).json()
    doors.hears()
    assert doors.ask(through_api=False, peer=ELSEWHERE, key=doors.house.key) == 200
    assert doors.ask(through_api=False, peer=ELSEWHERE, key=viewer["secret"]) == 401
