"""TuneSpec: a search over what a TrainSpec, or a function of the user, takes; every name in it is checked here, at every door.

Handed in by `rlaas tune` and `POST /tuning`. What the words of a space mean is in rlaas_ray/tune/spaces.py; nothing is run here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import pydantic
import pydantic_core
from pydantic import Field

from rlaas_ray.errors import nearest
from rlaas_ray.specs.algorithms import ALGORITHMS
from rlaas_ray.specs.document import Document
from rlaas_ray.specs.train import Network, TrainSpec

TRIALS, POPULATION = 20, 8  # where a spec does not say how many
# What stays the same in all trials of a study.
_FIXED = ("env", "name", "place", "seed", "track", "evaluate", "options", "checkpoint_every_s", "dataset", "env_config")
# What may change in the middle of a training: nothing that shapes or feeds the network.
MUTABLE = (
    "learning_rate",
    "learning_rate_final",
    "entropy_coefficient",
    "value_coefficient",
    "clip",
    "gamma",
    "gae_lambda",
    "gradient_clip",
    "epochs",
)
_CONSTRAINT = re.compile(r"^\s*([A-Za-z_][\w./]*)\s*(<=|>=)\s*(\S+)\s*$")


def number(value: Any) -> Any:
    """A text that everybody means as a number is one: YAML 1.1 reads 1e-4 as text."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return [number(item) for item in value] if isinstance(value, list | tuple) else value


class Dimension(Document):
    """One parameter: `low` and `high`, or `choice`, or `grid`; `when` other parameters have given values."""

    low: float | None = None
    high: float | None = None
    log: bool = Field(default=False, description="uniform in the logarithm")
    step: float | None = Field(default=None, gt=0, description="low, low + step, ...")
    integer: bool | None = Field(default=None, description="whole numbers; None: as the field of TrainSpec has it")
    choice: tuple[Any, ...] | None = Field(default=None, min_length=1)
    grid: tuple[Any, ...] | None = Field(default=None, min_length=1, description="each value, by search: grid")
    when: dict[str, Any] | None = Field(default=None, description="parameter: its value, or a list of values")

    @pydantic.field_validator("choice", "grid", mode="before")
    @classmethod
    def _numbers(cls, values: Any) -> Any:
        return number(list(values)) if isinstance(values, list | tuple) else values

    @pydantic.model_validator(mode="after")
    def _one_form(self) -> Dimension:
        ranged = self.low is not None and self.high is not None
        if sum((ranged, self.choice is not None, self.grid is not None)) != 1 or (self.low is None) != (
            self.high is None
        ):
            msg = "`low` and `high`, or `choice`, or `grid`"
            raise ValueError(msg)
        if not ranged and (self.log or self.step is not None or self.integer is not None):
            msg = "`log`, `step` and `integer` with `low` and `high` only"
            raise ValueError(msg)
        if self.low is not None and self.high is not None:
            _check_range(self, low=self.low, high=self.high)
        return self

    @property
    def values(self) -> tuple[Any, ...] | None:
        """What is listed; None for a range."""
        return self.choice if self.choice is not None else self.grid


def _check_range(dimension: Dimension, *, low: float, high: float) -> None:
    if low >= high:
        msg = "`low` below `high`"
        raise ValueError(msg)
    if dimension.log and (low <= 0 or dimension.step is not None):
        msg = "with `log`: `low` above 0 and no `step`"
        raise ValueError(msg)
    if dimension.integer and any(bound is not None and bound % 1 for bound in (low, high, dimension.step)):
        msg = "whole `low`, `high` and `step`, as `integer` says"
        raise ValueError(msg)


