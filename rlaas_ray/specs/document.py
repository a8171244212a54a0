"""The base of every document, and the one way to parse one: an unknown key is refused by name with the nearest known one.

Called by the CLI (YAML files), the API (bodies) and wiring. Never reads a file itself.
"""

from __future__ import annotations

import hashlib
import typing
from typing import Any, TypeVar, cast

import orjson
import pydantic

from rlaas_ray.errors import InvalidInput, RlaasError, UnknownField, nearest


class Document(pydantic.BaseModel):
    """Frozen, closed, strict about numbers that are not finite."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)

    def to_json(self) -> dict[str, Any]:
        """The document as JSON values, defaults written out, absent optionals left out."""
        return self.model_dump(mode="json", exclude_none=True)

    def digest(self) -> str:
        """SHA-256 over the sorted compact JSON: two equal documents have the same digest."""
        return hashlib.sha256(orjson.dumps(self.to_json(), option=orjson.OPT_SORT_KEYS)).hexdigest()


DocumentT = TypeVar("DocumentT", bound=Document)


def parse(kind: type[DocumentT], data: Any) -> DocumentT:
    """A document of `kind` from JSON values; `kind:` in the data, where present, must agree. Raises InvalidInput."""
    if not isinstance(data, dict):
        raise InvalidInput(f"a {kind.__name__} must be a mapping", given=data, expected="key: value pairs")
    wanted = kind.__name__.removesuffix("Spec")
    body = dict(data)
    # A document with a field of its own by that name (a run that is announced) keeps it.
    given = wanted if "kind" in kind.model_fields else body.pop("kind", wanted)
    if given != wanted:
        raise InvalidInput("the document is of another kind", given=given, expected=wanted, pointer="/kind")
    try:
        return kind.model_validate(body)
    except pydantic.ValidationError as error:
        raise from_validation(error, kind=kind) from None


def from_validation(error: pydantic.ValidationError, *, kind: type[pydantic.BaseModel]) -> RlaasError:
    """The first fault of a validation, as our error with its pointer and cure."""
    fault = error.errors(include_url=False)[0]
    pointer = "/" + "/".join(str(part) for part in fault["loc"])
    name = str(fault["loc"][-1]) if fault["loc"] else ""
    if fault["type"] == "extra_forbidden":
        known = _fields_at(kind, fault["loc"][:-1])
        return UnknownField(
            f"{kind.__name__} has no field {name!r}",
            given=name,
            expected="a known field",
            cure=nearest(name, known),
            pointer=pointer,
        )
    path = ".".join(str(part) for part in fault["loc"])
    where = f"field {path!r} of {kind.__name__}" if path else kind.__name__
    given = None if fault["type"] == "missing" else fault.get("input")
    cure = "Add it." if fault["type"] == "missing" else "Correct the value."
    return InvalidInput(where, given=given, expected=_wanted(fault["msg"]), cure=cure, pointer=pointer)


def _wanted(message: str) -> str:
    """What pydantic says, as what was expected: without its own kind of error, and without the words that are said already."""
    for opening in ("Value error, ", "Input should be "):
        message = message.removeprefix(opening)
    return "a value for it" if message == "Field required" else message


def _fields_at(kind: type[pydantic.BaseModel], path: tuple[int | str, ...]) -> list[str]:
    model: Any = kind
    inside = False  # a mapping or a list of documents: the next part is a key or an index of it
    for part in path:
        if inside:
            inside = False
            continue
        field = getattr(model, "model_fields", {}).get(part)
        inner = [a for a in _annotations(field.annotation) if isinstance(a, type)] if field is not None else []
        nested = [a for a in inner if issubclass(a, pydantic.BaseModel)]
        if not nested:
            return []
        inside = field is not None and typing.get_origin(_given(field.annotation)) in {dict, list, tuple}
        model = nested[0]
    fields = cast("dict[str, pydantic.fields.FieldInfo]", model.model_fields)
    return [*fields, *(str(f.alias) for f in fields.values() if f.alias)]


def _given(annotation: Any) -> Any:
    """The annotation of what is given where something is: without its None."""
    rest = [one for one in typing.get_args(annotation) if one is not type(None)]
    return rest[0] if type(None) in typing.get_args(annotation) and len(rest) == 1 else annotation


def _annotations(annotation: Any) -> list[Any]:
    arguments = getattr(annotation, "__args__", ())
    return [annotation, *(inner for argument in arguments for inner in _annotations(argument))]
