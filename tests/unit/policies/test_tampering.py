"""Each way to tamper with a bundle is refused by its own name, as a folder and as an archive.

`resealed` is a forger who mends sha256s and digest after the change: what digests alone would let through.
"""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import safetensors.numpy
import zstandard
from gymnasium import spaces as gs
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from rlaas_ray.errors import EngineFailed, Refused, Tampered, TooLarge
from rlaas_ray.policies import bundle, decoders, heads, inspection, manifest
from rlaas_ray.policies.network import Layer, Network

PICKLE = b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07builtin."


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a good bundle."""
    rng = np.random.default_rng(1)

    def layer(i: int, o: int, activation: str) -> Layer:
        return Layer(
            weight=rng.normal(size=(o, i)).astype(np.float32), bias=np.zeros(o, np.float32), activation=activation
        )

    space = gs.Discrete(2)
    path = tmp_path_factory.mktemp("good") / "b"
    bundle.write(
        path,
        bundle.BundleContents(
            name="p",
            created_us=1,
            env="CartPole-v1",
            algorithm="ppo",
            observation_space=gs.Box(-1, 1, (4,), np.float32),
            action_space=space,
            net=Network(layers=(layer(4, 4, "tanh"), layer(4, 2, "linear"))),
            head=heads.for_action_space(space),
            decoder=decoders.for_action_space(space),
            serving="sample",
            seed=0,
            spec_digest="",
            observations=rng.normal(size=(256, 4)).astype(np.float32),
        ),
    )
    return {p.name: p.read_bytes() for p in path.iterdir()}


@pytest.fixture
def folder(written: dict[str, bytes], tmp_path: Path) -> Path:
    path = tmp_path / "bundle"
    path.mkdir()
    for name, data in written.items():
        (path / name).write_bytes(data)
    return path


def edit(path: Path, change: Callable[[dict], None], *, seal: bool = True) -> None:
    body = json.loads((path / "manifest.json").read_text())
    change(body)
    if seal:
        body["digest"] = manifest.digest(body)
    (path / "manifest.json").write_text(json.dumps(body))


def resealed(path: Path, name: str, data: bytes, change: Callable[[dict], None] = lambda body: None) -> None:
    (path / name).write_bytes(data)
    entry = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    edit(path, lambda body: (body["files"].__setitem__(name, entry), change(body)))


def weights(path: Path) -> dict[str, np.ndarray]:
    return safetensors.numpy.load((path / "weights.safetensors").read_bytes())


def model(path: Path) -> onnx.ModelProto:
    return onnx.load_model_from_string((path / "policy.onnx").read_bytes())


def flip(path: Path) -> None:
    data = bytearray((path / "weights.safetensors").read_bytes())
    data[-1] ^= 1
    (path / "weights.safetensors").write_bytes(data)


def replace_by_link(path: Path) -> None:
    (path.parent / "card.md").write_bytes((path / "card.md").read_bytes())
    (path / "card.md").unlink()
    (path / "card.md").symlink_to(path.parent / "card.md")


def hard_link(path: Path) -> None:
    (path.parent / "elsewhere").hardlink_to(path / "policy.onnx")


def other_weights(path: Path) -> None:
    tensors = weights(path)
    tensors["layers.1.weight"] = -tensors["layers.1.weight"]
    resealed(path, "weights.safetensors", safetensors.numpy.save(tensors))


def other_shape(path: Path) -> None:
    tensors = weights(path) | {"layers.1.bias": np.zeros(3, np.float32)}
    resealed(path, "weights.safetensors", safetensors.numpy.save(tensors))


def other_shape_everywhere(path: Path) -> None:
    tensors = weights(path) | {"layers.1.bias": np.zeros(3, np.float32)}
    data = safetensors.numpy.save(tensors)
    resealed(path, "weights.safetensors", data, lambda b: b["tensors"]["layers.1.bias"].update(shape=[3]))


def tensor_more(path: Path) -> None:
    tensors = weights(path) | {"extra": np.zeros(3, np.float32)}
    entry = {"dtype": "float32", "shape": [3]}
    resealed(path, "weights.safetensors", safetensors.numpy.save(tensors), lambda b: b["tensors"].update(extra=entry))


def nan_weight(path: Path) -> None:
    tensors = weights(path)
    tensors["layers.0.bias"] = np.full(4, np.nan, np.float32)
    resealed(path, "weights.safetensors", safetensors.numpy.save(tensors))


def external_data(path: Path) -> None:
    changed = model(path)
    tensor = changed.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    resealed(path, "policy.onnx", changed.SerializeToString())


def foreign_operator(path: Path) -> None:
    changed = model(path)
    changed.opset_import.append(helper.make_opsetid("com.evil", 1))
    changed.graph.node[0].domain = "com.evil"
    resealed(path, "policy.onnx", changed.SerializeToString())


def foreign_operator_inside(path: Path) -> None:
    changed = model(path)
    inner = helper.make_graph([helper.make_node("Run", [], ["y"], domain="com.evil")], "inner", [], [])
    changed.graph.node.append(helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner))
    resealed(path, "policy.onnx", changed.SerializeToString())


def own_function(path: Path) -> None:
    changed = model(path)
    changed.functions.append(
        helper.make_function("", "Tanh2", ["x"], ["y"], [helper.make_node("Tanh", ["x"], ["y"])], [])
    )
    resealed(path, "policy.onnx", changed.SerializeToString())


def other_graph(path: Path) -> None:
    changed = model(path)
    for tensor in changed.graph.initializer:
        if tensor.name == "layers.1.weight":
            tensor.raw_data = (-np.frombuffer(tensor.raw_data, np.float32)).tobytes()
    resealed(path, "policy.onnx", changed.SerializeToString())


def other_ends(path: Path) -> None:
    changed = model(path)
    changed.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 5
    resealed(path, "policy.onnx", changed.SerializeToString())


def broken_graph(path: Path) -> None:
    changed = model(path)
    del changed.graph.node[-1]
    resealed(path, "policy.onnx", changed.SerializeToString())


def golden(path: Path) -> None:
    tensors = safetensors.numpy.load((path / "golden.safetensors").read_bytes())
    tensors["distributions"][200, 0] += 0.01
    resealed(path, "golden.safetensors", safetensors.numpy.save(tensors))


def golden_shape(path: Path) -> None:
    data = safetensors.numpy.save({"observations": np.zeros((0, 4), np.float32)})
    resealed(path, "golden.safetensors", data)


def failed_certificate(path: Path) -> None:
    body = json.loads((path / "certificate.json").read_text())
    for pair in body["pairs"]:
        pair["relative"] = 1e-3  # and still "passed": true
    resealed(path, "certificate.json", json.dumps(body).encode())


def doubled_key(path: Path) -> None:
    text = (path / "manifest.json").read_text()
    (path / "manifest.json").write_text(text.replace("{", '{"seed": 5,', 1))


TAMPERING: dict[str, tuple[Callable[[Path], object], str]] = {
    "foreign file": (lambda p: (p / "more.txt").write_text("x"), "a file that no manifest names"),
    "file left out of the manifest": (
        lambda p: (
            edit(p, lambda b: b["files"].pop("evaluation.json", None)) or (p / "evaluation.json").write_text("{}")
        ),
        "a file that the manifest does not name",
    ),
    "needed file left out of the manifest": (
        lambda p: edit(p, lambda b: b["files"].pop("golden.safetensors")),
        "the manifest names other files",
    ),
    "missing file": (lambda p: (p / "golden.safetensors").unlink(), "a file of the manifest is missing"),
    "no manifest": (lambda p: (p / "manifest.json").unlink(), "without manifest.json"),
    "changed weights": (flip, "wrong sha256 of weights.safetensors"),
    "changed card": (lambda p: (p / "card.md").write_text("better"), "wrong sha256 of card.md"),
    "changed manifest": (lambda p: edit(p, lambda b: b.update(seed=9), seal=False), "wrong digest of manifest.json"),
    "path up": (
        lambda p: edit(p, lambda b: b["files"].update({"../x": b["files"]["card.md"]})),
        "a path outside the bundle",
    ),
    "absolute path": (
        lambda p: edit(p, lambda b: b["files"].update({"/etc/passwd": b["files"]["card.md"]})),
        "a path outside the bundle",
    ),
    "symbolic link": (replace_by_link, "a link in a bundle"),
    "hard link": (hard_link, "a hard link in a bundle"),
    "folder": (lambda p: (p / "inner").mkdir(), "a folder or device"),
    "named pipe": (lambda p: os.mkfifo(p / "pipe"), "a folder or device"),
    "format version": (lambda p: edit(p, lambda b: b.update(format_version=2)), "unknown format version"),
    "format version true": (lambda p: edit(p, lambda b: b.update(format_version=True)), "unknown format version"),
    "not JSON": (lambda p: (p / "manifest.json").write_text("{"), "manifest.json is not JSON"),
    "NaN in JSON": (lambda p: (p / "manifest.json").write_text('{"seed": NaN}'), "manifest.json is not JSON"),
    "a key twice": (doubled_key, "manifest.json is not JSON"),
    "unknown field": (lambda p: edit(p, lambda b: b.update(run="rm")), "manifest.json is not a manifest"),
    "missing field": (lambda p: edit(p, lambda b: b.pop("head")), "manifest.json is not a manifest"),
    "other kind": (lambda p: edit(p, lambda b: b.update(kind="builtin")), "manifest.json is not a manifest"),
    "other space": (
        lambda p: edit(p, lambda b: b["action_space"].update(n=3)),
        "manifest.json and weights do not fit together",
    ),
    "other encoder": (lambda p: edit(p, lambda b: b["encoder"].update(version=9)), "another encoder"),
    "other head": (
        lambda p: edit(p, lambda b: b.update(head={"type": "point", "entries": 1})),
        "manifest.json and weights do not fit together",
    ),
    "pickle by name": (lambda p: (p / "state.pkl").write_bytes(b"x"), "a pickle in a bundle"),
    "torch file": (lambda p: (p / "model.pt").write_bytes(b"PK\x03\x04data.pkl"), "a pickle in a bundle"),
    "pickle by content": (lambda p: resealed(p, "card.md", PICKLE), "a pickle in a bundle"),
    "zip by content": (lambda p: resealed(p, "policy.onnx", b"PK\x03\x04archive/data.pkl"), "a pickle in a bundle"),
    "pickle as safetensors": (lambda p: resealed(p, "weights.safetensors", PICKLE), "a pickle in a bundle"),
    "not safetensors": (lambda p: resealed(p, "weights.safetensors", b"garbage" * 9), "is not safetensors"),
    "not ONNX": (lambda p: resealed(p, "policy.onnx", b"\xff" * 40), "is not an ONNX model"),
    "other weights": (other_weights, "golden vectors do not come out of engine numpy"),
    "other graph": (other_graph, "golden vectors do not come out of engine onnx"),
    "other golden": (golden, "golden vectors do not come out of engine"),
    "golden of another shape": (golden_shape, "wrong arrays in golden.safetensors"),
    "tensor of another shape": (other_shape, "tensors differ from the manifest's"),
    "tensor and manifest of another shape": (other_shape_everywhere, "manifest.json and weights do not fit together"),
    "a tensor more": (tensor_more, "tensors differ from the manifest's"),
    "NaN in weights": (nan_weight, "manifest.json and weights do not fit together"),
    "external data": (external_data, "keeps data outside the bundle"),
    "foreign operator": (foreign_operator, "operators outside the standard"),
    "foreign operator in a branch": (foreign_operator_inside, "operators outside the standard"),
    "own function": (own_function, "operators outside the standard"),
    "graph of another size": (other_ends, "other inputs and outputs"),
    "certificate that failed": (failed_certificate, "no engine of this bundle passed"),
    "no certificate": (lambda p: resealed(p, "certificate.json", b"[]"), "certificate.json is not one"),
}


@pytest.mark.parametrize("kind", TAMPERING)
def test_tampering_is_refused_by_name(folder, kind):
    change, message = TAMPERING[kind]
    change(folder)
    with pytest.raises(Refused, match=message) as caught:
        bundle.verify(folder)
    assert caught.value.exit_code == 3
    assert caught.value.cure


@pytest.mark.parametrize("kind", sorted(TAMPERING.keys() - {"other golden"}))
def test_tampering_is_refused_when_a_replica_loads_it(folder, kind):
    change, message = TAMPERING[kind]
    change(folder)
    with pytest.raises(Refused, match=message):
        bundle.load(folder)


def test_a_graph_that_does_not_run_is_refused(folder):
    broken_graph(folder)
    with pytest.raises(EngineFailed, match="engine onnx cannot run"):
        bundle.verify(folder)


def test_the_bundle_that_all_these_start_from_is_good(folder):
    assert bundle.verify(folder).name == "p"


def test_a_file_over_its_limit_is_refused_before_it_is_parsed(folder, monkeypatch):
    monkeypatch.setattr(inspection, "LIMITS", {**inspection.LIMITS, "weights.safetensors": 64})
    with pytest.raises(TooLarge, match=r"weights\.safetensors"):
        bundle.verify(folder)


# --- archives ---------------------------------------------------------------------------------------------------------


def archive(path: Path, members: list[tuple[tarfile.TarInfo, bytes]], *, format_: int = tarfile.USTAR_FORMAT) -> Path:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format_) as tar:
        for member, data in members:
            member.size = len(data) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(data))
    path.write_bytes(zstandard.compress(buffer.getvalue()))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def long_name(name: str) -> tarfile.TarInfo:
    return member(name + "x" * 300)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (member("../evil"), "a path outside the bundle"),
        (member("/etc/cron.d/evil"), "a path outside the bundle"),
        (member("inner/card.md"), "a path outside the bundle"),
        (member("evaluation.json", tarfile.SYMTYPE, "/etc/passwd"), "a link in an archive"),
        (member("evaluation.json", tarfile.LNKTYPE, "card.md"), "a link in an archive"),
        (member("inner", tarfile.DIRTYPE), "a folder, device or extension"),
        (member("null", tarfile.CHRTYPE), "a folder, device or extension"),
        (member("card.md"), "a file twice"),
        (member("more.txt"), "a file that no manifest names"),
        (member("state.pkl"), "a pickle"),
    ],
    ids=["up", "absolute", "folder in name", "symlink", "hard link", "folder", "device", "twice", "foreign", "pickle"],
)
def test_an_archive_with_a_trick_in_it_is_refused_and_leaves_nothing(written, tmp_path, extra, message):
    members = [(member(name), data) for name, data in sorted(written.items())]
    path = archive(tmp_path / "b.tar.zst", [*members, (extra, b"x")])
    with pytest.raises(Tampered, match=message):
        bundle.unpack(path, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["b.tar.zst"]


def test_an_extended_header_is_refused_because_it_can_rename_what_follows(written, tmp_path):
    path = archive(tmp_path / "b.tar.zst", [(long_name("card.md"), b"x")], format_=tarfile.PAX_FORMAT)
    with pytest.raises(Tampered, match="extension"):
        bundle.unpack(path, tmp_path / "out")


def test_a_member_over_its_limit_is_refused_while_it_streams(tmp_path, monkeypatch):
    monkeypatch.setattr(inspection, "LIMITS", {**inspection.LIMITS, "card.md": 100})
    path = archive(tmp_path / "b.tar.zst", [(member("card.md"), b"x" * 101)])
    with pytest.raises(TooLarge, match=r"card\.md"):
        bundle.unpack(path, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["b.tar.zst"]


@pytest.mark.parametrize(
    "data",
    [b"", b"not zstd at all", zstandard.compress(b"not a tar" * 100), zstandard.compress(b"x" * 100)],
    ids=["empty", "not zstd", "not tar", "short"],
)
def test_what_is_no_archive_is_refused(tmp_path, data):
    (tmp_path / "b.tar.zst").write_bytes(data)
    with pytest.raises(Tampered):
        bundle.verify(tmp_path / "b.tar.zst")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_truncated_archive_is_refused(folder, tmp_path, share):
    bundle.pack(folder, tmp_path / "b.tar.zst")
    data = (tmp_path / "b.tar.zst").read_bytes()
    (tmp_path / "b.tar.zst").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(Tampered):
        bundle.verify(tmp_path / "b.tar.zst")


def test_tampering_shows_through_an_archive_too(folder, tmp_path):
    other_weights(folder)
    bundle.pack(folder, tmp_path / "b.tar.zst")
    with pytest.raises(Tampered, match="golden vectors"):
        bundle.verify(tmp_path / "b.tar.zst")


@given(
    name=st.sampled_from(sorted(inspection.LIMITS.keys() - {"evaluation.json"})),
    where=st.floats(0, 1),
    bit=st.integers(0, 7),
)
@settings(max_examples=40, deadline=None)
def test_no_single_bit_can_be_changed(written, tmp_path_factory, name, where, bit):
    path = tmp_path_factory.mktemp("flip") / "b"
    path.mkdir()
    for file, data in written.items():
        changed = bytearray(data)
        if file == name:
            changed[int(where * (len(data) - 1))] ^= 1 << bit
        (path / file).write_bytes(changed)
    with pytest.raises(Refused):
        bundle.verify(path)
