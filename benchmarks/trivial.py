"""A trial that does nothing, for tuning.py; alone in its module, because an actor imports what its trial imports."""

from typing import Any


def nothing(parameters: dict[str, Any]) -> dict[str, Any]:
    """What was drawn is what it is worth."""
    return {"value": parameters["x"]}
