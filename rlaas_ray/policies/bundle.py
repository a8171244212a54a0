"""The Bundle: a policy as a folder of plain files that proves what it is, or as the same in one `.tar.zst`.

`write` and `write_builtin` make one whole or none at all, `verify` refuses by name, `load` gives a LoadedPolicy. Called by
training, the registry, replicas and the CLI. No pickle anywhere: JSON, safetensors, ONNX and Markdown.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors.numpy

from rlaas_ray.errors import EngineFailed, InvalidInput, Refused, RlaasError, Tampered
from rlaas_ray.policies import (
    archive,
    builtin,
    certificate,
    decoders,
    heads,
    inspection,
    manifest,
    network,
    onnx_graph,
    spaces,
)
from rlaas_ray.policies.archive import pack as pack
from rlaas_ray.policies.archive import unpack as unpack
from rlaas_ray.policies.engines import choice
from rlaas_ray.policies.loaded import Drawn as Drawn
from rlaas_ray.policies.loaded import LoadedPolicy as LoadedPolicy
from rlaas_ray.policies.manifest import CURE
from rlaas_ray.policies.manifest import Manifest as Manifest
from rlaas_ray.policies.preferences import Given, Preference
from rlaas_ray.specs.arrays import F32
from rlaas_ray.specs.seams import Policy, Recurrent

GOLDEN_ROWS = 256
_CHECKED_AT_LOAD = 16
_Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BundleContents:
    """What a training hands in. `observations` (n >= 256, d): encoded, visited by the policy; for certificate and golden vectors.

    Where the network has a memory, consecutive ones should be consecutive steps: they are taken as sequences.
    `card`: Markdown for people; made from the facts where it is None. `evaluation`: the JSON of an Evaluation.
    """

    name: str
    created_us: int
    env: str
    algorithm: str
    observation_space: spaces.Space
    action_space: spaces.Space
    net: network.Network
    head: heads.Head
    decoder: decoders.Decoder
    serving: heads.Serving
    seed: int
    spec_digest: str
    observations: F32
    card: str | None = None
    evaluation: _Json | None = None
    preference: Preference | None = None


def write(directory: Path, contents: BundleContents) -> str:
    """Writes the bundle into the new folder `directory`, atomically; gives its digest. Loads torch, for the certificate.

    Raises Refused when the engines disagree, InvalidInput when sizes do not fit, AlreadyExists when the folder is there.
    """
    _check_contents(contents)
    model = onnx_graph.build(contents.net)
    proof = certificate.certify(
        contents.net, model=model, observations=contents.observations, head=contents.head, seed=contents.seed
    )
    engine = choice.make("numpy", network=contents.net, model=model)
    golden = _golden(contents, engine=engine)
    tensors = contents.net.tensors() | dict(contents.decoder.tensors())
    files = {
        inspection.WEIGHTS: safetensors.numpy.save({name: np.ascontiguousarray(a) for name, a in tensors.items()}),
        inspection.MODEL: model,
        inspection.GOLDEN: safetensors.numpy.save(golden.tensors()),
        inspection.CERTIFICATE: _json(proof.to_json()),
    }
    if contents.evaluation is not None:
        files[inspection.EVALUATION] = _json(contents.evaluation)
    document = _learned(contents)
    card = contents.card or _card(document, proof=proof, evaluation=contents.evaluation)
    return _write(directory, document=document, files=files | {inspection.CARD: card.encode()})


def write_builtin(
    directory: Path,
    *,
    env: str,
    name: str,
    parameters: _Json,
    observation_space: spaces.Space,
    action_space: spaces.Space,
    created_us: int = 0,
) -> str:
    """Writes a bundle that names `baseline:env/name`; gives its digest. The same call gives the same digest."""
    source = builtin.find(env, name, action_space=action_space)
    policy = builtin.build(source, parameters=parameters)
    document = _unsealed(
        kind="builtin",
        name=name,
        created_us=created_us,
        env=env,
        algorithm="builtin",
        observation_space=observation_space,
        action_space=action_space,
        head=policy.head,
        decoder=decoders.direct(action_space),
        builtin=manifest.BuiltinEntry(
            policy=f"baseline:{env}/{name}",
            parameters=dict(parameters),
            package=source.package,
            version=source.version,
        ),
    )
    return _write(directory, document=document, files={inspection.CARD: _card(document).encode()})


def verify(path: Path) -> Manifest:
    """The manifest of a bundle (folder or `.tar.zst`) that is what it says. Raises Tampered, TooLarge or Refused.

    More than `load` does: every golden vector through the NumPy and ONNX engines.
    """
    with _folder(path) as folder:
        opened = inspection.inspect(folder)
        if opened.net is None:
            _builtin(opened)
        else:
            for name in choice.UNASKED:
                _engine(name, opened=opened, rows=None)
            _certified(opened)
        return opened.manifest


def load(
    path: Path,
    *,
    engine: str | None = None,
    preference: Given | None = None,
    timer: Callable[[], float] = time.perf_counter,
) -> LoadedPolicy:
    """A policy ready to decide. `engine`: numpy, onnx or torch; None measures and takes the quicker of numpy and onnx.

    `preference`: weights for a policy that has a preference, instead of its default. Raises InvalidInput where it has none.
    """
    found = _load(path, engine=engine, timer=timer)
    return found if preference is None else found.preferring(preference)


def _load(path: Path, *, engine: str | None, timer: Callable[[], float]) -> LoadedPolicy:
    with _folder(path) as folder:
        opened = inspection.inspect(folder)
    if opened.net is None:
        return _loaded(opened, engine=_builtin(opened), name="builtin")
    eligible = _certified(opened)
    if engine is not None and engine not in eligible and engine in choice.NAMES:
        raise Refused(
            f"engine {engine} is not certified for this bundle",
            given=engine,
            expected=" or ".join(eligible),
            cure="Load without naming an engine.",
        )
    names = [engine] if engine else [name for name in choice.UNASKED if name in eligible]
    engines = {name: _engine(name, opened=opened, rows=_CHECKED_AT_LOAD) for name in names}
    assert opened.golden is not None
    chosen = engine or choice.quickest(engines, observation=opened.golden.observations[:1], timer=timer)
    return _loaded(opened, engine=engines[chosen], name=chosen)


def in_memory(contents: BundleContents) -> LoadedPolicy:
    """The policy of these contents on the NumPy engine, before any file: to evaluate what is about to be written."""
    _check_contents(contents)
    return LoadedPolicy(
        manifest=manifest.sealed(_learned(contents)),
        observation_space=contents.observation_space,
        action_space=contents.action_space,
        head=contents.head,
        decoder=contents.decoder,
        engine=choice.make("numpy", network=contents.net, model=b""),
        engine_name="numpy",
        state_size=contents.net.state_size,
    )


# --- writing ----------------------------------------------------------------------------------------------------------


def _check_contents(contents: BundleContents) -> None:
    heads.check(contents.head, action_space=contents.action_space)
    inputs = manifest.inputs_of(contents.observation_space, preference=contents.preference)
    inspection.check_fit(contents.head, net=contents.net, inputs=inputs)
    inspection.check_decoder(contents.decoder, head=contents.head, inputs=contents.net.inputs)
    rows = contents.observations
    if rows.dtype != np.float32 or rows.shape != (len(rows), contents.net.inputs) or len(rows) < GOLDEN_ROWS:
        raise InvalidInput(
            "observations of a bundle",
            given=f"{rows.dtype} {rows.shape}",
            expected=f"float32, at least {GOLDEN_ROWS} rows of {contents.net.inputs}",
            cure="Hand in encoded observations that the policy visited.",
        )
    if not np.isfinite(rows).all():
        raise InvalidInput("observations of a bundle", given="NaN or infinity", expected="finite numbers")


def _golden(contents: BundleContents, *, engine: Recurrent) -> inspection.Golden:
    chosen = np.linspace(0, len(contents.observations) - 1, GOLDEN_ROWS).astype(np.int64)
    if contents.net.memory is None:
        some = contents.observations[chosen]
        none = np.empty((GOLDEN_ROWS, 0), dtype=np.float32)
        all_rows = np.arange(GOLDEN_ROWS)
        return inspection.Golden(
            observations=some, distributions=engine.distribution(some), states=none, states_out=none
        ).take(all_rows)
    states, distributions, after = certificate.sequences(
        engine, contents.observations, state_size=contents.net.state_size
    )
    return inspection.Golden(
        observations=contents.observations, distributions=distributions, states=states, states_out=after
    ).take(chosen)


def _learned(contents: BundleContents) -> Manifest:
    tensors = contents.net.tensors() | dict(contents.decoder.tensors())
    return _unsealed(
        kind="learned",
        name=contents.name,
        created_us=contents.created_us,
        env=contents.env,
        algorithm=contents.algorithm,
        observation_space=contents.observation_space,
        action_space=contents.action_space,
        head=contents.head,
        decoder=contents.decoder,
        serving=contents.serving,
        seed=contents.seed,
        spec_digest=contents.spec_digest,
        network=contents.net.to_json(),
        preference=contents.preference,
        tensors={
            name: manifest.TensorEntry.model_validate({"dtype": str(array.dtype), "shape": array.shape})
            for name, array in tensors.items()
        },
    )


def _unsealed(
    *,
    kind: Literal["learned", "builtin"],
    observation_space: spaces.Space,
    action_space: spaces.Space,
    head: heads.Head,
    decoder: decoders.Decoder,
    serving: heads.Serving = "sample",
    seed: int = 0,
    **fields: Any,
) -> Manifest:
    """A manifest without files and digest yet."""
    return Manifest(
        format_version=manifest.version_of(fields.get("network"), preference=fields.get("preference")),
        kind=kind,
        observation_space=spaces.to_json(observation_space),
        action_space=spaces.to_json(action_space),
        encoder=manifest.Encoder(
            version=manifest.ENCODER_VERSION,
            size=manifest.inputs_of(observation_space, preference=fields.get("preference")),
        ),
        head=head.to_json(),
        decoder=decoder.to_json(),
        serving=serving,
        seed=seed,
        files={},
        **fields,
    )


def _write(directory: Path, *, document: Manifest, files: Mapping[str, bytes]) -> str:
    entries = {
        name: manifest.FileEntry(sha256=hashlib.sha256(data).hexdigest(), size=len(data))
        for name, data in sorted(files.items())
    }
    whole = manifest.sealed(document.model_copy(update={"files": entries}))
    with archive.NewFolder(directory) as folder:
        for name, data in {**files, inspection.MANIFEST: manifest.to_bytes(whole)}.items():
            archive.write_file(folder.path / name, data=data)
        inspection.inspect(folder.path)  # a bundle that would be refused is not written
        folder.keep()
    return whole.digest


def _json(body: _Json) -> bytes:
    return json.dumps(body, indent=2, sort_keys=True, allow_nan=False).encode() + b"\n"


def _card(document: Manifest, *, proof: certificate.Certificate | None = None, evaluation: _Json | None = None) -> str:
    lines = [
        f"# {document.name}",
        "",
        f"- environment: `{document.env}`",
        f"- algorithm: {document.algorithm}, seed {document.seed}",
        f"- head: {document.head['type']}, decoder: {document.decoder['type']}, serves by: {document.serving}",
    ]
    if document.preference is not None:
        lines.append(f"- conditioned on weights, by default {document.preference.shown(document.preference.default)}")
    if document.builtin is not None:
        entry = document.builtin
        lines.append(f"- built-in `{entry.policy}` of {entry.package} {entry.version}, {dict(entry.parameters)}")
    if proof is not None:
        worst = max(pair.max_abs for pair in proof.pairs)
        lines.append(f"- engines {', '.join(proof.engines)} agree within {worst:.1e} over {proof.n} observations")
    if evaluation is not None:
        lines.append(f"- evaluation: `{json.dumps(evaluation, sort_keys=True)}`")
    return "\n".join([*lines, ""])


# --- reading ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[Path]:
    """The bundle as a folder: itself, or an archive unpacked for as long as it is needed."""
    if not path.is_file():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="rlaas-bundle-") as temporary:
        folder = Path(temporary) / "bundle"
        archive.unpack(path, folder)
        yield folder


def _loaded(opened: inspection.Opened, *, engine: Policy, name: str) -> LoadedPolicy:
    return LoadedPolicy(
        manifest=opened.manifest,
        observation_space=opened.observation_space,
        action_space=opened.action_space,
        head=opened.head,
        decoder=opened.decoder,
        engine=engine,
        engine_name=name,
        state_size=engine.state_size if isinstance(engine, builtin.Remembering) else _state_size(opened.net),
    )


def _state_size(net: network.Network | None) -> int:
    return 0 if net is None else net.state_size


def _builtin(opened: inspection.Opened) -> builtin.Builtin:
    entry = opened.manifest.builtin
    assert entry is not None  # the manifest's validator saw to it
    env, _, name = entry.policy.removeprefix("baseline:").rpartition("/")
    source = builtin.find(env, name, action_space=opened.action_space)
    builtin.check_version(entry.version, source=source)
    policy = builtin.build(source, parameters=entry.parameters)
    if policy.head != opened.head:
        given, expected = policy.head.to_json(), str(opened.manifest.head)
        raise Refused(f"{entry.policy} has another head now", given=given, expected=expected, cure="Register it again.")
    return policy


def _certified(opened: inspection.Opened) -> tuple[str, ...]:
    """Engines that the certificate passed."""
    try:
        proof = certificate.from_json(json.loads(opened.files[inspection.CERTIFICATE]))
    except (ValueError, InvalidInput) as error:
        raise Tampered("certificate.json is not one", given=str(error), expected="a certificate", cure=CURE) from None
    if not set(proof.engines) & set(choice.UNASKED):
        raise Refused(
            "no engine of this bundle passed its certificate",
            given=proof.to_json()["pairs"],
            expected="numpy or onnx",
            cure=CURE,
        )
    return proof.engines


def _engine(name: str, *, opened: inspection.Opened, rows: int | None) -> Recurrent:
    """The engine, once the golden vectors (`rows` of them, None: all) came out of it."""
    assert opened.golden is not None
    assert opened.net is not None
    golden = opened.golden
    if rows is not None:
        count = len(golden.observations)
        golden = golden.take(np.linspace(0, count - 1, min(rows, count)).astype(np.int64))
    try:
        engine = choice.make(name, network=opened.net, model=opened.files[inspection.MODEL])
        if opened.net.memory is None:
            given, states = engine.distribution(golden.observations), golden.states_out
        else:
            given, states = engine.step(golden.observations, golden.states)
    except RlaasError:
        raise
    except Exception as error:  # noqa: BLE001 (onnxruntime's own exceptions share no base)
        raise EngineFailed(
            f"engine {name} cannot run this bundle", given=str(error), expected="a graph that runs", cure=CURE
        ) from None
    same = certificate.close(given, expected=golden.distributions)
    if not same or not certificate.close(states, expected=golden.states_out):
        raise Tampered(
            f"golden vectors do not come out of engine {name}",
            given=given[0, :4].tolist(),
            expected=str(golden.distributions[0, :4].tolist()),
            cure=CURE,
        )
    return engine
