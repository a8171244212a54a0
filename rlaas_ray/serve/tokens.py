"""State tokens: what a policy with a memory remembers of a unit travels with the client, opaque and authenticated.

Sealed by `decide.py` into answers, opened by `asks.py` from requests. A token is bound to its endpoint and unit and names the
bundle whose state it is. The key is derived from the home's pepper, so that every replica of a home opens what another one
sealed. Never keeps anything: a server that restarts has forgotten nobody.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlaas_ray.errors import InvalidInput
from rlaas_ray.serve.keys import Keyring
from rlaas_ray.specs.arrays import F32

LONGEST = 512 * 1024  # characters, half of a whole request
_VERSION, _NAME, _PROOF = b"\x01", 8, 16  # bytes: format, digest of the bundle's digest, authentication code
_PURPOSE = b"rlaas state token"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Remembered:
    """A token that was given by this home to this unit of this endpoint."""

    token: str
    bundle: bytes
    state: F32  # (s,)


class Tokens:
    """Seals and opens tokens with the key of `keys`."""

    def __init__(self, keys: Keyring) -> None:
        self._keys = keys

    def seal(self, state: F32, *, endpoint: str, unit: str, digest: str) -> str:
        """The token of a state (s,) of the bundle `digest`."""
        body = _VERSION + _name(digest) + np.ascontiguousarray(state, dtype="<f4").tobytes()
        return base64.urlsafe_b64encode(body + self._proof(body, endpoint=endpoint, unit=unit)).decode()

    def open(self, token: str, *, endpoint: str, unit: str, where: str) -> Remembered:
        """What a token holds. Raises InvalidInput for one that was not given to this unit by this endpoint."""
        body, proof = _parts(token)
        if body[:1] != _VERSION or not hmac.compare_digest(proof, self._proof(body, endpoint=endpoint, unit=unit)):
            raise InvalidInput(
                "field 'state_token'",
                given=f"{token[:12]}...",
                expected="the token of this unit's last answer from this endpoint, unchanged",
                cure="Leave `state_token` out: the episode starts anew.",
                pointer=f"{where}/state_token",
            )
        state = np.frombuffer(body[1 + _NAME :], dtype="<f4").astype(np.float32)
        return Remembered(token=token, bundle=body[1 : 1 + _NAME], state=state)

    def _proof(self, body: bytes, *, endpoint: str, unit: str) -> bytes:
        whose = f"{endpoint}\0{unit}\0".encode("utf-8", "surrogatepass")
        return hmac.new(self._keys.derived(_PURPOSE), whose + body, hashlib.sha256).digest()[:_PROOF]


def states(given: Sequence[Remembered | None], *, digest: str, size: int) -> F32:
    """States (n, size) that the bundle `digest` goes on from: nothing where there is no token, or another bundle's.

    Another bundle's memory means nothing to this one: after a promotion or a change of arms an episode's memory starts anew.
    """
    found = np.zeros((len(given), size), dtype=np.float32)
    name = _name(digest)
    for row, remembered in enumerate(given):
        if remembered is not None and remembered.bundle == name and len(remembered.state) == size:
            found[row] = remembered.state
    return found


def _name(digest: str) -> bytes:
    return hashlib.blake2b(digest.encode(), digest_size=_NAME).digest()


def _parts(token: str) -> tuple[bytes, bytes]:
    """Body and proof; empty where this is no token at all."""
    try:
        raw = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        return b"", b""
    if len(raw) < 1 + _NAME + _PROOF or (len(raw) - 1 - _NAME - _PROOF) % 4:
        return b"", b""
    return raw[:-_PROOF], raw[-_PROOF:]
