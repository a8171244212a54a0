"""`rlaas models`: registered versions, their aliases and their bundles."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import click

from rlaas_ray.cli import output, server
from rlaas_ray.errors import AlreadyExists, InvalidInput
from rlaas_ray.sdk.client import RLaaSClient
from rlaas_ray.specs.policy import parse_policy


@click.group()
def models() -> None:
    """Versions: list, show, alias, verify, export, import, delete."""


@models.command("list")
@click.argument("name", required=False)
@output.json_option
def listed(*, name: str | None, as_json: bool) -> None:
    """The newest version of each name; with a NAME all its versions."""
    with server.client() as client:
        items = client.models.list(limit=None) if name is None else client.models.versions(name, limit=None)
    if as_json:
        output.document({"items": items})
        return
    columns = {"name": "name", "version": "number", "aliases": "aliases", "created": "created_us", "run": "run_id"}
    output.table(items, {**columns, "return": "evaluation.return_mean", "digest": "digest"})


@models.command()
@click.argument("reference", metavar="NAME[:N|@ALIAS]")
@output.json_option
def show(*, reference: str, as_json: bool) -> None:
    """One version, whole."""
    with server.client() as client:
        found = client.models.get(reference)
    if as_json:
        output.document(found)
    else:
        output.facts(found)


@models.command()
@click.argument("reference", metavar="NAME[:N|@ALIAS]")
@click.argument("alias")
@output.json_option
def alias(*, reference: str, alias: str, as_json: bool) -> None:
    """Let ALIAS mean this version from now on."""
    with server.client() as client:
        found = client.models.alias(reference, alias)
    if as_json:
        output.document(found)
    else:
        click.echo(f"{found['name']}@{alias} is {found['name']}:{found['number']}")


@models.command()
@click.argument("policy", metavar="NAME[:N|@ALIAS]|PATH")
@output.json_option
def verify(*, policy: str, as_json: bool) -> None:
    """Read a bundle again, every byte; exit 3 names what is wrong with it."""
    if parse_policy(policy).kind == "path":
        from rlaas_ray.policies import bundle

        manifest = bundle.verify(Path(policy).expanduser())
        told = {"path": policy, "digest": manifest.digest, "name": manifest.name, "verified": True}
    else:
        with server.client() as client:
            told = client.models.verify(policy)
    if as_json:
        output.document(told)
    else:
        click.echo(f"{policy}  sound  {told['digest']}")


@models.command()
@click.argument("reference", metavar="NAME[:N|@ALIAS]")
@click.option("--to", "kind", type=click.Choice(["bundle", "onnx"]), default="bundle", show_default=True)
@click.option("--out", "target", type=click.Path(path_type=Path), help="[NAME-N.tar.zst or NAME-N.onnx]")
@output.json_option
def export(*, reference: str, kind: str, target: Path | None, as_json: bool) -> None:
    """Write a version as one .tar.zst, or its network as ONNX."""
    with server.client() as client:
        found = client.models.get(reference)
        suffix = ".onnx" if kind == "onnx" else ".tar.zst"
        path = target or Path(f"{found['name']}-{found['number']}{suffix}")
        if path.exists():
            raise AlreadyExists(f"{path} is there already", cure="Name another with --out.")
        if kind == "bundle":
            client.models.export(reference, path)
        else:
            _export_onnx(client, reference, path=path)
    if as_json:
        output.document({"path": str(path), "digest": found["digest"]})
    else:
        click.echo(str(path))


@models.command("import")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--name", help="[the name in its manifest]")
@output.json_option
def imported(*, path: Path, name: str | None, as_json: bool) -> None:
    """Register a bundle (a folder or a .tar.zst) that lies on the server's disk."""
    with server.client() as client:
        found = client.models.register(str(path.absolute()), name=name)
    if as_json:
        output.document(found)
    else:
        click.echo(f"{found['name']}:{found['number']}  {found['digest']}")


@models.command()
@click.argument("reference", metavar="NAME:N")
@output.json_option
def delete(*, reference: str, as_json: bool) -> None:
    """Delete a version that no endpoint uses."""
    with server.client() as client:
        client.models.delete(reference)
    if as_json:
        output.document({"reference": reference, "deleted": True})
    else:
        click.echo(f"{reference} deleted")


def _export_onnx(client: RLaaSClient, reference: str, *, path: Path) -> None:
    from rlaas_ray.policies import archive, bundle

    with tempfile.TemporaryDirectory(prefix="rlaas-export-") as folder:
        packed = client.models.export(reference, Path(folder) / "bundle.tar.zst")
        unpacked = Path(folder) / "bundle"
        archive.unpack(packed, unpacked)
        bundle.verify(unpacked)
        network = unpacked / "policy.onnx"
        if not network.exists():
            raise InvalidInput(
                f"{reference} has no network", expected="a learned policy", cure="Export the bundle itself."
            )
        shutil.copyfile(network, path)
