"""The manifest of a Bundle: what the policy is, which files belong to it, and the digest that names it.

Read and written by bundle.py; its `digest` is the identity of a version everywhere in the product. Never touches a disk.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal

import pydantic
import rfc8785
from pydantic import Field

from rlaas_ray.errors import Tampered
from rlaas_ray.policies import spaces
from rlaas_ray.policies.preferences import Preference
from rlaas_ray.specs import document

FORMAT_VERSION = 1
RECURRENT_VERSION = 2  # format 1 and a memory in the network: readers of format 1 would serve it without its state
PREFERENCE_VERSION = 3  # and a preference: others would serve it without the weights that it observes
ENCODER_VERSION = 1  # of spaces.encode: another flattening is another version
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"


class FileEntry(document.Document):
    """One file beside the manifest."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0)


class TensorEntry(document.Document):
    """One array of weights.safetensors."""

    dtype: Literal["float32", "float64", "int64"]
    shape: tuple[int, ...]


class BuiltinEntry(document.Document):
    """Which built-in policy, with what, of which package version."""

    policy: str = Field(pattern=r"^baseline:.+/.+$")
    parameters: dict[str, Any] = Field(default_factory=dict)
    package: str
    version: str


class Encoder(document.Document):
    """The encoder program: version of `spaces.encode` and the size it must give."""

    version: int
    size: int = Field(ge=1)


class Manifest(pydantic.BaseModel):
    """manifest.json. `network` holds the layer program with frozen normalisation and view; arrays are in the weights."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format_version: int
    kind: Literal["learned", "builtin"]
    name: str = Field(pattern=NAME)
    created_us: int = Field(ge=0)
    env: str = Field(min_length=1)
    algorithm: str = Field(min_length=1)
    observation_space: dict[str, Any]
    action_space: dict[str, Any]
    encoder: Encoder
    head: dict[str, Any]
    decoder: dict[str, Any]
    serving: Literal["sample", "greedy"]
    seed: int = Field(ge=0)
    spec_digest: str = ""
    network: dict[str, Any] | None = None
    tensors: dict[str, TensorEntry] = Field(default_factory=dict)
    builtin: BuiltinEntry | None = None
    preference: Preference | None = None
    files: dict[str, FileEntry]
    digest: str = ""

    @pydantic.model_validator(mode="after")
    def _whole(self) -> Manifest:
        learned = self.network is not None and bool(self.tensors) and self.builtin is None
        built_in = self.network is None and not self.tensors and self.builtin is not None
        if not (learned if self.kind == "learned" else built_in):
            msg = "a learned policy has a network and tensors, a builtin names its policy, never both"
            raise ValueError(msg)
        if self.preference is not None and built_in:
            msg = "a builtin policy has no preference"
            raise ValueError(msg)
        return self

    def to_json(self) -> dict[str, Any]:
        """The manifest as JSON values, absent optionals left out."""
        return self.model_dump(mode="json", exclude_none=True)

    @property
    def spaces(self) -> tuple[spaces.Space, spaces.Space]:
        """Observation space, action space."""
        return spaces.from_json(self.observation_space), spaces.from_json(self.action_space)

    @property
    def remembers(self) -> bool:
        """Whether the network has a memory. A built-in policy tells only once it is loaded."""
        return self.network is not None and "memory" in self.network


def inputs_of(observation_space: spaces.Space, *, preference: Preference | None) -> int:
    """Entries of an encoded observation, and of the weights that follow it where a policy has a preference."""
    return spaces.encoded_size(observation_space) + (0 if preference is None else preference.size)


def sealed(manifest: Manifest) -> Manifest:
    """The manifest with its digest."""
    return manifest.model_copy(update={"digest": digest(manifest.to_json())})


def digest(body: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON (RFC 8785) of the manifest without its digest."""
    return hashlib.sha256(rfc8785.dumps({k: v for k, v in body.items() if k != "digest"})).hexdigest()


def version_of(network: Any, *, preference: Any = None) -> int:
    """The format version of a bundle with this network program, and this preference."""
    if preference is not None:
        return PREFERENCE_VERSION
    return RECURRENT_VERSION if isinstance(network, dict) and "memory" in network else FORMAT_VERSION


def to_bytes(manifest: Manifest) -> bytes:
    """The file, for people to read; the digest does not depend on its layout."""
    return json.dumps(manifest.to_json(), indent=2, sort_keys=True, allow_nan=False).encode() + b"\n"


def from_bytes(data: bytes) -> Manifest:
    """The manifest of a file. Raises Tampered: not JSON, unknown format version, wrong digest, wrong fields."""
    try:
        body = json.loads(data, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Tampered("manifest.json is not JSON", given=str(error), expected="one JSON object", cure=CURE) from None
    version = body.get("format_version") if isinstance(body, dict) else None
    wanted = FORMAT_VERSION
    if isinstance(body, dict):
        wanted = version_of(body.get("network"), preference=body.get("preference"))
    if version != wanted or isinstance(version, bool):
        raise Tampered(
            "unknown format version of a bundle",
            given=version,
            expected=str(wanted),
            cure="Install the version of rlaas-ray that wrote it.",
        )
    try:
        computed = digest(body)
    except rfc8785.CanonicalizationError as error:
        raise Tampered(
            "manifest.json has no canonical form", given=str(error), expected="plain JSON", cure=CURE
        ) from None
    if computed != body.get("digest"):
        raise Tampered("wrong digest of manifest.json", given=computed, expected=str(body.get("digest")), cure=CURE)
    try:
        return Manifest.model_validate(body)
    except pydantic.ValidationError as error:
        fault = document.from_validation(error, kind=Manifest).detail
        raise Tampered(
            "manifest.json is not a manifest", given=fault, expected="the fields of format 1", cure=CURE
        ) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Two readers of a doubled key may see two manifests; a digest over one of them proves nothing."""
    body = dict(pairs)
    if len(body) != len(pairs):
        msg = "a key twice"
        raise ValueError(msg)
    return body


def _no_constant(name: str) -> None:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


CURE = "Fetch the bundle again from where it was registered, or train it again."
