"""How charts of a report look: one size, one set of colours, bands, legends below the axes.

The one module of the studies that needs matplotlib, which is imported when something is drawn.
"""

import io
from collections.abc import Sequence
from typing import Any

from distbp.errors import UserError

__all__ = ["COLOURS", "band", "chart", "finish", "rendered", "shade", "style"]

# Okabe & Ito 2008: colours that people with any colour vision tell apart
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "osD^vXP"
_LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
_LOOK: Any = {
    "font.size": 10.5, "axes.titlesize": 10.5, "legend.fontsize": 9.0, "svg.hashsalt": "distbp",
    "axes.spines.top": False, "axes.spines.right": False,
}  # fmt: skip


def chart(title: str, x: str, y: str, *, log: str = "", height: float = 4.2) -> tuple[Any, Any]:
    """A figure with one pair of axes.

    Parameters
    ----------
    title, x, y : str
        Heading; what the axes show, with units.
    log : str
        Axes with a logarithmic scale: "x", "y", "xy" or "".
    height : float
        In inches, at a width of 5.2, with the legend.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("a report needs matplotlib, which is not installed: pip install 'distbp[study]'") from None
    with rc_context(_LOOK):
        figure = Figure(figsize=(5.2, height), layout="constrained")
        axes = figure.subplots()
        axes.set_title(title, loc="left")
        axes.set(xlabel=x, ylabel=y)
        if "x" in log:
            axes.set_xscale("log")
        if "y" in log:
            axes.set_yscale("log")
        axes.grid(alpha=0.3, linewidth=0.6)
    return figure, axes


def style(i: int) -> dict[str, Any]:
    """Colour, marker and line of curve number `i`."""
    return {"color": COLOURS[i % 7], "marker": _MARKERS[i % 7], "linestyle": _LINES[i % 7], "markersize": 4.5}


def shade(i: int, n: int) -> dict[str, Any]:
    """Colour, marker and line of curve `i` of `n` curves in an order: from dark to light, for any colour vision."""
    from matplotlib import colormaps

    return {"color": colormaps["viridis"](0.9 * i / max(1, n - 1)), "marker": _MARKERS[i % 7], "markersize": 3.5}


def band(axes: Any, x: Sequence[float], curve: Any, *, label: str, **how: Any) -> None:
    """A line with its band: `curve` is (n, 3): low, middle, high at each x."""
    how = {"label": label, **how}
    low, middle, high = zip(*curve, strict=True)
    axes.plot(x, middle, **how)
    axes.fill_between(x, low, high, color=how.get("color"), alpha=0.18, linewidth=0)


def finish(axes: Any, columns: int = 2, *, ticks: Sequence[float] = ()) -> None:
    """Put the legend below the axes, where it covers nothing, and write numbers as people do.

    `ticks` are those of the x axis, where its values are few.
    """
    from matplotlib import rc_context
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            low, high = sorted(axis.get_view_interval())
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 100.0 * low else (1.0,), numticks=12))
            axis.set_major_formatter(FuncFormatter(lambda x, _: _plain(x)))
            axis.set_minor_formatter(NullFormatter())
    if ticks:
        axes.set_xticks(ticks[:: 1 + (len(ticks) - 1) // 9], [_plain(x) for x in ticks[:: 1 + (len(ticks) - 1) // 9]])
        axes.xaxis.set_minor_locator(NullLocator())
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        with rc_context(_LOOK):
            axes.figure.legend(handles, labels, ncols=columns, loc="outside lower center", frameon=False)


def _plain(x: float) -> str:
    if 1e-4 <= abs(x) < 1e5:
        return f"{x:,.6g}" if x < 1e4 else f"{x:,.0f}"
    digit, _, power = f"{x:.0e}".partition("e")
    return f"${'' if digit == '1' else digit + chr(92) + 'cdot '}10^{{{int(power)}}}$"


def rendered(figure: Any) -> tuple[bytes, bytes]:
    """The figure as PNG and SVG, the same bytes each time."""
    from matplotlib import rc_context

    out = []
    for kind, more in ("png", {"dpi": 160}), ("svg", {"metadata": {"Date": None}}):
        stream = io.BytesIO()
        with rc_context(_LOOK):
            figure.savefig(stream, format=kind, **more)
        out.append(stream.getvalue())
    return out[0], out[1]
