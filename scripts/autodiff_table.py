"""What `distbp.autodiff` knows of the functions of NumPy and SciPy: writes docs/autodiff-functions.md.

    .venv/bin/python scripts/autodiff_table.py            writes it
    .venv/bin/python scripts/autodiff_table.py --check    is it up to date? exits with 1 if not

Other versions of NumPy and SciPy than the page names have other functions: with these, --check has nothing to say.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import scipy.integrate
import scipy.linalg
import scipy.signal
import scipy.special
import scipy.stats
from numpy._core.overrides import ARRAY_FUNCTIONS

from distbp.autodiff.scipy import FRONTS, load_scipy
from distbp.autodiff.scipy.stats import CONTINUOUS, DISCRETE
from distbp.autodiff.tables import COMPOSITIONS, CONSTANT, RULES, UNSUPPORTED

PAGE = Path(__file__).resolve().parents[1] / "docs" / "autodiff-functions.md"
SPACES = {
    "np": np,
    "np.linalg": np.linalg,
    "np.fft": np.fft,
    "np.lib.stride_tricks": np.lib.stride_tricks,
    "np.emath": np.emath,
}
MAKERS = {
    "arange", "array", "asanyarray", "asarray", "ascontiguousarray", "asfortranarray", "empty", "eye", "frombuffer",
    "fromfile", "fromfunction", "fromiter", "fromstring", "full", "genfromtxt", "identity", "loadtxt", "ones",
    "require", "tri", "zeros",
}  # fmt: skip
"""They see a traced array as ``like=`` only: what they make depends on numbers of Python, or on files."""
PLACES = ("first", "second", "third", "fourth")
SCIPY = {
    "scipy.special": scipy.special,
    "scipy.stats": scipy.stats,
    "scipy.linalg": scipy.linalg,
    "scipy.signal": scipy.signal,
    "scipy.integrate": scipy.integrate,
}
METHODS = ("logpdf", "pdf", "logpmf", "pmf", "cdf", "logcdf", "sf", "logsf", "ppf", "isf", "entropy")
REFUSED = {"solve_ivp"}
"""They have a front that says what to take."""
OTHER = {"datetime_as_string"}
"""Not about numbers."""
INTRODUCTION = """# The functions of NumPy and SciPy that can be differentiated

`scripts/autodiff_table.py` writes this page from the tables of `distbp.autodiff`, with {versions}.
A test holds that every ufunc and every function that NumPy hands over is in one of the lists. A function that is in
none, of NumPy or of another library, says so when it is called with a traced array.

- **Differentiable**: to any order, in every form of the arguments that is not refused by name.
- **Piecewise constant, or about shapes and types**: called on the plain values; the derivative is 0.
- **Not supported**: refused, with what to do instead.

