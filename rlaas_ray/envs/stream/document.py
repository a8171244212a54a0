"""A user's own dataflow: the YAML document, its validation, and the name that stands for it.

Called by env.py and by the baselines, which need the same dataflow. Reads one file; never writes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydantic
import yaml
from pydantic import Field

from rlaas_ray.envs.stream import graph
from rlaas_ray.envs.stream.queries import QUERIES
from rlaas_ray.errors import InvalidInput, NotFound, nearest
from rlaas_ray.specs import document

PREFIX = "dag:"
_RATE = Field(gt=0)
_LOSS = Field(default=0.0, ge=0)


class OperatorDocument(document.Document):
    """One operator: `source_rate` (records/s offered nominally) makes it a source, else `rate` is of one instance."""

    source_rate: float | None = Field(default=None, gt=0)
    rate: float | None = Field(default=None, gt=0)
    sigma: float = _LOSS
    kappa: float = _LOSS
    state_gb: float = _LOSS

    @pydantic.model_validator(mode="after")
    def _one_rate(self) -> OperatorDocument:
        if (self.source_rate is None) == (self.rate is None):
            raise ValueError("either `source_rate` (a source) or `rate` (records/s of one instance)")
        return self


class EdgeDocument(document.Document):
    """`selectivity` records reach `to` for each record that `from` processes."""

    source: str = Field(alias="from")
    target: str = Field(alias="to")
    selectivity: float = Field(default=1.0, gt=0)


class DagSpec(document.Document):
    """A whole dataflow (`kind: Dag`, which may be left out); operators by name, in the order in which an action sets them."""

    name: str = Field(default="dag", min_length=1, max_length=64)
    max_parallelism: int = Field(default=32, ge=2, le=1024)
    operators: dict[str, OperatorDocument]
    edges: list[EdgeDocument]


def flow_of(query: str) -> graph.Dataflow:
    """A dataflow of the table by name, or the user's own, `dag:PATH`. Raises InvalidInput or NotFound."""
    if query.startswith(PREFIX):
        return load(Path(query.removeprefix(PREFIX)))
    if query not in QUERIES:
        raise InvalidInput(
            "query",
            given=query,
            expected=f"{', '.join(QUERIES)}, mixed, or dag:PATH of a YAML document",
            cure=nearest(query, list(QUERIES)),
        )
    return QUERIES[query]


def load(path: Path) -> graph.Dataflow:
    """The dataflow of a file. Raises NotFound, InvalidInput, or UnknownField with the nearest known field."""
    if not path.is_file():
        raise NotFound(
            f"dataflow {str(path)!r}", given=str(path), expected="a YAML file", cure="Paths start where you run."
        )
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInput(f"dataflow {path.name!r}", given=str(error), expected="YAML in UTF-8") from None
    return parse(data)


def parse(data: Any) -> graph.Dataflow:
    """The dataflow of a document's JSON values."""
    wanted = document.parse(DagSpec, data)
    operators = [
        graph.Operator(
            name=name,
            rate=float(one.source_rate or one.rate or 0.0),
            sigma=one.sigma,
            kappa=one.kappa,
            source=one.source_rate is not None,
            state_gb=one.state_gb,
        )
        for name, one in wanted.operators.items()
    ]
    names = [one.name for one in operators]
    edges = [
        graph.Edge(
            source=_index(edge.source, names=names, pointer=f"/edges/{number}/from"),
            target=_index(edge.target, names=names, pointer=f"/edges/{number}/to"),
            selectivity=edge.selectivity,
        )
        for number, edge in enumerate(wanted.edges)
    ]
    return graph.dataflow(wanted.name, operators=operators, edges=edges, max_parallelism=wanted.max_parallelism)


def _index(name: str, *, names: list[str], pointer: str) -> int:
    if name not in names:
        raise InvalidInput(
            "an edge names an unknown operator",
            given=name,
            expected=", ".join(names),
            cure=nearest(name, names),
            pointer=pointer,
        )
    return names.index(name)
