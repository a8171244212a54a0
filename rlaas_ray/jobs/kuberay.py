"""Place `kuberay`: an attempt as a RayJob. Not built yet, and it says so.

Called by control through the seam Place, so that `place: kuberay` is a clear answer and not an unknown word.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NoReturn

from rlaas_ray.errors import NotBuilt
from rlaas_ray.specs.runs import Run
from rlaas_ray.specs.seams import Place


class KubeRayPlace(Place):
    """Refuses every call with the way to get there today."""

    def submit(self, run: Run, *, key: str) -> str:
        _refuse()

    def alive(self, ref: str) -> bool:
        _refuse()

    def stop(self, ref: str, *, grace_s: float) -> None:
        _refuse()

    def logs(self, ref: str, *, run_id: str, follow: bool) -> Iterator[str]:
        _refuse()


def _refuse() -> NoReturn:
    raise NotBuilt(
        "place kuberay: runs as RayJobs",
        expected="here or ray",
        cure="Use --place here or --place ray; manifests/ has a RayJob to apply by hand.",
    )
