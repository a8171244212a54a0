"""What a bundle is refused for, each by name: links, foreign files, pickles, wrong digests, wrong shapes, sizes over limits.

Called by bundle.py before anything of a bundle is used. Every file is read once, into memory, and all that follows works on
those bytes, so that nothing can change between check and use. Never executes, never unpickles, never follows a link.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from rlaas_ray.errors import InvalidInput, NotFound, Tampered, TooLarge
from rlaas_ray.policies import decoders, heads, manifest, network, onnx_graph, spaces
from rlaas_ray.policies.manifest import CURE, Manifest
from rlaas_ray.specs.arrays import F32, I64, Array

MANIFEST, WEIGHTS, MODEL, GOLDEN = "manifest.json", "weights.safetensors", "policy.onnx", "golden.safetensors"
CERTIFICATE, CARD, EVALUATION = "certificate.json", "card.md", "evaluation.json"
_MIB = 1 << 20
LIMITS: Mapping[str, int] = {  # bytes; all the names a bundle may hold
    MANIFEST: 8 * _MIB,
    WEIGHTS: 256 * _MIB,
    MODEL: 256 * _MIB,
    GOLDEN: 128 * _MIB,
    CERTIFICATE: _MIB,
    CARD: _MIB,
    EVALUATION: 16 * _MIB,
}
_NEEDED = {"learned": {WEIGHTS, MODEL, GOLDEN, CERTIFICATE, CARD}, "builtin": {CARD}}
_PICKLED_SUFFIXES = {".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".npy", ".npz", ".bin"}
_PICKLE = re.compile(rb"\x80[\x02-\x05]")  # the opcode PROTO of protocols 2 to 5
_ZIP = b"PK\x03\x04"  # torch.save and numpy.savez write zips with pickles inside


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Golden:
    """What must come out of every engine: parameters (n, k) for observations (n, d), with a memory also states (n, s)."""

    observations: F32
    distributions: F32
    states: F32  # before the observation; s is 0 without a memory
    states_out: F32

    def tensors(self) -> dict[str, Array]:
        """The arrays of golden.safetensors."""
        plain: dict[str, Array] = {"observations": self.observations, "distributions": self.distributions}
        return plain | ({"states": self.states, "states_out": self.states_out} if self.states.shape[1] else {})

    def take(self, rows: I64) -> Golden:
        """These rows."""
        return Golden(
            observations=np.ascontiguousarray(self.observations[rows]),
            distributions=np.ascontiguousarray(self.distributions[rows]),
            states=np.ascontiguousarray(self.states[rows]),
            states_out=np.ascontiguousarray(self.states_out[rows]),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Opened:
    """A bundle whose every byte is accounted for. `net` and `golden` are None for a builtin."""

    manifest: Manifest
    files: Mapping[str, bytes]
    observation_space: spaces.Space
    action_space: spaces.Space
    head: heads.Head
    decoder: decoders.Decoder
    net: network.Network | None = None
    golden: Golden | None = None


def inspect(directory: Path) -> Opened:
    """The bundle in `directory`, checked but for the arithmetic. Raises Tampered, TooLarge or NotFound."""
    files = _read(directory)
    document = manifest.from_bytes(files[MANIFEST])
    _check_files(document, files=files)
    try:
        return _parts(document, files=files)
    except InvalidInput as error:
        raise Tampered(
            "manifest.json and weights do not fit together", given=error.detail, expected="one policy", cure=CURE
        ) from None


def check_fit(head: heads.Head, *, net: network.Network, inputs: int) -> None:
    """The network takes the `inputs` that the encoder gives and gives what the head takes. Raises InvalidInput."""
    given = {"encoded observation": inputs, "head parameters": head.size}
    wanted = {"encoded observation": net.inputs, "head parameters": net.outputs}
    if given != wanted:
        raise InvalidInput("spaces, network and head have different sizes", given=given, expected=str(wanted))


def check_decoder(decoder: decoders.Decoder, *, head: heads.Head, inputs: int) -> None:
    """The decoder takes what the head proposes. Raises InvalidInput."""
    target = decoder.target if isinstance(decoder, decoders.KeepOut) else decoder
    if not isinstance(target, decoders.TargetDelta):
        return
    read = int(target.obs_index.max(initial=0))
    if isinstance(decoder, decoders.KeepOut):
        parts: list[decoders.Zones | decoders.Walls] = [*decoder.zones, decoder.walls]
        read = max(read, *(int(part.seen.max(initial=0)) for part in parts))
    if len(target.gain) != head.action_size or read >= inputs:
        raise InvalidInput(
            "a target decoder of other sizes",
            given=(len(target.gain), read),
            expected=f"{head.action_size} entries that read among {inputs} observed ones",
        )


def _read(directory: Path) -> dict[str, bytes]:
    if not directory.is_dir():
        raise NotFound(f"no bundle at {directory}", given=str(directory), expected="a folder", cure="Check the path.")
    with os.scandir(directory) as entries:
        files = {entry.name: _read_file(Path(entry.path)) for entry in entries}
    if MANIFEST not in files:
        raise Tampered("a bundle without manifest.json", given=sorted(files), expected=MANIFEST, cure=CURE)
    return files


def _read_file(path: Path) -> bytes:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        raise Tampered("a link in a bundle", given=path.name, expected="plain files", cure=CURE)
    if not stat.S_ISREG(mode):
        raise Tampered("a folder or device in a bundle", given=path.name, expected="plain files", cure=CURE)
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if status.st_nlink != 1:  # somebody could change it through its other name after it was checked
            raise Tampered("a hard link in a bundle", given=path.name, expected="plain files", cure=CURE)
        head = file.read(16)
        refuse_pickle(path.name, head=head)
        limit = LIMITS.get(path.name)
        if limit is None:
            raise Tampered("a file that no manifest names", given=path.name, expected=", ".join(LIMITS), cure=CURE)
        data = head + file.read(limit + 1 - len(head))
    if len(data) > limit:
        raise TooLarge(
            f"{path.name} of a bundle",
            given=status.st_size,
            expected=f"at most {limit} bytes",
            cure="Use a smaller net.",
        )
    return data


def refuse_pickle(name: str, *, head: bytes) -> None:
    """Refuses a file that is a pickle or may hold one, by its name or first bytes. Raises Tampered."""
    # The first 8 bytes of safetensors are a length, which may look like a pickle's: its ninth byte tells.
    is_safetensors = name.endswith(".safetensors") and head[8:9] == b"{"
    by_content = not is_safetensors and (_PICKLE.match(head) or head.startswith(_ZIP))
    if Path(name).suffix in _PICKLED_SUFFIXES or by_content:
        raise Tampered("a pickle in a bundle", given=name, expected="safetensors, ONNX and JSON only", cure=CURE)


def _check_files(document: Manifest, *, files: Mapping[str, bytes]) -> None:
    named, needed = set(document.files), _NEEDED[document.kind]
    for name in sorted(named):
        if "/" in name or "\\" in name or name in {"", ".", ".."}:
            raise Tampered("a path outside the bundle", given=name, expected="plain file names", cure=CURE)
    unknown = sorted(named - needed - {EVALUATION})
    if unknown or needed - named:
        raise Tampered("the manifest names other files", given=sorted(named), expected=str(sorted(needed)), cure=CURE)
    extra = sorted(set(files) - named - {MANIFEST})
    if extra:
        raise Tampered("a file that the manifest does not name", given=extra, expected=str(sorted(named)), cure=CURE)
    for name, entry in sorted(document.files.items()):
        if name not in files:
            raise Tampered("a file of the manifest is missing", given=sorted(files), expected=name, cure=CURE)
        computed = hashlib.sha256(files[name]).hexdigest()
        if (computed, len(files[name])) != (entry.sha256, entry.size):
            raise Tampered(f"wrong sha256 of {name}", given=computed, expected=entry.sha256, cure=CURE)


def _parts(document: Manifest, *, files: Mapping[str, bytes]) -> Opened:
    observation_space, action_space = document.spaces
    encoder = manifest.Encoder(
        version=manifest.ENCODER_VERSION, size=manifest.inputs_of(observation_space, preference=document.preference)
    )
    if document.encoder != encoder:
        given, expected = document.encoder.to_json(), str(encoder.to_json())
        raise Tampered("another encoder", given=given, expected=expected, cure=CURE)
    head = heads.from_json(document.head)
    heads.check(head, action_space=action_space)
    tensors = _tensors(document, data=files[WEIGHTS]) if document.kind == "learned" else {}
    decoder = decoders.from_json(document.decoder, space=action_space, tensors=tensors)
    check_decoder(decoder, head=head, inputs=encoder.size)
    net = golden = None
    if document.network is not None:
        net = network.from_json(document.network, tensors=tensors)
        expected_names = set(net.tensors()) | set(decoder.tensors())
        if set(tensors) != expected_names:
            raise _wrong_tensors(sorted(tensors), expected=sorted(expected_names))
        check_fit(head, net=net, inputs=encoder.size)
        onnx_graph.check(files[MODEL], network=net)
        golden = _golden(files[GOLDEN], net=net)
    return Opened(
        manifest=document,
        files=files,
        observation_space=observation_space,
        action_space=action_space,
        head=head,
        decoder=decoder,
        net=net,
        golden=golden,
    )


def _tensors(document: Manifest, *, data: bytes) -> dict[str, Array]:
    tensors = _load_tensors(data, name=WEIGHTS)
    given = {name: (str(array.dtype), array.shape) for name, array in tensors.items()}
    wanted = {name: (entry.dtype, entry.shape) for name, entry in document.tensors.items()}
    if given != wanted:
        different = sorted(name for name in given.keys() | wanted.keys() if given.get(name) != wanted.get(name))
        raise _wrong_tensors(
            {n: given.get(n) for n in different[:4]}, expected={n: wanted.get(n) for n in different[:4]}
        )
    return tensors


def _golden(data: bytes, *, net: network.Network) -> Golden:
    tensors = _load_tensors(data, name=GOLDEN)
    n = len(tensors.get("observations", ()))
    wanted = {
        "observations": ((n, net.inputs), np.dtype("f4")),
        "distributions": ((n, net.outputs), np.dtype("f4")),
    }
    if net.memory is not None:
        wanted |= dict.fromkeys(("states", "states_out"), ((n, net.state_size), np.dtype("f4")))
    given = {name: (array.shape, array.dtype) for name, array in tensors.items()}
    if given != wanted or n == 0:
        raise Tampered("wrong arrays in golden.safetensors", given=given, expected=str(wanted), cure=CURE)
    arrays: dict[str, F32] = {name: array.astype(np.float32, copy=False) for name, array in tensors.items()}
    none: F32 = np.empty((n, 0), dtype=np.float32)
    return Golden(**(dict.fromkeys(("states", "states_out"), none) | arrays))


def _load_tensors(data: bytes, *, name: str) -> dict[str, Array]:
    try:
        tensors: dict[str, Array] = safetensors.numpy.load(data)
    except (safetensors.SafetensorError, KeyError, ValueError, TypeError) as error:
        raise Tampered(f"{name} is not safetensors", given=str(error), expected="safetensors", cure=CURE) from None
    return tensors


def _wrong_tensors(given: object, *, expected: object) -> Tampered:
    return Tampered("tensors differ from the manifest's", given=given, expected=str(expected), cure=CURE)