`x[...]`, the operators, the methods of arrays, and the ufunc methods `outer`, `np.add.reduce`, `np.multiply.reduce`,
`np.maximum.reduce`, `np.minimum.reduce`, `np.logaddexp.reduce`, `np.hypot.reduce`, `np.add.accumulate` and
`np.multiply.accumulate` are differentiable, too. `np.array`, `np.zeros` and other functions that make arrays see no
traced ones: `autodiff.array([...])` makes an array of traced numbers, `autodiff.r_` and `autodiff.c_` join them.
Functions of SciPy are differentiated as they were imported; `scipy.ndimage`, `scipy.optimize`, `scipy.sparse` and
others that are not below have no rules, and say so.
"""


def public():
    """Every ufunc and every function that NumPy hands over, by namespace: {name: function}."""
    found = {}
    for space, module in SPACES.items():
        names = {n: getattr(module, n) for n in dir(module) if not n.startswith("_")}
        found[space] = {
            n: f for n, f in names.items() if isinstance(f, np.ufunc) or (callable(f) and f in ARRAY_FUNCTIONS)
        }
    return found


def kind(function):
    """differentiable, constant, unsupported, or None."""
    if function in COMPOSITIONS or function in RULES:
        return "differentiable"
    return "constant" if function in CONSTANT else "unsupported" if function in UNSUPPORTED else None


def versions():
    numpy, scipy_ = (".".join(module.__version__.split(".")[:2]) for module in (np, scipy))
    return f"NumPy {numpy} and SciPy {scipy_}"


def listed(names):
    return ", ".join(f"`{name}`" for name in sorted(names, key=lambda name: (name.lower(), name)))


def of_scipy(space, module):
    """The lines of a module of SciPy: all that it has, by what is known of it."""
    whole, by_some, constant, unknown = [], [], [], []
    for name in sorted(n for n in module.__all__ if not n.startswith("_")):
        thing = getattr(module, name)
        around = getattr(getattr(module, "_ufuncs", None), f"_{name}", None)  # zeta is a function around a ufunc
        function = thing if around is None or thing in FRONTS else around
        methods = [m for m in METHODS if getattr(type(thing), m, None) in FRONTS and is_known(thing)]
        methods = [m for m in methods if name not in DISCRETE or m not in ("ppf", "isf")]
        if methods:
            whole.append(f"`{name}` ({', '.join(methods)})")
        elif isinstance(RULES.get(function), tuple):
            known = [PLACES[k] for k, rule in enumerate(RULES[function]) if rule is not None]
            of = [k for k in range(len(RULES[function]))] if isinstance(function, np.ufunc) else known
            (whole if len(known) == len(of) else by_some).append(
                f"`{name}`" if len(known) == len(of) else f"`{name}` by the {' and '.join(known)}"
            )
        elif function in FRONTS:
            (unknown if name in REFUSED else whole).append(f"`{name}`")
        elif function in CONSTANT:
            constant.append(f"`{name}`")
        elif callable(thing) and not isinstance(thing, type):
            unknown.append(f"`{name}`")
    lines = [f"## {space}\n"]
    for title, those in (
        ("Differentiable", whole),
        ("By some arguments", by_some),
        ("Piecewise constant", constant),
        ("No rule is known, and a call with a traced array says so", unknown),
    ):
        if those:
            lines.append(f"**{title}**: {', '.join(those)}\n")
    return lines


def is_known(thing):
    """Whether it is a distribution with derivatives."""
    name = getattr(thing, "name", None)
    return (
        name in CONTINUOUS or name in DISCRETE or type(thing).__name__ in ("multivariate_normal_gen", "dirichlet_gen")
    )


def page():
    load_scipy()
    lines = [INTRODUCTION.format(versions=versions())]
    for space, functions in public().items():
        of = {k: [n for n, f in functions.items() if kind(f) == k] for k in ("differentiable", "constant")}
        refused = {n: UNSUPPORTED[f] for n, f in functions.items() if kind(f) == "unsupported" and n not in MAKERS}
        lines.append(f"## {space}\n")
        if of["differentiable"]:
            lines.append(f"**Differentiable**: {listed(of['differentiable'])}\n")
        if of["constant"]:
            lines.append(f"**Piecewise constant, or about shapes and types**: {listed(of['constant'])}\n")
        if refused:
            lines.append("**Not supported**\n\n| | instead |\n|---|---|")
            for message in sorted(set(refused.values()), key=lambda m: min(n for n, of in refused.items() if of == m)):
                lines.append(f"| {listed(n for n, of in refused.items() if of == message)} | {message} |")
            lines.append("")
    for name, module in SCIPY.items():
        lines += of_scipy(name, module)
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare only")
    if not parser.parse_args().check:
        PAGE.write_text(page())
    elif not PAGE.exists() or (versions() in PAGE.read_text() and PAGE.read_text() != page()):
        sys.exit(f"{PAGE.name} is not up to date: run scripts/autodiff_table.py")


if __name__ == "__main__":
    main()
