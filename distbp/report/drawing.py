"""How charts of a report look: one size, one set of colours, bands, legends below the axes.

Who reports says in numbers what a chart shows, as a `Plot`; its template has the words; `draw` makes the picture. The
one module of reports that needs matplotlib, which is imported when something is drawn.
"""

import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from distbp.errors import UserError

# Okabe & Ito 2008: colours that people with any colour vision tell apart
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "osD^vXP"
_LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
_LOOK: Any = {
    "font.size": 10.5, "axes.titlesize": 10.5, "legend.fontsize": 9.0, "svg.hashsalt": "distbp",
    "axes.spines.top": False, "axes.spines.right": False,
}  # fmt: skip

Label = tuple[Any, ...]
"""Name of a label in the template, and the values that fill it: ``("rate", 0.1)``; empty for no label."""
Look = Mapping[str, Any]
"""Colour, marker and line, in matplotlib's words; a colour may be a number, from 0 (dark) to 1 (light)."""


@dataclass(frozen=True)
class Curve:
    """A line, or a line with its band; without points nothing."""

    label: Label
    x: Any  # (n,)
    y: Any  # (n,), or (n, 3): low, middle, high
    look: Look = field(default_factory=dict)  # if not the `style` of its number
    bars: bool = False  # the band is one of error bars

    def draw(self, axes: Any, look: Look) -> None:
        """Draw it, with the words and colours of `look`."""
        if len(self.x) == 0:
            return
        low, middle, high = np.transpose(self.y) if np.ndim(self.y) == 2 else (None, self.y, None)
        if self.bars:
            axes.errorbar(self.x, middle, [middle - low, high - middle], **look)
            return
        axes.plot(self.x, middle, **look)
        if low is not None:
            axes.fill_between(self.x, low, high, color=look["color"], alpha=0.18, linewidth=0)


@dataclass(frozen=True)
class Level:
    """A line across the chart at a value of the axis `along`, or a strip from there to `high`; at None nothing."""

    label: Label
    at: float | None
    look: Look
    high: float | None = None
    along: str = "y"

    def draw(self, axes: Any, look: Look) -> None:
        """Draw it, with the words and colours of `look`."""
        line, strip = (axes.axvline, axes.axvspan) if self.along == "x" else (axes.axhline, axes.axhspan)
        if self.high is not None:
            strip(self.at, self.high, alpha=0.15, linewidth=0, **look)
        elif self.at is not None:
            line(self.at, **look)


@dataclass(frozen=True)
class Bars:
    """A bar from 0 for each name, the first on top, with its spread."""

    names: Sequence[str]
    lengths: Any  # (n,)
    spread: Any  # (n,)
    label: Label = ()
    look: Look = field(default_factory=lambda: {"color": COLOURS[0]})

    def draw(self, axes: Any, look: Look) -> None:
        """Draw them."""
        places = np.arange(len(self.names))[::-1]
        axes.barh(places, self.lengths, xerr=self.spread, error_kw={"elinewidth": 1.0, "ecolor": "#555"}, **look)
        axes.set_yticks(places, [_short(name) for name in self.names])
        axes.grid(visible=False, axis="y")


@dataclass(frozen=True)
class Matrix:
    """Counts of pairs (row, column), a colour for the share in the row; few of them as numbers, too."""

    names: Sequence[str]
    counts: Any  # (n, n)
    label: Label = ()
    look: Look = field(default_factory=lambda: {"color": COLOURS[0]})

    def draw(self, axes: Any, look: Look) -> None:
        """Draw it."""
        counts, places = np.asarray(self.counts), np.arange(len(self.names))
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
        size = 9.0 if len(places) <= _NUMBERED else 7.0
        names = [_short(name) for name in self.names]
        upright = max(map(len, names)) > 3
        axes.set_xticks(places, names, fontsize=size, rotation=90 if upright else 0)
        axes.set_yticks(places, names, fontsize=size)
        axes.grid(visible=False)
        if len(places) <= _NUMBERED:
            for i, j in np.ndindex(counts.shape):
                colour = "white" if shares[i, j] > 0.6 else "black"
                text = f"{counts[i, j]:,}" if counts[i, j] else ""
                axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=8.0)


_NUMBERED, _LONGEST = 12, 18
"""Classes up to which a matrix has numbers, and letters of a name that are shown."""


