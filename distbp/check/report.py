"""What `distbp.check` says: its table, the fitted growth, errors by step, product graphs; as lines of text."""

import math
from dataclasses import dataclass, field

import numpy as np

from distbp.check.errors import LIMITS, METHODS, Measurement
from distbp.check.growth import Graph, exponent, factor

COLUMNS = ("paths", "recursion", "autodiff", "central", "complex", "ranks")


@dataclass
class Report:
    """All that was found, and the lines that say it; on rank 0, the others have the first three."""

    what: str  # the options that say what was checked
    ranks: int
    remarks: list[str]  # methods that do not apply, and why
    measurements: list[Measurement] = field(default_factory=list)  # a row of the table each
    steps: list[tuple[float, list[float]]] = field(default_factory=list)  # h, errors of forward and central differences
    graphs: list[Graph] = field(default_factory=list)  # the lecture's

    def columns(self) -> list[str]:
        """Return the methods that have a column."""
        skipped = {"ranks"} if self.ranks == 1 else set()
        skipped |= {"complex"} if any(remark.startswith("complex") for remark in self.remarks) else set()
        return [name for name in COLUMNS if name not in skipped]

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
            m for m in self.measurements if name in m.results and width in (None, m.width) and depth in (None, m.depth)
        ]

    def width_of_deepest(self) -> int:
        """Return the width of the networks that go deepest."""
        return max(self.measurements, key=lambda m: m.depth).width

    def head_lines(self) -> list[str]:
        """Return the head of the table."""
        titles = "".join(f"{self.title(name):>20}" for name in self.columns())
        columns = f"{'depth':>5}{'width':>6}{'parameters':>11}{'paths':>10}{titles}"
        return [f"one gradient, {self.what}: largest relative error, and time", "", columns]

    def row(self) -> str:
        """Return the row of the table for the last measurement."""
        m = self.measurements[-1]
        found = [m.results.get(name) for name in self.columns()]
        cells = "".join(f"{f'{r.error:.0e} {seconds(r.seconds):>8}' if r else '-':>20}" for r in found)
        return f"{m.depth:>5}{m.width:>6}{_count(m.parameters):>11}{_count(m.paths):>10}{cells}"

    def model_lines(self, rows: int) -> list[str]:
        """Return what was found of a model: a line for each method."""
        m = self.measurements[-1]
        found = [(name, m.results[name]) for name in self.columns() if name in m.results]
        return [
            f"one gradient, {self.what}: {m.parameters:,} parameters, {rows} rows; C in {seconds(m.cost_seconds)}",
            "",
            f"{'':<20}{'error':>8}  {'against':<20}{'time':>10}",
            *(
                f"{self.title(k):<20}{r.error:>8.0e}  {METHODS[r.against]:<20}{seconds(r.seconds):>10}"
                for k, r in found
            ),
        ]

    def growth_lines(self) -> list[str]:
        """Return the fitted laws, one method a line."""
        factors, width, laws = [], self.width_of_deepest(), {}
        for each in sorted({m.width for m in self.measurements}):
            rows = [m for m in self.of("paths", width=each) if m.paths >= 30]
            if len(rows) > 1:
                times = [m.results["paths"].seconds for m in rows]
                factors.append(f"{factor([m.depth for m in rows], times):.1f} at width {each}")
        laws["paths"] = f"time x {', x '.join(factors)} with each layer: O(width^depth)"
        for name in ("recursion", "autodiff"):
            rows = [m for m in self.of(name, width=width) if m.depth >= 4]
            power = exponent([m.depth for m in rows], [m.results[name].seconds for m in rows])
            costs = np.median([m.evaluations(name) for m in self.measurements])
            laws[name] = (
                f"time ~ depth^{power:.2f} at width {width}: O(depth); {costs:.1f} evaluations of the cost (median)"
            )
        for name in ("central", "complex"):
            if rows := self.of(name):
                power = exponent([m.parameters for m in rows], [m.evaluations(name) for m in rows])
                costs = np.median([m.evaluations(name) / m.parameters for m in rows])
                laws[name] = f"{costs:.2f} evaluations of the cost a parameter, ~ parameters^{power:.2f}"
        return ["growth, fitted:", *(f"  {METHODS[name]:<20}{law}" for name, law in laws.items())]

    def step_lines(self) -> list[str]:
        """Return a line for each power of ten, and the best steps."""
        lines = ["error of differences by their step h, relative:", "", f"{'h':>10}{'forward':>12}{'central':>12}"]
        lines += [*(f"{h:>10.0e}{forward:>12.1e}{central:>12.1e}" for h, (forward, central) in self.steps[::2]), ""]
        for i, law in enumerate(("forward: best at {}; error ~ h + eps/h", "central: best at {}; error ~ h^2 + eps/h")):
            h, errors = min(self.steps, key=lambda step: step[1][i])
            lines.append("  " + law.format(f"h = {h:.0e}, error {errors[i]:.0e}"))
        return lines

    def product_lines(self) -> list[str]:
        """Return the table of product graphs: each node is visited once, whatever the number of paths."""
        return [
            "product graphs: autodiff visits each node once, whatever the number of paths", "",
            f"{'':<38}{'nodes':>6}{'paths':>16}{'df/dw, autodiff':>21}{'exact, n w^(n-1)':>21}",
            *(f"{g.name:<38}{g.nodes:>6}{g.paths:>16,}{g.derivative:>21.12g}{g.exact:>21.12g}" for g in self.graphs),
        ]  # fmt: skip


def seconds(t: float) -> str:
    """Format a time with three digits and a unit."""
    unit, size = ("us", 1e-6) if t < 999.5e-6 else ("ms", 1e-3) if t < 999.5e-3 else ("s", 1.0)
    digits = 2 - math.floor(math.log10(max(t / size, 1.0)))
    return f"{t / size:.{max(0, digits)}f} {unit}"


def _count(n: int) -> str:
    return f"{n:,}" if n < 10**7 else f"{float(n):.1e}".replace("e+", "e")