class Scheduler(Document):
    """Who is stopped early, or changed on the way. Counts in reports: each is 1/`reports` of a trial's budget."""

    kind: str = Field(
        default="none",
        pattern=r"^(none|asha|hyperband|median|pbt|[A-Za-z_][\w.]*:[A-Za-z_]\w*)$",
        description="none, asha, hyperband, median, pbt, or module:function that gives a scheduler of Ray Tune",
    )
    grace: int = Field(default=2, ge=1, description="reports before anyone is stopped; the first rung")
    eta: int = Field(default=2, ge=2, le=16, description="one in `eta` goes on at a rung")
    interval: int = Field(default=1, ge=1, description="reports between changes (pbt)")
    quantile: float = Field(default=0.25, gt=0, le=0.5, description="of the population that is replaced (pbt)")
    resample: float = Field(default=0.25, ge=0, le=1, description="probability of a fresh value (pbt)")
    startup: int = Field(default=4, ge=1, description="trials before the median is trusted (median)")
    metric: str | None = Field(default=None, description="what reports are judged by; None: the objective")

    @pydantic.model_validator(mode="before")
    @classmethod
    def _a_name_alone(cls, data: Any) -> Any:
        return {"kind": data} if isinstance(data, str) else data

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: pydantic_core.CoreSchema, handler: pydantic.GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"anyOf": [{"type": "string"}, handler(schema)]}


class Objective(Document):
    """One metric, and which way is better."""

    metric: str = Field(min_length=1)
    maximise: bool = True


class Constraint(Document):
    """`metric <= bound`, or `>=`."""

    metric: str
    sense: Literal["<=", ">="]
    bound: float

    def violation(self, value: float) -> float:
        """Positive by how much it is broken; at most 0 where it is kept."""
        return value - self.bound if self.sense == "<=" else self.bound - value


class TuneSpec(Document):
    """What to search, how, for what, and with how many hands."""

    train: TrainSpec | None = Field(default=None, description="the training of each trial, before its parameters")
    function: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
        description="module:function instead: takes the parameters, returns or yields metrics",
    )
    space: dict[str, Dimension] = Field(min_length=1, max_length=200)
    search: Literal["grid", "random", "tpe", "gp", "cmaes", "nsga2"] = "tpe"
    scheduler: Scheduler = Scheduler()
    trials: int | None = Field(default=None, ge=1, le=1_000_000)
    parallel: int | None = Field(default=None, ge=1, le=10_000, description="trials at once; None: one for each CPU")
    seeds: int = Field(default=1, ge=1, le=100, description="trainings of each trial, by seeds seed, seed + 1, ...")
    objective: str | tuple[Objective, ...] = Field(default="episode_return_mean", min_length=1)
    maximise: bool = True
    constraints: tuple[str, ...] = Field(default=(), description="`metric <= value` or `metric >= value`")
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    reports: int = Field(default=9, ge=1, le=1000, description="reports of a trial, in equal parts of its budget")
    warm_start: tuple[str, ...] = Field(default=(), description="run ids or journals of earlier studies")
    time_limit_s: float | None = Field(default=None, gt=0)
    executor: Literal["auto", "pool", "tune"] = "auto"
    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
    place: Literal["here", "ray"] = "here"

    @pydantic.model_validator(mode="after")
    def _whole(self) -> TuneSpec:
        if (self.train is None) == (self.function is None):
            msg = "`train` or `function`, one of them"
            raise ValueError(msg)
        _check_conditions(self.space)
        if self.train is not None:
            _check_names(self.train, self.space)
        for text in self.constraints:
            parsed(text)
        _check_together(self)
        return self

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """At least one."""
        if isinstance(self.objective, str):
            return (Objective(metric=self.objective, maximise=self.maximise),)
        return self.objective

    @property
    def limits(self) -> tuple[Constraint, ...]:
        """The constraints, parsed."""
        return tuple(parsed(text) for text in self.constraints)

    @property
    def judged_by(self) -> str:
        """The metric of reports that schedulers look at."""
        return self.scheduler.metric or self.objectives[0].metric

    @property
    def on_tune(self) -> bool:
        """Whether Ray Tune runs the trials."""
        kind = self.scheduler.kind
        return self.executor == "tune" or (self.executor == "auto" and (kind == "hyperband" or ":" in kind))


