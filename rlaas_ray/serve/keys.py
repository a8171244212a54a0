"""Who may ask for decisions: API keys by prefix and HMAC-SHA256(pepper, secret); nobody needs one on loopback unless told.

Told by `routes.py` with each poll, asked by `answer.py` on each request. Keeps hashes only, never a secret.
Which roles there are is in `store/keys.py`; what they may at the control API in `api/roles.py`.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from rlaas_ray.errors import Forbidden, Unauthorized
from rlaas_ray.serve.wire import Request

Mode = Literal["loopback", "key"]
MAY_DECIDE = frozenset({"decider", "operator", "admin"})
MAY_LOOK = MAY_DECIDE | {"viewer", "approver"}
_NOBODY = "0" * 64


class Keyring:
    """The keys of a pool. Replaced as a whole when the API tells others."""

    def __init__(self, *, mode: Mode) -> None:
        self._mode = mode
        self._pepper = b""
        self._own = secrets.token_bytes(32)
        self._keys: Mapping[str, tuple[str, frozenset[str]]] = {}

    def replace(self, keys: Iterable[Mapping[str, Any]], *, pepper: bytes) -> None:
        """Take the keys of `GET /internal/routes`: each `{"prefix", "hash", "roles"}`."""
        self._pepper = pepper
        self._keys = {str(key["prefix"]): (str(key["hash"]), frozenset(key["roles"])) for key in keys}

    def derived(self, purpose: bytes) -> bytes:
        """A key for `purpose` alone, the same at every server of a home; of this process where no API told the pepper."""
        return hmac.new(self._pepper or self._own, purpose, hashlib.sha256).digest()

    def check(self, request: Request, *, roles: frozenset[str]) -> None:
        """Raises Unauthorized without a key that is known, Forbidden with one that has none of `roles`."""
        if self._mode == "loopback" and is_local(request):
            return
        held = self._held(request)
        if held is None:
            raise Unauthorized(
                "no valid API key",
                expected="`Authorization: Bearer rlk_...`",
                cure="`rlaas keys create --role decider` makes one.",
            )
        if not held & roles:
            raise Forbidden("the key's role", given=sorted(held), expected=f"one of {sorted(roles)}")

    def _held(self, request: Request) -> frozenset[str] | None:
        token = _token(request)
        parts = token.split("_", 2)
        prefix, secret = (parts[1], parts[2]) if len(parts) == 3 and parts[0] == "rlk" else ("", "")
        wanted, roles = self._keys.get(prefix, (_NOBODY, frozenset()))
        # Compared also for a prefix that nobody has, so that an answer's time does not tell which prefixes exist.
        given = hmac.new(self._pepper, secret.encode(), hashlib.sha256).hexdigest()
        return roles if hmac.compare_digest(given, wanted) and roles else None


def is_local(request: Request) -> bool:
    """Whether the client sits on this machine: the peer does, and so does whoever a forwarding proxy names."""
    if not request.local or b"forwarded" in request.headers:
        return False
    forwarded = request.headers.get(b"x-forwarded-for")
    if forwarded is None:
        return True
    return all(loopback(hop.strip()) for hop in forwarded.decode("latin-1").split(","))


@functools.lru_cache(maxsize=1024)
def loopback(host: str) -> bool:
    """Whether an address is this machine's own; what is no address is not."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return address.is_loopback or (mapped is not None and mapped.is_loopback)


def _token(request: Request) -> str:
    given = request.headers.get(b"authorization", b"")
    if given[:7].lower() == b"bearer ":
        return given[7:].strip().decode("latin-1")
    return request.headers.get(b"x-api-key", b"").decode("latin-1")
