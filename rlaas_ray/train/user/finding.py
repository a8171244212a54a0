"""Users' algorithms by name: `module:Class`, or an entry point of group `rlaas.algorithms`; broken ones are told, never fatal.

Called by families.py, by check.py and by `rlaas algorithms`. A plugin is imported when its name is asked for.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, cast

from rlaas_ray.errors import InvalidInput, NotFound, RlaasError, nearest
from rlaas_ray.specs.algorithms import ALGORITHMS

GROUP = "rlaas.algorithms"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """An installed package's algorithm. `error`: why it cannot be used."""

    name: str
    target: str  # module:Class
    package: str
    version: str
    error: str | None = None


def plugins(entries: Iterable[importlib.metadata.EntryPoint] | None = None) -> tuple[Plugin, ...]:
    """Every plugin that is installed, by name, imported to see whether it works; `entries` as importlib.metadata finds them."""
    found = sorted(_entries(entries), key=lambda entry: entry.name)
    return tuple(_plugin(entry, others=[other for other in found if other is not entry]) for entry in found)


def target_of(name: str, *, entries: Iterable[importlib.metadata.EntryPoint] | None = None) -> str:
    """`module:Class` of a name. Raises NotFound for a name that nobody brings, InvalidInput for a plugin that is refused."""
    if ":" in name:
        return name
    found = [entry for entry in _entries(entries) if entry.name == name]
    if not found:
        known = [*ALGORITHMS, *(entry.name for entry in _entries(entries))]
        raise NotFound(
            f"algorithm {name!r}",
            given=name,
            expected="a name of `rlaas algorithms list`, or module:Class",
            cure=nearest(name, known),
        )
    refused = _refusal(found[0], others=found[1:])
    if refused is not None:
        raise InvalidInput(f"plugin {name!r}", given=found[0].value, expected=refused, cure="Rename the entry point.")
    return found[0].value


def load(target: str) -> type[Any]:
    """The class that `module:Class` names. Raises NotFound and InvalidInput."""
    found, loaded, path = _named(target)
    if not isinstance(found, type):
        classes = [key for key, value in vars(loaded).items() if isinstance(value, type)]
        raise InvalidInput(
            f"algorithm {target!r}",
            given="nothing of that name" if found is None else type(found).__name__,
            expected="a class",
            cure=nearest(path, classes) if classes else f"No class is in {loaded.__name__}.",
        )
    return found


def function(target: str) -> Callable[..., Any]:
    """What `module:function` names. Raises NotFound and InvalidInput."""
    found, loaded, path = _named(target)
    if not callable(found):
        raise InvalidInput(
            f"function {target!r}",
            given="nothing of that name" if found is None else type(found).__name__,
            expected="a function, or a class",
            cure=nearest(path, [key for key, value in vars(loaded).items() if callable(value)]),
        )
    assert callable(found)
    return cast("Callable[..., Any]", found)


def _named(target: str) -> tuple[Any, ModuleType, str]:
    """What `module:path` names (None where there is nothing), its module, and the path."""
    module, _, path = target.partition(":")
    try:
        loaded = importlib.import_module(module)
    except Exception as error:  # foreign code runs here: whatever it raises, say whose it is
        raise NotFound(
            f"module {module!r} of {target!r}",
            given=f"{type(error).__name__}: {error}",
            expected="a module that imports",
            cure="Run the command where the module lies, or install it; in a cluster it must be in the image.",
        ) from error
    found: Any = loaded
    for name in path.split("."):
        found = getattr(found, name, None)
    return found, loaded, path


def _entries(
    entries: Iterable[importlib.metadata.EntryPoint] | None,
) -> list[importlib.metadata.EntryPoint]:
    return list(importlib.metadata.entry_points(group=GROUP) if entries is None else entries)


def _plugin(entry: importlib.metadata.EntryPoint, *, others: list[importlib.metadata.EntryPoint]) -> Plugin:
    error = _refusal(entry, others=others)
    if error is None:
        try:
            load(entry.value)
        except RlaasError as fault:
            error = fault.detail
    package, version = (entry.dist.name, entry.dist.version) if entry.dist else ("unknown", "0")
    return Plugin(name=entry.name, target=entry.value, package=package, version=version, error=error)


def _refusal(entry: importlib.metadata.EntryPoint, *, others: list[importlib.metadata.EntryPoint]) -> str | None:
    if entry.name in ALGORITHMS:
        return f"a name of its own: {entry.name!r} is built in"
    if any(other.name == entry.name and other.value != entry.value for other in others):
        return f"a name of its own: two packages bring {entry.name!r}"
    return None