def parsed(text: str) -> Constraint:
    """A constraint from `metric <= value`."""
    found = _CONSTRAINT.match(text)
    bound = number(found[3]) if found else None
    if found is None or not isinstance(bound, float):
        msg = f"a constraint such as `evaluation.costs.drops <= 0.1`, not {text!r}"
        raise ValueError(msg)
    return Constraint(metric=found[1], sense=found[2], bound=bound)


def option_fields(train: TrainSpec, space: Mapping[str, Dimension]) -> dict[str, Any] | None:
    """The options of every algorithm that a trial may have; None where one of them is not ours, and takes what it takes."""
    tuned = space.get("algorithm")
    names = [str(name) for name in tuned.values or ()] if tuned is not None else [train.algorithm]
    if any(name not in ALGORITHMS for name in names):
        return None
    return {field: info for name in names for field, info in ALGORITHMS[name].options.model_fields.items()}


def field_of(name: str, *, train: TrainSpec, space: Mapping[str, Dimension]) -> Any:
    """The annotation of the field that a parameter sets; Any for what only a plugin knows. Raises ValueError."""
    options = option_fields(train, space)
    outer, _, inner = name.partition(".")
    if outer == "options" or (not inner and options is not None and name in options):
        option = inner or name
        if options is None:
            return Any
        if option not in options:
            _unknown(option, known=list(options))
        return options[option].annotation
    if outer == "network" and inner:
        if inner not in Network.model_fields:
            _unknown(inner, known=list(Network.model_fields))
        return Network.model_fields[inner].annotation
    known = [field for field in TrainSpec.model_fields if field not in _FIXED]
    if name not in known:
        reachable = [*known, *(f"network.{field}" for field in Network.model_fields), *(options or ())]
        _unknown(name, known=reachable)
    return TrainSpec.model_fields[name].annotation


def whole(annotation: Any) -> bool:
    """Whether a field holds whole numbers."""
    kinds = [annotation, *get_args(annotation)]
    return int in kinds and float not in kinds


def body(train: TrainSpec, parameters: Mapping[str, Any], *, options: Sequence[str]) -> dict[str, Any]:
    """The JSON values of a trial's TrainSpec: `train` with its parameters put where they belong."""
    found = train.model_dump(mode="json", exclude_none=True)
    for name, value in parameters.items():
        outer, _, inner = name.partition(".")
        if outer == "options" or (not inner and name in options):
            found["options"] = {**found["options"], inner or name: value}
        elif inner:
            found[outer] = {**found.get(outer, {}), inner: value}
        else:
            found[name] = value
    if "algorithm" in parameters:  # options of the other algorithms stay behind
        kind = ALGORITHMS.get(str(parameters["algorithm"]))
        if kind is not None:
            fields = kind.options.model_fields
            found["options"] = {name: value for name, value in found["options"].items() if name in fields}
    return found


def _unknown(name: str, *, known: list[str]) -> None:
    if name in _FIXED:
        msg = f"`space` cannot vary {name!r}: it is the same in all trials of a study"
        raise ValueError(msg)
    msg = f"`space` names {name!r}, which a trial does not take. {nearest(name, known)}"
    raise ValueError(msg)


def _check_names(train: TrainSpec, space: Mapping[str, Dimension]) -> None:
    """Each name is a field of a trial, and each end of a range, or value of a list, fits it."""
    options = list(option_fields(train, space) or ())
    for name, dimension in space.items():
        annotation = field_of(name, train=train, space=space)
        ends: Sequence[Any] = dimension.values or (dimension.low, dimension.high)
        cast = int if dimension.values is None and (dimension.integer or whole(annotation)) else None
        given = dict(_parents(dimension))
        for value in ends:
            wanted = cast(value) if cast is not None else value
            try:
                TrainSpec.model_validate(body(train, {**given, name: wanted}, options=options))
            except pydantic.ValidationError as error:
                fault = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
                msg = f"{name} = {value!r} in `space`: {fault}"
                raise ValueError(msg) from None


