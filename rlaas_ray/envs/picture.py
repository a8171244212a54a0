"""What every picture of an environment shares: a figure without pyplot, its pixels, the colours.

Called by the domains' own picture modules, which alone know what is shown. Matplotlib is loaded by whoever draws, nobody else.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rlaas_ray.specs.arrays import Array

# Blue for what is there, green for what is well, amber for a warning, red for harm, grey for what is off or idle.
BLUE, GREEN, AMBER, RED, GREY, INK = "#3d6a9e", "#0f8a6b", "#b0721a", "#bf3b31", "#b9bdc4", "#1c1e21"
_DPI = 100


def figure(*, width_px: int = 800, height_px: int = 450, columns: int = 1, **subplots: Any) -> tuple[Figure, Any]:
    """A figure of that many pixels and its axes, `columns` side by side."""
    made = Figure(figsize=(width_px / _DPI, height_px / _DPI), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(made)
    axes = made.subplots(1, columns, **subplots)
    for one in np.ravel(axes):
        one.spines[["top", "right"]].set_visible(False)
    return made, axes


def pixels(made: Figure) -> Array:
    """The figure as uint8 (height, width, 3)."""
    canvas = made.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()  # type: ignore[no-untyped-call]
    drawn: Array = np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]
    return drawn
