"""Versions: registered, named, verified, imported, deleted; and what a POLICY text means.

Called by the API for people and run processes, and by endpoints and rollouts to resolve arms. A bundle is verified before its
bytes are taken and the order is: bundle stored, row committed, mirror promised; a registration never waits for MLflow.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlaas_ray.control import documents
from rlaas_ray.control.actor import Actor
from rlaas_ray.errors import Conflict, InvalidInput, NotFound
from rlaas_ray.policies import archive, builtin, bundle, spaces
from rlaas_ray.policies.manifest import Manifest
from rlaas_ray.specs.policy import PolicyRef, parse_policy
from rlaas_ray.specs.routing import RouteTable
from rlaas_ray.specs.runs import Version
from rlaas_ray.specs.seams import Clock
from rlaas_ray.store import audit, endpoints, outbox, registry
from rlaas_ray.store import runs as run_rows
from rlaas_ray.store.database import Connection, Database
from rlaas_ray.store.objects import Objects

# env id -> its observation and action space; raises for an env that nobody knows
SpacesOf = Callable[[str], tuple[spaces.Space, spaces.Space]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """A policy text, resolved to what a route table needs."""

    version: Version
    manifest: Manifest


class Models:
    """The registry's use cases."""

    def __init__(self, *, database: Database, clock: Clock, objects: Objects, spaces_of: SpacesOf) -> None:
        self._database = database
        self._clock = clock
        self._objects = objects
        self._spaces_of = spaces_of
        self._manifests: dict[str, Manifest] = {}  # a digest never means anything else

    def register(
        self,
        path: Path,
        *,
        name: str | None,
        actor: Actor,
        run_id: str | None = None,
        attempt: int | None = None,
        evaluation: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Verify the bundle (a folder or a .tar.zst), keep it, give it a number. Raises Tampered or Refused (parity)."""
        version, _ = self._register(path, name=name, actor=actor, run_id=run_id, attempt=attempt, evaluation=evaluation)
        return documents.version(version)

    def get(self, text: str) -> dict[str, Any]:
        """The version that NAME, NAME:3 or NAME@alias means now."""
        with self._database.read() as tx:
            return documents.version(registry.resolve(tx, _named(text)))

    def newest(self) -> list[dict[str, Any]]:
        """The newest version of each name, newest first."""
        with self._database.read() as tx:
            found = [registry.of_name(tx, name)[0] for name in registry.names(tx)]
        return [documents.version(v) for v in sorted(found, key=lambda v: (v.created_us, v.name), reverse=True)]

    def versions(self, name: str) -> list[dict[str, Any]]:
        """All versions of a name, newest first."""
        with self._database.read() as tx:
            return [documents.version(version) for version in registry.of_name(tx, name)]

    def alias(self, text: str, *, alias: str, actor: Actor) -> dict[str, Any]:
        """Let `alias` mean what `text` means now."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", alias):
            raise InvalidInput("not an alias", given=alias, expected="letters, digits, . _ -", pointer="/alias")
        now_us = self._clock.now_us()
        with self._database.write() as tx:
            version = registry.resolve(tx, _named(text))
            version = registry.set_alias(tx, version.name, alias=alias, number=version.number)
            _audit(tx, version, actor=actor, action="models.alias", now_us=now_us, detail={"alias": alias})
            _mirror(tx, version, now_us=now_us)
        return documents.version(version)

    def verify(self, text: str) -> dict[str, Any]:
        """Read every byte of the stored bundle again. Raises Tampered naming the fault."""
        with self._database.read() as tx:
            version = registry.resolve(tx, _named(text))
        manifest = self._verified(self._objects.get(version.digest), digest=version.digest)
        return {**documents.version(version), "verified": True, "kind": manifest.kind, "env": manifest.env}

    def delete(self, text: str, *, actor: Actor) -> None:
        """Delete a version that no alias, table or open rollout names."""
        now_us = self._clock.now_us()
        with self._database.write() as tx:
            version = registry.resolve(tx, _named(text))
            users = [name for name in endpoints.names(tx) if _uses(_table(tx, name), version)]
            if users:
                raise Conflict(f"{version.ref} answers for endpoints", given=users, cure="Replace it there first.")
            registry.delete(tx, version.name, number=version.number, now_us=now_us)
            _audit(tx, version, actor=actor, action="models.delete", now_us=now_us)

    def export(self, text: str, *, to: Path) -> Path:
        """The bundle as one .tar.zst at `to`."""
        with self._database.read() as tx:
            version = registry.resolve(tx, _named(text))
        archive.pack(self._objects.get(version.digest), to)
        return to

    def resolve(self, text: str, *, actor: Actor) -> Resolved:
        """What a POLICY means; a path or a baseline is registered by the way, so that a table can name its digest."""
        ref = parse_policy(text)
        if ref.kind == "version":
            with self._database.read() as tx:
                version = registry.resolve(tx, ref)
            return Resolved(version=version, manifest=self.manifest(version.digest))
        if ref.kind == "path":
            path = Path(ref.name).expanduser()
            if not path.exists():
                raise NotFound("no bundle there", given=ref.name, expected="a bundle's folder or .tar.zst")
            version, manifest = self._register(path, name=None, actor=actor)
        else:
            version, manifest = self._baseline(ref, actor=actor)
        return Resolved(version=version, manifest=manifest)

    def manifest(self, digest: str) -> Manifest:
        """The manifest of a stored bundle, verified when first asked for."""
        known = self._manifests.get(digest)
        if known is None:
            known = self._manifests[digest] = self._verified(self._objects.get(digest), digest=digest)
        return known

    def path(self, digest: str) -> Path:
        """Where the bundle of this digest lies."""
        return self._objects.get(digest)

    def baselines(self, env: str) -> list[str]:
        """Built-in policies of an env."""
        return builtin.known(env)

    def _baseline(self, ref: PolicyRef, *, actor: Actor) -> tuple[Version, Manifest]:
        env = ref.env or ""
        observation, action = self._spaces_of(env)
        builtin.find(env, ref.name, action_space=action)  # NotFound with the nearest name before anything is written
        with tempfile.TemporaryDirectory(prefix="rlaas-baseline-") as folder:
            path = Path(folder) / "bundle"
            bundle.write_builtin(
                path, env=env, name=ref.name, parameters={}, observation_space=observation, action_space=action
            )
            return self._register(path, name=derived_name(ref), actor=actor)

    def _register(
        self,
        path: Path,
        *,
        name: str | None,
        actor: Actor,
        run_id: str | None = None,
        attempt: int | None = None,
        evaluation: Mapping[str, Any] | None = None,
    ) -> tuple[Version, Manifest]:
        if not path.exists():
            raise NotFound("no bundle there", given=str(path), expected="a folder or .tar.zst on the server's disk")
        with tempfile.TemporaryDirectory(prefix="rlaas-import-") as folder:
            source = path
            if path.is_file():
                source = Path(folder) / "bundle"
                archive.unpack(path, source)
            manifest = bundle.verify(source)
            stored = self._objects.put(source, digest=manifest.digest)
        self._verified(stored, digest=manifest.digest)
        now_us = self._clock.now_us()
        with self._database.write() as tx:
            if run_id is not None and attempt is not None:
                run_rows.owned(tx, run_id, attempt=attempt)
            version, new = registry.register(
                tx,
                name=name or manifest.name,
                digest=manifest.digest,
                uri=str(stored),
                env=manifest.env,
                now_us=now_us,
                run_id=run_id,
                evaluation=evaluation,
            )
            if new:
                _audit(tx, version, actor=actor, action="models.register", now_us=now_us)
                _mirror(tx, version, now_us=now_us)
        return version, manifest

    def _verified(self, path: Path, *, digest: str) -> Manifest:
        manifest = bundle.verify(path)
        if manifest.digest != digest:
            raise Conflict("the store holds another bundle under this digest", given=manifest.digest, expected=digest)
        return manifest


