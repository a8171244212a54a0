"""A bundle as one `.tar.zst` file: packed so that equal bundles give equal bytes, unpacked with every refusal while it streams.

Called by bundle.py, doors that import and export, and stores that move bundles. A tar may name any path, link or device;
here only plain files with the names of a bundle pass, each within its limit, before a byte is written outside a new folder.
"""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import BinaryIO

import zstandard

from rlaas_ray.errors import AlreadyExists, NotFound, Tampered, TooLarge
from rlaas_ray.policies import inspection
from rlaas_ray.policies.manifest import CURE

_BLOCK = 512
_LEVEL = 10
_MAX_WINDOW = 1 << 27  # bytes that a frame may make the decompressor hold
_PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE)


def pack(directory: Path, archive: Path) -> str:
    """Writes the bundle to `archive`, atomically; gives its digest. Refuses what `verify` of its files would."""
    opened = inspection.inspect(directory)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(opened.files):
            member = tarfile.TarInfo(name)  # time 0, owner 0: nothing of the machine goes in
            member.size, member.mode = len(opened.files[name]), 0o644
            tar.addfile(member, io.BytesIO(opened.files[name]))
    write_file(archive, data=zstandard.ZstdCompressor(level=_LEVEL).compress(buffer.getvalue()))
    return opened.manifest.digest


def unpack(archive: Path, directory: Path) -> str:
    """Unpacks into the new folder `directory`; gives the digest. Nothing is left behind when it refuses."""
    if not archive.is_file():
        raise NotFound(
            f"no bundle at {archive}", given=str(archive), expected="a .tar.zst file", cure="Check the path."
        )
    with NewFolder(directory) as folder:
        with (
            archive.open("rb") as file,
            zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).stream_reader(file) as stream,
        ):
            try:
                _extract(stream, folder=folder.path)
            except zstandard.ZstdError as error:
                raise _refused("not a zstd file", given=str(error)) from None
        digest = inspection.inspect(folder.path).manifest.digest
        folder.keep()
    return digest


class NewFolder:
    """A folder that appears whole at `target` when kept, and not at all otherwise: temporary neighbour, fsync, rename."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._kept = False
        self.path = target

    def __enter__(self) -> NewFolder:
        self._target.parent.mkdir(parents=True, exist_ok=True)
        self.path = Path(tempfile.mkdtemp(dir=self._target.parent, prefix=f".{self._target.name}."))
        self.path.chmod(0o755)  # replicas may run as another user
        return self

    def __exit__(self, *_: object) -> None:
        if not self._kept:
            shutil.rmtree(self.path, ignore_errors=True)

    def keep(self) -> None:
        """Make it appear. Raises AlreadyExists where something is there."""
        _sync(self.path)
        if self._target.exists():
            raise AlreadyExists(
                f"{self._target} is there already", given=str(self._target), expected="a new path", cure="Name another."
            )
        self.path.rename(self._target)
        self._kept = True
        _sync(self._target.parent)


def write_file(path: Path, *, data: bytes) -> None:
    """Writes a whole file or none: temporary neighbour, fsync, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _extract(stream: BinaryIO, *, folder: Path) -> None:
    seen: set[str] = set()
    while (member := _header(stream)) is not None:
        if member.type not in _PLAIN:
            kind = "a link" if member.islnk() or member.issym() else "a folder, device or extension"
            raise _refused(f"{kind} in an archive", given=member.name)
        inspection.refuse_pickle(member.name, head=b"")
        if member.name not in inspection.LIMITS:
            outside = "/" in member.name or "\\" in member.name or member.name in {".", ".."}
            raise _refused(
                "a path outside the bundle" if outside else "a file that no manifest names", given=member.name
            )
        if member.name in seen:
            raise _refused("a file twice in an archive", given=member.name)
        if member.size > inspection.LIMITS[member.name]:
            raise TooLarge(
                f"{member.name} of a bundle",
                given=member.size,
                expected=f"at most {inspection.LIMITS[member.name]} bytes",
                cure="Use a smaller net.",
            )
        seen.add(member.name)
        data = _exactly(stream, size=member.size)
        _exactly(stream, size=-member.size % _BLOCK)
        write_file(folder / member.name, data=data)


def _header(stream: BinaryIO) -> tarfile.TarInfo | None:
    block = _exactly(stream, size=_BLOCK)
    if block == bytes(_BLOCK):
        return None
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError) as error:
        raise _refused("not a tar file", given=str(error)) from None


def _exactly(stream: BinaryIO, *, size: int) -> bytes:
    parts: list[bytes] = []
    left = size
    while left:
        part = stream.read(left)
        if not part:
            raise _refused("an archive that ends too early", given=f"{left} bytes missing")
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refused(subject: str, *, given: object) -> Tampered:
    return Tampered(subject, given=given, expected="the plain files of one bundle", cure=CURE)
