"""Showing a picture that changes, in a notebook. Called by handles that are watched; loads IPython only then."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rlaas_ray.errors import Unavailable
from rlaas_ray.pictures import notebook
from rlaas_ray.pictures.found import document_of

Show = Callable[[str], None]


def cell() -> Show:
    """Shows HTML below the cell, each time in place of what was there. Raises Unavailable without IPython."""
    try:
        from IPython.display import HTML, display  # noqa: PLC0415 - of the notebook; nobody else needs it
    except ImportError:
        raise Unavailable(
            "a live picture is shown by IPython, which is not installed",
            cure="Run it in a notebook, or `pip install 'rlaas-ray[notebook]'`, or give show=: a function that takes HTML.",
        ) from None
    places: list[Any] = []

    def show(html: str) -> None:
        if places:
            places[0].update(HTML(html))  # type: ignore[no-untyped-call]
        else:
            places.append(display(HTML(html), display_id=True))  # type: ignore[no-untyped-call]

    return show


def shown(document: Mapping[str, Any]) -> str:
    """A run's document: the front that it has found if there is one, else how far it is."""
    front = document_of(document.get("result") or {})
    if front is not None:
        return notebook.result(front)
    message = (document.get("progress") or {}).get("message")
    return notebook.waiting(
        f"Run {document['id']} {document['state']}{f': {message}' if message else ''}. watch() shows it grow."
    )


class Live:
    """What a watched search has told so far, and its picture."""

    def __init__(self, show: Show) -> None:
        self._show = show
        self._trace: list[tuple[float, float]] = []
        show(notebook.waiting("The search has told of no front yet."))

    def front(self, event: Mapping[str, Any]) -> None:
        """A `front` event."""
        generation, volume = event.get("generation"), event.get("hypervolume")
        if isinstance(generation, int) and isinstance(volume, int | float):
            self._trace.append((float(generation), float(volume)))
        self._show(notebook.moment(event, trace=self._trace))

    def ended(self, document: Mapping[str, Any]) -> None:
        """The run's document, once it has ended: its result if it has one, else in which state."""
        self._show(shown(document))
