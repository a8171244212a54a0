"""`/docs`: the OpenAPI document as one page for people, whole in itself.

The usual page loads its script from a public network, and is blank on a machine without one. Called by the app. Pure: the
document in, HTML out; it asks nobody and loads nothing.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping
from typing import Any

Json = Mapping[str, Any]

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #1c2430; background: #fff }
h2 { margin-top: 2.2rem; border-bottom: 1px solid #d5dbe3 }
details { border: 1px solid #d5dbe3; border-radius: 6px; margin: .4rem 0; padding: .35rem .8rem }
summary { cursor: pointer } summary b { display: inline-block; width: 4.5rem } summary span { color: #5b6675; margin-left: .8rem }
code, pre { font: 13px/1.45 ui-monospace, monospace } pre { background: #f3f5f8; padding: .7rem; overflow-x: auto }
table { border-collapse: collapse; margin: .5rem 0 }
td { text-align: left; padding: .15rem 1.2rem .15rem 0; vertical-align: top }
@media (prefers-color-scheme: dark) {
  body { background: #14181e; color: #dde3ea } pre { background: #1e242c } summary span { color: #98a4b3 }
}
"""


def page(document: Json) -> str:
    """The page of an OpenAPI document."""
    info = document["info"]
    groups: dict[str, list[str]] = {}
    for path, method, operation in _operations(document):
        group = (operation.get("tags") or ["system"])[0]
        groups.setdefault(group, []).append(_operation(document, path=path, method=method, operation=operation))
    title = _text(info["title"])
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>{title} {_text(info['version'])}</h1><p>{_text(info.get('description', ''))}</p>"
        "<p>A key goes along as <code>Authorization: Bearer rlk_...</code>. An error is "
        "<code>application/problem+json</code> with <code>title, status, detail, cure</code> and, for a field, its pointer. "
        'For programs: <a href="/openapi.json">/openapi.json</a>.</p>'
        + "".join(f"<h2>{_text(name)}</h2>{''.join(parts)}" for name, parts in groups.items())
        + "</body></html>"
    )


def _operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


def _operation(document: Json, *, path: str, method: str, operation: Json) -> str:
    about = operation.get("description") or operation.get("summary") or ""
    head = f"<summary><b>{method}</b><code>{_text(path)}</code><span>{_text(about.split(chr(10))[0])}</span></summary>"
    parts = [_table([_parameter(given) for given in operation.get("parameters", [])])]
    for body in operation.get("requestBody", {}).get("content", {}).values():
        parts.append(_table(list(_fields(document, body.get("schema", {})))))
        if "example" in body:
            parts.append(f"<pre>{_text(json.dumps(body['example'], indent=2))}</pre>")
    codes = ", ".join(code for code in operation.get("responses", {}) if code != "default")
    return f"<details>{head}{''.join(parts)}<p>Answers {_text(codes)}, or a problem.</p></details>"


def _parameter(given: Json) -> tuple[str, str, str]:
    schema = given.get("schema", {})
    return f"{given['name']} ({given['in']})", _kind(schema), given.get("description", "")


def _fields(document: Json, schema: Json) -> Iterator[tuple[str, str, str]]:
    found = _resolved(document, schema)
    for name, inner in found.get("properties", {}).items():
        needed = ", required" if name in found.get("required", []) else ""
        known = f" = {json.dumps(inner['default'])}" if inner.get("default") is not None else ""
        yield name, f"{_kind(inner)}{needed}{known}", inner.get("description", "")


def _resolved(document: Json, schema: Json) -> Json:
    if "$ref" not in schema:
        return schema
    found: Json = document["components"]["schemas"].get(schema["$ref"].rpartition("/")[2], {})
    return found


def _kind(schema: Json) -> str:
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    if "anyOf" in schema:
        return " | ".join(_kind(one) for one in schema["anyOf"])
    return str(schema.get("type", "any"))


def _table(rows: list[tuple[str, str, str]]) -> str:
    if not rows:
        return ""
    cells = [f"<tr><td><code>{_text(a)}</code></td><td>{_text(b)}</td><td>{_text(c)}</td></tr>" for a, b, c in rows]
    return f"<table>{''.join(cells)}</table>"


def _text(value: str) -> str:
    return html.escape(value)