def _short(name: str) -> str:
    return _text(name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…")


def _text(words: str) -> str:
    """Return words as matplotlib shows them: it takes what stands between two $ for a formula."""
    return words.replace("$", r"\$")


@dataclass(frozen=True)
class Plot:
    """What a chart shows."""

    marks: Sequence[Curve | Level | Bars | Matrix]  # in the order of the legend
    log: str = ""  # axes with a logarithmic scale: "x", "y", "xy"
    height: float = 4.2  # in inches, at a width of 5.2, with the legend
    columns: int = 2  # of the legend
    ticks: Sequence[float] = ()  # of the x axis, where its values are few; 0 stands at 0.5
    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # xlim, ylim, if not those of the marks


def style(i: int) -> dict[str, Any]:
    """Return colour, marker and line of curve number `i`."""
    return {"color": COLOURS[i % 7], "marker": _MARKERS[i % 7], "linestyle": _LINES[i % 7], "markersize": 4.5}


def shade(i: int, n: int) -> dict[str, Any]:
    """Return the look of curve `i` of `n` curves in an order: from dark to light, for any colour vision."""
    return {"color": 0.9 * i / max(1, n - 1), "marker": _MARKERS[i % 7], "markersize": 3.5}


def labelled(label: Label, labels: Mapping[str, str]) -> str:
    """Return a label in words, of those of the template by name: ``{"rate": "rate {:g}"}``."""
    name, *values = label
    return labels[name].format(*values)


def draw(plot: Plot, title: str, x: str, y: str, labels: Mapping[str, str]) -> Any:
    """Draw a chart with its heading, what the axes show, and `labels` by name; return matplotlib's figure."""
    try:
        from matplotlib import colormaps, rc_context
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("a report needs matplotlib, which is not installed: pip install 'distbp[report]'") from None
    with rc_context(_LOOK):
        figure = Figure(figsize=(5.2, plot.height), layout="constrained")
        axes = figure.subplots()
        axes.set_title(_text(title), loc="left")
        axes.set(xlabel=_text(x), ylabel=_text(y), **{f"{axis}scale": "log" for axis in plot.log}, **plot.limits)
        axes.grid(alpha=0.3, linewidth=0.6)
    for i, mark in enumerate(plot.marks):
        look = {"label": _text(labelled(mark.label, labels))} if mark.label else {}
        look |= mark.look or style(i)
        if isinstance(look["color"], float):
            look["color"] = colormaps["viridis"](look["color"])
        mark.draw(axes, look)
    _write_numbers(axes, plot.ticks)
    handles, names = axes.get_legend_handles_labels()
    with rc_context(_LOOK):
        if names:  # below the axes, where it covers nothing
            figure.legend(handles, names, ncols=plot.columns, loc="outside lower center", frameon=False)
    return figure


def _write_numbers(axes: Any, ticks: Sequence[float]) -> None:
    """Write the numbers of the axes as people do."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            low, high = sorted(axis.get_view_interval())
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 100.0 * low else (1.0,), numticks=12))
            axis.set_major_formatter(FuncFormatter(lambda x, _: _plain(x)))
            axis.set_minor_formatter(NullFormatter())
    if ticks:
        ticks = ticks[:: 1 + (len(ticks) - 1) // 9]
        axes.set_xticks([x or 0.5 for x in ticks], [_plain(x) for x in ticks])
        axes.xaxis.set_minor_locator(NullLocator())


def _plain(x: float) -> str:
    if x == 0.0 or 1e-4 <= abs(x) < 1e5:
        return f"{x:,.6g}" if x < 1e4 else f"{x:,.0f}"
    digit, _, power = f"{x:.0e}".partition("e")
    return f"${'' if digit == '1' else digit + chr(92) + 'cdot '}10^{{{int(power)}}}$"


def rendered(figure: Any, kind: str) -> bytes:
    """Return the figure as ``png`` or ``svg``, the same bytes each time."""
    from matplotlib import rc_context

    more: dict[str, Any] = {"dpi": 160} if kind == "png" else {"metadata": {"Date": None}}
    stream = io.BytesIO()
    with rc_context(_LOOK), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a letter that the font has not
        figure.savefig(stream, format=kind, **more)
    return stream.getvalue()
