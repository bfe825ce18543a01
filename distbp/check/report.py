"""What `distbp.check` says: its table, the fitted growth, errors by step, product graphs; as lines of text."""

import math
from dataclasses import dataclass, field

import numpy as np

from distbp.check.errors import LIMITS, METHODS, Measurement
from distbp.check.growth import Graph, exponent, factor

__all__ = [
    "Report", "evaluations", "growth_lines", "measurement_lines", "model_lines", "product_lines", "seconds",
    "step_lines",
]  # fmt: skip

_COLUMNS = ("paths", "recursion", "autodiff", "central", "complex", "ranks")


@dataclass
class Report:
    """All that was found; on rank 0, the others have the first three.

    Attributes
    ----------
    what : str
        The options that say what was checked.
    ranks : int
        How many there are.
    remarks : list of str
        Methods that do not apply, and why.
    measurements : list of Measurement
        A row of the table each.
    steps : list of (h, [forward, central])
        Errors of differences.
    graphs : list of Graph
        The lecture's.
    """

    what: str
    ranks: int
    remarks: list[str]
    measurements: list[Measurement] = field(default_factory=list)
    steps: list[tuple[float, list[float]]] = field(default_factory=list)
    graphs: list[Graph] = field(default_factory=list)

    def columns(self) -> list[str]:
        """Return the methods that have a column."""
        skipped = {"ranks"} if self.ranks == 1 else set()
        skipped |= {"complex"} if any(remark.startswith("complex") for remark in self.remarks) else set()
        return [name for name in _COLUMNS if name not in skipped]

    def title(self, name: str) -> str:
        """Return the name of a method, for people."""
        return f"sum over {self.ranks} ranks" if name == "ranks" else METHODS[name]

    def wrong_graphs(self) -> list[str]:
        """Return a line for each graph whose derivative is wrong."""
        return [
            f"autodiff of {graph.name} gives {graph.derivative:.17g}, and {graph.exact:.17g} is right"
            for graph in self.graphs
            if not graph.error <= LIMITS["autodiff"]
        ]

    def of(self, name: str, *, width: int | None = None, depth: int | None = None) -> list[Measurement]:
        """Return the measurements of a method at a width or a depth."""
        return [
            m
            for m in self.measurements
            if name in m.results and (width is None or m.width == width) and (depth is None or m.depth == depth)
        ]


def seconds(t: float) -> str:
    """Format a time with three digits and a unit."""
    for unit, size in (("us", 1e-6), ("ms", 1e-3), ("s", 1.0)):
        if t < 999.5 * size or unit == "s":
            return f"{t / size:.{max(0, 2 - max(0, math.floor(math.log10(max(t / size, 1.0)))))}f} {unit}"
    raise AssertionError("the last unit takes all")


def _count(n: int) -> str:
    return f"{n:,}" if n < 10**7 else f"{float(n):.1e}".replace("e+", "e")


def measurement_lines(report: Report, *, header: bool = False) -> list[str]:
    """Return the head of the table, or its row for the last measurement."""
    if header:
        titles = "".join(f"{report.title(name):>20}" for name in report.columns())
        return [
            f"one gradient, {report.what}: largest relative error, and time",
            "",
            f"{'depth':>5}{'width':>6}{'parameters':>11}{'paths':>10}{titles}",
        ]
    m = report.measurements[-1]
    cells = "".join(f"{_cell(m, name):>20}" for name in report.columns())
    return [f"{m.depth:>5}{m.width:>6}{_count(m.parameters):>11}{_count(m.paths):>10}{cells}"]


def _cell(m: Measurement, name: str) -> str:
    result = m.results.get(name)
    return "-" if result is None else f"{result.error:.0e} {seconds(result.seconds):>8}"


def model_lines(report: Report, rows: int) -> list[str]:
    """Return what was found of a model: a line for each method."""
    m = report.measurements[-1]
    lines = [
        f"one gradient, {report.what}: {m.parameters:,} parameters, {rows} rows; C in {seconds(m.cost_seconds)}",
        "",
        f"{'':<20}{'error':>8}  {'against':<20}{'time':>10}",
    ]
    for name in report.columns():
        if (r := m.results.get(name)) is not None:
            against = METHODS[r.against]
            lines.append(f"{report.title(name):<20}{r.error:>8.0e}  {against:<20}{seconds(r.seconds):>10}")
    return lines


# --- growth ------------------------------------------------------------------------------------------------------


def evaluations(m: Measurement, name: str) -> float:
    """Return the time of a method in evaluations of the cost."""
    return m.results[name].seconds / m.cost_seconds


def growth_lines(report: Report) -> list[str]:
    """Return the fitted laws, one method a line."""
    lines = ["growth, fitted:"]
    factors = []
    for width in sorted({m.width for m in report.measurements}):
        rows = [m for m in report.of("paths", width=width) if m.paths >= 30]
        if len(rows) > 1:
            times = [m.results["paths"].seconds for m in rows]
            factors.append(f"{factor([m.depth for m in rows], times):.1f} at width {width}")
    lines.append(f"  {'sum over paths':<20}time x {', x '.join(factors)} with each layer: O(width^depth)")
    width = max(report.measurements, key=lambda m: m.depth).width
    for name in ("recursion", "autodiff"):
        rows = [m for m in report.of(name, width=width) if m.depth >= 4]
        power = exponent([m.depth for m in rows], [m.results[name].seconds for m in rows])
        times = np.median([evaluations(m, name) for m in report.measurements])
        lines.append(
            f"  {METHODS[name]:<20}time ~ depth^{power:.2f} at width {width}: O(depth);"
            f" {times:.1f} evaluations of the cost (median)"
        )
    for name in ("central", "complex"):
        rows = report.of(name)
        if rows:
            power = exponent([m.parameters for m in rows], [evaluations(m, name) for m in rows])
            each = np.median([evaluations(m, name) / m.parameters for m in rows])
            lines.append(
                f"  {METHODS[name]:<20}{each:.2f} evaluations of the cost a parameter, ~ parameters^{power:.2f}"
            )
    return lines


# --- errors by step, product graphs ------------------------------------------------------------------------------


def step_lines(report: Report) -> list[str]:
    """Return a line for each power of ten, and the best steps."""
    lines = ["error of differences by their step h, relative:", "", f"{'h':>10}{'forward':>12}{'central':>12}"]
    for h, errors in report.steps[::2]:
        lines.append(f"{h:>10.0e}" + "".join(f"{error:>12.1e}" for error in errors))
    lines.append("")
    laws = ("error ~ h + eps/h", "error ~ h^2 + eps/h")
    for i, (kind, law) in enumerate(zip(("forward", "central"), laws, strict=True)):
        h, errors = min(report.steps, key=lambda step: step[1][i])
        lines.append(f"  {kind}: best at h = {h:.0e}, error {errors[i]:.0e}; {law}")
    return lines


def product_lines(report: Report) -> list[str]:
    """Return the table of product graphs: each node is visited once, whatever the number of paths."""
    lines = [
        "product graphs: autodiff visits each node once, whatever the number of paths", "",
        f"{'':<38}{'nodes':>6}{'paths':>16}{'df/dw, autodiff':>21}{'exact, n w^(n-1)':>21}",
    ]  # fmt: skip
    for g in report.graphs:
        lines.append(f"{g.name:<38}{g.nodes:>6}{g.paths:>16,}{g.derivative:>21.12g}{g.exact:>21.12g}")
    return lines
