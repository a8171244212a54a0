"""Bundles by digest: `bundles/sha256/<digest>`, put whole or not at all, read-only once there.

Called by control when a version registers. A bundle is verified before and after it is moved in; its name is its digest.
"""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

from rlaas_ray.errors import NotFound


class Objects:
    """The store below one folder."""

    def __init__(self, root: Path) -> None:
        self._root = root / "bundles" / "sha256"

    def path(self, digest: str) -> Path:
        """Where the bundle of this digest lies (or would)."""
        return self._root / digest

    def get(self, digest: str) -> Path:
        """The bundle's folder. Raises NotFound."""
        path = self.path(digest)
        if not path.is_dir():
            raise NotFound(
                "no such bundle in the store", given=digest, cure="`rlaas models verify NAME` says what is left."
            )
        return path

    def put(self, source: Path, *, digest: str) -> Path:
        """Copy a verified bundle in; gives its place. A digest that is there already is left as it is."""
        target = self.path(digest)
        if target.is_dir():
            return target
        self._root.mkdir(parents=True, exist_ok=True)
        staging = self._root / f".{uuid.uuid4().hex}"
        try:
            shutil.copytree(source, staging)
            # One rename: a reader sees the whole bundle or none. A loser of the race finds the winner's equal bytes.
            staging.rename(target)
        except OSError:
            if not target.is_dir():
                raise
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return target

    def delete(self, digest: str) -> None:
        """Remove a bundle that nothing names any more."""
        shutil.rmtree(self.path(digest), ignore_errors=True)