def _parents(dimension: Dimension) -> dict[str, Any]:
    return {name: value[0] if isinstance(value, list) else value for name, value in (dimension.when or {}).items()}


def _check_conditions(space: Mapping[str, Dimension]) -> None:
    for name, dimension in space.items():
        for parent, value in (dimension.when or {}).items():
            if parent not in space:
                msg = f"{name} is taken `when` {parent!r}, which `space` does not have. {nearest(parent, list(space))}"
                raise ValueError(msg)
            values = space[parent].values
            wanted = number(value if isinstance(value, list) else [value])
            wrong = [item for item in wanted if values is None or item not in values]
            if wrong:
                msg = f"{name} is taken `when` {parent} is {wrong[0]!r}, which is none of its choices {values}"
                raise ValueError(msg)
    order(space)


def order(space: Mapping[str, Dimension]) -> list[str]:
    """Names, each after those that its `when` names. Raises ValueError for a ring."""
    left, found = dict(space), list[str]()
    while left:
        ready = [name for name, dimension in left.items() if not set(dimension.when or {}) & set(left)]
        if not ready:
            msg = f"`when` of {', '.join(left)} form a ring"
            raise ValueError(msg)
        found += ready
        left = {name: dimension for name, dimension in left.items() if name not in ready}
    return found


def _check_together(spec: TuneSpec) -> None:
    """What does not go together, by name."""
    faults = {
        "several objectives cannot be stopped early: scheduler none, or one objective": (
            len(spec.objectives) > 1 and spec.scheduler.kind != "none"
        ),
        "search cmaes has one objective; nsga2, tpe, gp and random take several": (
            spec.search == "cmaes" and len(spec.objectives) > 1
        ),
        "search cmaes takes ranges alone, without `when`; tpe takes choices too": (
            spec.search == "cmaes" and any(d.values is not None or d.when for d in spec.space.values())
        ),
        "search cmaes knows no constraints; tpe, gp and nsga2 do": spec.search == "cmaes" and bool(spec.constraints),
        "`grid` in a space needs search grid or random; `choice` is for the others": (
            spec.search not in {"grid", "random"} and any(d.grid is not None for d in spec.space.values())
        ),
        "search grid needs `choice`, `grid`, or `low` and `high` with `step`": (
            spec.search == "grid" and any(d.values is None and d.step is None for d in spec.space.values())
        ),
        "warm_start is for tpe, gp, cmaes and nsga2: grid and random learn from nothing": (
            bool(spec.warm_start) and spec.search in {"grid", "random"}
        ),
        "executor pool has no hyperband and no user's schedulers; executor tune has": (
            spec.executor == "pool" and (spec.scheduler.kind == "hyperband" or ":" in spec.scheduler.kind)
        ),
        "scheduler hyperband draws all trials before the first result: search random or grid": (
            spec.scheduler.kind == "hyperband" and spec.search not in {"random", "grid"}
        ),
        "executor tune takes one objective and no constraints; the pool takes several": (
            spec.on_tune and (len(spec.objectives) > 1 or bool(spec.constraints))
        ),
        "`evaluation.` is known at the end alone: `scheduler.metric` says what reports are judged by": (
            spec.scheduler.kind != "none" and spec.judged_by.startswith("evaluation.")
        ),
    }
    wrong = next((text for text, fault in faults.items() if fault), None)
    if wrong is None and spec.scheduler.kind == "pbt":
        wrong = _population_fault(spec)
    if wrong is not None:
        raise ValueError(wrong)


def _population_fault(spec: TuneSpec) -> str | None:
    if any(dimension.when for dimension in spec.space.values()):
        return "scheduler pbt changes parameters on the way: none of them may depend on another (`when`)"
    if spec.train is None:
        return None
    fixed = [name for name in spec.space if name not in MUTABLE]
    if fixed:
        return f"scheduler pbt cannot change {fixed[0]!r} in the middle of a training; it can: {', '.join(MUTABLE)}"
    return None
