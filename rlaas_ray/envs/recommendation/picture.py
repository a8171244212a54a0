"""A session as a picture: what the user likes, what could be shown, how much time is left; and the other dynamics.

Called by `render()`. Shows the first user of a batch; changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rlaas_ray.envs import picture
from rlaas_ray.envs.recommendation import choice, dynamics
from rlaas_ray.specs.arrays import F64, Array


def draw(state: Mapping[str, Any], *, rule: str) -> Array:
    """Bars: interest in each topic by its mean quality. Dots: the ten candidates by click mass and quality."""
    interests, budget = state["interests"][0], float(state["budget"][0])
    topic, quality = state["topic"][0], state["quality"][0]
    clicked = int(state["response"][0])
    made, (left, right) = picture.figure(width_px=1000, columns=2, width_ratios=(1.2, 1.0))
    left.bar(np.arange(dynamics.TOPICS), interests, color=[_colour(mean) for mean in dynamics.MEANS])
    left.axhline(0.0, color=picture.INK, linewidth=0.8)
    if clicked >= 0:
        left.plot([clicked], [1.08], "v", color=picture.INK, markersize=8)
    left.set(
        xlabel="topic, worst quality to best (black mark: last click)",
        ylabel="interest",
        ylim=(-1.15, 1.15),
        xticks=range(0, 20, 2),
    )
    left.set_title("colour: mean quality of the topic, red below -1.5, amber below 0, green above", fontsize=9)
    right.scatter(
        choice.mass(interests[topic], rule=rule), quality, c=[_colour(dynamics.MEANS[one]) for one in topic], s=150
    )
    for one, where in enumerate(topic):
        at = (float(choice.mass(interests[where], rule=rule)), float(quality[one]))
        right.annotate(str(one), at, ha="center", va="center", color="white", fontsize=8)
    right.set(
        xlabel="click mass of the candidate",
        ylabel="quality",
        xlim=(0.0, 1.05 * float(choice.mass(np.ones(1), rule=rule)[0])),
        ylim=(-3.6, 3.6),
    )
    right.set_title(
        f"step {int(state['t'][0])}, {max(budget, 0.0):.0f} of 200 minutes left; show three of these ten",
        fontsize=9,
    )
    return picture.pixels(made)


def draw_satisfaction(state: Mapping[str, Any], *, content: F64) -> Array:
    """Bars: clickbait of the ten candidates. Title: time, last engagement and the satisfaction that no policy sees."""
    score = state["clickbait"][0]
    made, axes = picture.figure(width_px=640, height_px=360)
    axes.bar(np.arange(len(score)), score, color=[picture.RED if one > 0.5 else picture.GREEN for one in score])
    axes.axhline(float(content[0]), color=picture.BLUE, linestyle="--", label="satisfaction (hidden)")
    axes.set(xlabel="candidate", ylabel="clickbait score", ylim=(0.0, 1.05), xticks=range(len(score)))
    axes.legend(loc="upper right", fontsize=8)
    axes.set_title(f"step {int(state['t'][0])}: last engagement {float(state['last'][0]):.1f}", fontsize=9)
    return picture.pixels(made)


def draw_tiny(interest: F64, *, left_share: float, worth: Mapping[str, float]) -> Array:
    """Left: interest in the four topics. Right: what each of the six slates is worth from here, exactly."""
    made, (left, right) = picture.figure(columns=2)
    colours = [picture.RED, picture.AMBER, picture.BLUE, picture.GREEN]
    left.bar(np.arange(len(interest)), interest, color=colours)
    left.axhline(0.0, color=picture.INK, linewidth=0.8)
    left.set(
        xlabel="topic (a click costs 5, 4, 3, 2)", ylabel="interest", ylim=(-1.1, 1.1), xticks=range(len(interest))
    )
    left.set_title(f"{left_share:.0%} of the time left", fontsize=9)
    low, high = min(worth.values()), max(worth.values())
    names = list(worth)
    right.bar(
        names, list(worth.values()), color=[picture.GREEN if worth[one] == high else picture.GREY for one in names]
    )
    margin = max(high - low, 0.1)
    right.set(xlabel="slate", ylabel="minutes to come", ylim=(low - margin, high + 0.3 * margin))
    right.set_title("green: the best slate, by dynamic programming", fontsize=9)
    return picture.pixels(made)


def _colour(mean: float) -> str:
    if mean < dynamics.TRASHY_BELOW:
        return picture.RED
    return picture.AMBER if mean < 0.0 else picture.GREEN