def derived_name(ref: PolicyRef) -> str:
    """The registered name of a baseline: `baseline:rlaas/RanControl-v1/hold` is `baseline-rlaas-RanControl-v1-hold`."""
    text = re.sub(r"[^A-Za-z0-9._-]+", "-", f"baseline-{ref.env}-{ref.name}")
    return text[:63].rstrip("-")


def _named(text: str) -> PolicyRef:
    ref = parse_policy(text)
    if ref.kind != "version":
        raise InvalidInput("not a registered policy", given=text, expected="NAME, NAME:3 or NAME@alias")
    return ref


def _uses(table: RouteTable, version: Version) -> bool:
    return any(arm.digest == version.digest for arm in table.arms)


def _table(tx: Connection, name: str) -> RouteTable:
    return endpoints.table_of(tx, name, epoch=endpoints.get(tx, name).epoch)


def _mirror(tx: Connection, version: Version, *, now_us: int) -> None:
    outbox.promise(tx, "mirror_version", payload={"name": version.name, "number": version.number}, now_us=now_us)


def _audit(
    tx: Connection,
    version: Version,
    *,
    actor: Actor,
    action: str,
    now_us: int,
    detail: Mapping[str, Any] | None = None,
) -> None:
    entry = audit.Entry(
        actor=actor.id,
        action=action,
        object=f"version:{version.ref}",
        request_id=actor.request_id,
        detail={"digest": version.digest, **(detail or {})},
    )
    audit.append(tx, entry, now_us=now_us)
