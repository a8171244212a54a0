"""Who asks: a key or the controller loop, with its roles; every use case that changes something takes one.

Made by the API from a key, by `wiring` for the loop. Carries what the audit log needs and nothing secret.
"""

from __future__ import annotations

from dataclasses import dataclass

from rlaas_ray.errors import Forbidden


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """`id` is `key:<id>` or `controller`. `subject` binds a run key to `run:<id>` or `pool:<name>`."""

    id: str
    roles: frozenset[str]
    subject: str | None = None
    request_id: str | None = None

    def must_be(self, subject: str) -> None:
        """Raises Forbidden when a bound key is used for something else."""
        if self.subject is not None and self.subject != subject:
            raise Forbidden("this key is for something else", given=subject, expected=self.subject)


CONTROLLER = Actor(id="controller", roles=frozenset({"admin"}))
