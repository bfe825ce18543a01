"""The charts of ``tradeoff`` in numbers; its templates have their words."""

from typing import Any

from distbp.study.drawing import COLOURS, Curve, Level, Plot, style
from distbp.study.tradeoff.heats import Heats, common, label_of, spread
from distbp.study.tradeoff.split import NAMES, Split

__all__ = ["charts"]

_TICKS = 6
"""Most places on an axis that have their own labels."""


def charts(heats: Heats, split: Split, study: dict[str, Any]) -> dict[str, Plot]:
    """Return what each chart shows, by name: the race against three clocks, and the sides of the split."""
    races = {f"race-{what}": _race(heats, study["best"], what) for what in ("examples", "steps", "seconds")}
    return races | {name: _side(side) for name, side in split.sides(study["budget"]).items()}


def _race(heats: Heats, best: float | None, what: str) -> Plot:
    marks: list[Curve | Level] = []
    for i, (method, curves) in enumerate(heats.curves.items()):
        x, middle = common(curves, what)
        if x:
            marks.append(Curve(label_of(method), x, middle, style(i) | {"marker": None}))
    at = 1.0 if what == "steps" else spread([one[what] for one in heats.exact])[1]
    star = {"fmt": "*", "markersize": 11, "capsize": 3, "color": COLOURS[6], "zorder": 5}
    marks.append(Curve(("exact",), [at], [spread([one["error"] for one in heats.exact])], star, bars=True))
    if best is not None:
        marks.append(Level(("best",), best, {"color": "#888", "linewidth": 1, "linestyle": (0, (2, 2))}))
    return Plot(marks, log="x", height=4.6)


def _side(side: dict[str, Any]) -> Plot:
    """Return the parts along a side; no hidden units have the place of one half."""
    curves = [
        Curve((name,), [place or 0.5 for place in side["at"]], [one[name] for one in side["medians"]], look)
        for name, look in zip((*NAMES, "total"), (*map(style, range(3)), style(6) | {"linestyle": ":"}), strict=True)
    ]
    ticks = side["at"] if len(side["at"]) <= _TICKS else ()
    return Plot([Level((), 0.0, {"color": "#888", "linewidth": 0.8}), *curves], log="x", height=4.6, ticks=ticks)
