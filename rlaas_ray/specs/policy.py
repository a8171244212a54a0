"""How a policy is named: `NAME`, `NAME:3`, `NAME@champion`, a bundle path, or `baseline:ENV/NAME`.

Parsed once at every door; resolved by `store/registry.py`. Never touches a disk: a name with a slash or a dot is a path.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from rlaas_ray.errors import InvalidInput

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRef:
    """A parsed policy name. `version`: name with number or alias (or neither: the newest); `path`; `baseline`: env and name."""

    kind: Literal["version", "path", "baseline"]
    name: str
    number: int | None = None
    alias: str | None = None
    env: str | None = None

    def __str__(self) -> str:
        if self.kind == "baseline":
            return f"baseline:{self.env}/{self.name}"
        if self.number is not None:
            return f"{self.name}:{self.number}"
        return f"{self.name}@{self.alias}" if self.alias else self.name


def parse_policy(text: str) -> PolicyRef:
    """The PolicyRef that `text` names. Raises InvalidInput with the five forms."""
    if text.startswith("baseline:"):
        env, _, name = text.removeprefix("baseline:").rpartition("/")
        if env and name:
            return PolicyRef(kind="baseline", name=name, env=env)
        raise _bad(text)
    if text.endswith(".tar.zst") or text.startswith((".", "/", "~")) or "/" in text:
        return PolicyRef(kind="path", name=text)
    name, at, alias = text.partition("@")
    if at and _NAME.fullmatch(name) and _NAME.fullmatch(alias):
        return PolicyRef(kind="version", name=name, alias=alias)
    name, colon, number = text.partition(":")
    if _NAME.fullmatch(name) and (not colon or (number.isascii() and number.isdigit() and int(number) >= 1)):
        return PolicyRef(kind="version", name=name, number=int(number) if colon else None)
    raise _bad(text)


def _bad(text: str) -> InvalidInput:
    return InvalidInput(
        "not a policy",
        given=text,
        expected="NAME, NAME:3, NAME@champion, a bundle path, or baseline:ENV/NAME",
        cure="`rlaas models list` shows names; `rlaas env show ENV` shows baselines.",
    )
