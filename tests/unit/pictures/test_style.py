"""The colours can be read: text has a contrast of 4.5 on its paper, light and dark (WCAG 2.2, 1.4.3)."""

import re

import pytest

from rlaas_ray.pictures import style


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("sheet", [style.LIGHT, style.DARK], ids=["light", "dark"])
@pytest.mark.parametrize("name", ["ink", "soft", "champion", "challenger", "reference", "harm"])
def test_text_has_enough_contrast_on_paper_and_panel(sheet: str, name: str) -> None:
    colours = dict(re.findall(r"--(\w+):(#[0-9a-f]{6})", sheet))
    for ground in ("paper", "panel"):
        light, dark = sorted((luminance(colours[ground]), luminance(colours[name])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, ground
