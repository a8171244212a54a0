"""Validation of Ray custom resources as the API server does it, without one: prune, default, schema, lists, CEL.

Called by tests on every manifest; the CRDs are the operator's own files, read from a folder that the caller names. Follows
kubernetes/apiextensions-apiserver (schema/pruning, schema/defaulting, registry/customresource/strategy.go). Never models cost
limits, admission webhooks or ratcheting.
"""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cel
import jsonschema
import yaml

from rlaas_ray.errors import InvalidInput, NotFound

Json = Any
_INTEGER_RANGE = {"int32": 2**31, "int64": 2**63}
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
# CEL's reserved words and the characters that a property name must be escaped for (apiserver/schema/cel/model).
_CEL_WORDS = frozenset(
    {"true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if"}
) | {
    *("import", "let", "loop", "package", "namespace", "return", "var", "void", "while"),
}
_DATE_TIME = r"^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One fault: where (JSON pointer) and what."""

    pointer: str
    message: str

    def __str__(self) -> str:
        return f"{self.pointer or '/'}: {self.message}"


class _StringTimestamps(yaml.CSafeLoader):
    """YAML as the API server reads it: timestamps stay text, a key that stands twice is a fault."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
        keys = [self.construct_object(key) for key, _ in node.value]
        twice = sorted({str(k) for k in keys if keys.count(k) > 1})
        if twice:
            raise InvalidInput("a key stands twice in a YAML mapping", given=twice[0], expected="each key once")
        return dict(super().construct_mapping(node, deep=deep))


_StringTimestamps.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def read_objects(text: str) -> list[Json]:
    """The documents of a YAML text. Raises InvalidInput on a key that stands twice."""
    return [document for document in yaml.load_all(text, Loader=_StringTimestamps) if document is not None]


class Crds:
    """The CRDs of one folder, by (apiVersion, kind)."""

    def __init__(self, folder: Path) -> None:
        self._schemas: dict[tuple[str, str], Json] = {}
        self._validators: dict[tuple[str, str], Any] = {}
        for file in sorted(folder.glob("*.yaml")):
            crd = yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
            for version in crd["spec"]["versions"]:
                key = (f"{crd['spec']['group']}/{version['name']}", crd["spec"]["names"]["kind"])
                # metadata follows fixed rules, not the CRD; status is dropped on create.
                schema = version["schema"]["openAPIV3Schema"]
                own = {k: v for k, v in schema["properties"].items() if k not in {"metadata", "status"}}
                self._schemas[key] = {**schema, "properties": own}
                self._validators[key] = jsonschema.Draft202012Validator(_translate(self._schemas[key]))
        if not self._schemas:
            raise NotFound(
                "no CRDs",
                given=str(folder),
                expected="the operator's *.yaml files",
                cure="Set RLAAS_KUBERAY_CRDS to their folder.",
            )

    def validate(self, given: Json) -> list[Finding]:
        """What the API server would refuse on create with strict field validation; empty when it would accept."""
        key = (str(given.get("apiVersion")), str(given.get("kind")))
        schema = self._schemas.get(key)
        if schema is None:
            return [Finding(pointer="/kind", message=f"no CRD for {key[0]} {key[1]}")]
        body = copy.deepcopy(given)
        findings = list(_metadata(body.pop("metadata", None)))
        body.pop("status", None)
        findings += _prune(body, schema, pointer="")
        _drop_nulls(body, schema)
        _default(body, schema)
        for error in self._validators[key].iter_errors(body):
            findings.append(Finding(pointer="/" + "/".join(map(str, error.absolute_path)), message=error.message))
        findings += _lists(body, schema, pointer="")
        return findings or list(_rules(body, schema, pointer=""))


def _metadata(metadata: Json) -> Iterator[Finding]:
    if not isinstance(metadata, dict) or not (metadata.get("name") or metadata.get("generateName")):
        yield Finding(pointer="/metadata", message="name or generateName is required")
        return
    name = metadata.get("name", "a")
    if not isinstance(name, str) or len(name) > 253 or not _NAME.fullmatch(name):
        yield Finding(pointer="/metadata/name", message=f"not a DNS-1123 subdomain: {name!r}")
    for field in ("labels", "annotations"):
        for key, value in (metadata.get(field) or {}).items():
            if not isinstance(key, str) or not isinstance(value, str):
                yield Finding(pointer=f"/metadata/{field}/{key}", message=f"must be a string: {value!r}")


def _children(value: Json, schema: Json) -> Iterator[tuple[Any, Json, Json]]:
    """(key or index, child value, child schema) of everything the schema speaks of."""
    if isinstance(value, dict):
        extra = schema.get("additionalProperties")
        for key, child in value.items():
            if key in schema.get("properties", {}):
                yield key, child, schema["properties"][key]
            elif isinstance(extra, dict):
                yield key, child, extra
    elif isinstance(value, list) and "items" in schema:
        for index, child in enumerate(value):
            yield index, child, schema["items"]


def _prune(value: Json, schema: Json, *, pointer: str) -> list[Finding]:
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return []
    findings = []
    if isinstance(value, dict) and schema.get("type") == "object" and not schema.get("additionalProperties"):
        for key in [k for k in value if k not in schema.get("properties", {})]:
            del value[key]
            findings.append(Finding(pointer=f"{pointer}/{key}", message="unknown field"))
    for key, child, inner in _children(value, schema):
        findings += _prune(child, inner, pointer=f"{pointer}/{key}")
    return findings


def _drop_nulls(value: Json, schema: Json) -> None:
    for key, child, inner in list(_children(value, schema)):
        if child is None and isinstance(value, dict) and not inner.get("nullable") and "default" not in inner:
            del value[key]
        else:
            _drop_nulls(child, inner)


def _default(value: Json, schema: Json) -> None:
    if isinstance(value, dict):
        for key, inner in schema.get("properties", {}).items():
            if "default" in inner and (key not in value or (value[key] is None and not inner.get("nullable"))):
                value[key] = copy.deepcopy(inner["default"])
    for _, child, inner in _children(value, schema):
        _default(child, inner)


def _translate(schema: Json) -> Json:
    """OpenAPI v3 of a CRD -> JSON Schema."""
    kept = {
        "type",
        "enum",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "minLength",
        "maxLength",
        "pattern",
        "required",
    }
    kept |= {"minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties", "multipleOf"}
    result = {key: value for key, value in schema.items() if key in kept}
    for key in ("allOf", "anyOf", "oneOf"):
        if key in schema:
            result[key] = [_translate(part) for part in schema[key]]
    if "not" in schema:
        result["not"] = _translate(schema["not"])
    if "properties" in schema:
        result["properties"] = {key: _translate(part) for key, part in schema["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            result[key] = _translate(schema[key])
    bound = _INTEGER_RANGE.get(schema.get("format", ""))
    if bound and schema.get("type") == "integer":
        result.setdefault("minimum", -bound)
        result.setdefault("maximum", bound - 1)
    if schema.get("format") == "date-time":
        result["pattern"] = _DATE_TIME
    if schema.get("nullable") and "type" in result:
        result["type"] = [result["type"], "null"]
    return result


def _lists(value: Json, schema: Json, *, pointer: str) -> list[Finding]:
    findings = []
    kind = schema.get("x-kubernetes-list-type")
    if isinstance(value, list) and kind in {"set", "map"}:
        keys = schema.get("x-kubernetes-list-map-keys", [])
        seen = [
            repr([item.get(k) for k in keys]) if kind == "map" and isinstance(item, dict) else repr(item)
            for item in value
        ]
        for index, item in enumerate(seen):
            if item in seen[:index]:
                findings.append(Finding(pointer=f"{pointer}/{index}", message=f"duplicate of another item: {item}"))
    for key, child, inner in _children(value, schema):
        findings += _lists(child, inner, pointer=f"{pointer}/{key}")
    return findings


def _rules(value: Json, schema: Json, *, pointer: str) -> Iterator[Finding]:
    for rule in schema.get("x-kubernetes-validations", []):
        # A rule with oldSelf compares with what was there before; on create there is nothing.
        if (
            not re.search(r"\boldSelf\b", rule["rule"])
            and _program(rule["rule"]).execute({"self": _cel_value(value, schema)}) is not True
        ):
            yield Finding(pointer=pointer, message=rule.get("message", rule["rule"]))
    for key, child, inner in _children(value, schema):
        yield from _rules(child, inner, pointer=f"{pointer}/{key}")


@functools.cache
def _program(rule: str) -> Any:
    return cel.compile(rule)


def _cel_value(value: Json, schema: Json) -> Json:
    if isinstance(value, Mapping):
        declared = schema.get("properties", {})
        inner = {key: child_schema for key, _, child_schema in _children(value, schema)}
        return {
            (_escape(key) if key in declared else key): _cel_value(child, inner.get(key, {}))
            for key, child in value.items()
        }
    if isinstance(value, list):
        return [_cel_value(item, schema.get("items", {})) for item in value]
    return float(value) if schema.get("type") == "number" and isinstance(value, int) else value


def _escape(name: str) -> str:
    if name in _CEL_WORDS:
        return f"__{name}__"
    for character, escaped in (("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__")):
        name = name.replace(character, escaped)
    return name
