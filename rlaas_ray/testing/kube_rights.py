"""Who may do what, read from RBAC documents as the API server reads them: for the API-server twin and tests of manifests.

Roles, ClusterRoles and their bindings to service accounts; rights only add up. Never models aggregation or resource names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, order=True)
class Right:
    """One verb on one resource; `namespace` None holds in the whole cluster."""

    account: str  # namespace:name
    verb: str
    group: str
    resource: str
    namespace: str | None


class Rights:
    """Every single right that the documents give."""

    def __init__(self, documents: Iterable[Mapping[str, Any]]) -> None:
        made = list(documents)
        rules = {
            (d["kind"], d["metadata"].get("namespace"), d["metadata"]["name"]): d["rules"]
            for d in made
            if d["kind"] in {"Role", "ClusterRole"}
        }
        self.all = frozenset(
            right
            for d in made
            if d["kind"] in {"RoleBinding", "ClusterRoleBinding"}
            for right in _granted(d, rules=rules)
        )

    def allow(self, account: str, *, verb: str, group: str, resource: str, namespace: str | None) -> bool:
        """Whether the account may."""
        return any(
            right.account == account
            and right.namespace in {None, namespace}
            and (right.verb, right.group, right.resource) == (verb, group, resource)
            for right in self.all
        )


def _granted(binding: Mapping[str, Any], *, rules: Mapping[Any, Any]) -> Iterable[Right]:
    namespace = binding["metadata"].get("namespace")
    role = binding["roleRef"]
    own = namespace if role["kind"] == "Role" else None
    for rule in rules.get((role["kind"], own, role["name"]), []):
        for subject in binding["subjects"]:
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    for verb in rule["verbs"]:
                        account = f"{subject['namespace']}:{subject['name']}"
                        yield Right(account, verb, group, resource, namespace)
