"""Baselines; being written."""

POLICIES: dict[str, object] = {}
REFERENCES: dict[str, object] = {}
