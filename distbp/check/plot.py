"""The picture of `distbp.check`: time against depth and number of parameters, error of differences against their step.

The one module that needs matplotlib, which is imported when something is drawn.
"""

from typing import Any

from distbp.check.report import COLUMNS, Report

# Okabe & Ito 2008: eight colours that people with any colour vision tell apart
_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#E69F00", "#CC79A7", "#000000")
_STYLES = {name: {"color": c, "marker": m, "ms": 4} for name, c, m in zip(COLUMNS, _COLOURS, "vos^Dx", strict=True)}
_EPS = 2.0**-53


def draw(report: Report, file: str) -> None:
    """Draw what was found, in the format that the name of the file says."""
    from matplotlib.figure import Figure

    panels = [_depth, _parameters, _steps] if report.graphs else [_steps]
    figure = Figure(figsize=(5.2 * len(panels), 5.4), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        panel(axes, report)
        axes.grid(alpha=0.3, linewidth=0.6)
        axes.legend(fontsize=8, frameon=False, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.13))
    figure.suptitle(f"one gradient, {report.what}", fontsize=10)
    figure.savefig(file, dpi=150)


def _depth(axes: Any, report: Report) -> None:
    """Draw time against depth: lines of slope 1 are linear, what bends upwards is exponential."""
    deepest = report.width_of_deepest()
    for name in report.columns():
        lines = [(deepest, report.title(name), "-")]
        if name == "paths":
            widths = sorted({m.width for m in report.of("paths")})
            kinds = (":", "--", "-", *["-."] * len(widths))
            lines = [(w, f"{report.title(name)}, width {w}", kind) for w, kind in zip(widths, kinds, strict=False)]
        for width, label, kind in lines:
            rows = sorted(report.of(name, width=width), key=lambda m: m.depth)
            if len(rows) > 1:
                times = [m.results[name].seconds for m in rows]
                axes.plot([m.depth for m in rows], times, label=label, linestyle=kind, **_STYLES[name])
    axes.set(yscale="log", xlabel="depth (layers of weights)", ylabel="time of one gradient (s)")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.set_title(f"width {deepest}; paths grow by the width with each layer", fontsize=9)


def _parameters(axes: Any, report: Report) -> None:
    """Draw time against parameters: differences lie on a line of slope 1 where an evaluation costs the same."""
    for name in report.columns():
        rows = sorted(report.of(name, depth=2), key=lambda m: m.parameters)
        if len(rows) > 1:
            times = [m.results[name].seconds for m in rows]
            axes.plot([m.parameters for m in rows], times, label=report.title(name), **_STYLES[name])
    axes.set(xscale="log", yscale="log", xlabel="number of parameters", ylabel="time of one gradient (s)")
    axes.set_title("depth 2, growing width", fontsize=9)


def _steps(axes: Any, report: Report) -> None:
    """Draw the V of differences: rounding to the left, what is cut off of the series to the right."""
    steps = [h for h, _ in report.steps]
    for i, (label, name) in enumerate((("forward differences", "recursion"), ("central differences", "central"))):
        axes.plot(steps, [errors[i] for _, errors in report.steps], label=label, **_STYLES[name])
    first = report.steps[0][1]
    grey = {"color": "0.45", "linewidth": 1.0}
    left = [h for h in steps if h <= 1e-5]
    axes.plot(left, [_EPS / h for h in left], linestyle=":", label="eps / h: rounding", **grey)
    right = [h for h in steps if h >= 1e-8]
    axes.plot(right, [first[0] * h / steps[0] for h in right], linestyle="--", label="~ h: series cut off", **grey)
    right = [h for h in steps if h >= 1e-5]
    axes.plot(right, [first[1] * (h / steps[0]) ** 2 for h in right], linestyle="-.", label="~ h$^2$", **grey)
    axes.set(xscale="log", yscale="log", xlabel="step h", ylabel="largest relative error")
    axes.set_title("error of differences", fontsize=9)
