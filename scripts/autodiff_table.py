"""What `distbp.autodiff` knows of NumPy's functions, and of scipy.special's: writes docs/autodiff-functions.md.

    .venv/bin/python scripts/autodiff_table.py            writes it
    .venv/bin/python scripts/autodiff_table.py --check    is it up to date? exits with 1 if not

Other versions of NumPy and SciPy than the page names have other functions: with these, --check has nothing to say.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import scipy.special
from numpy._core.overrides import ARRAY_FUNCTIONS

from distbp.autodiff.special import load_special
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
PLACES = ("first", "second", "third")
OTHER = {"datetime_as_string"}
"""Not about numbers."""
INTRODUCTION = """# The functions of NumPy that can be differentiated

`scripts/autodiff_table.py` writes this page from the tables of `distbp.autodiff`, with {versions}.
A test holds that every ufunc and every function that NumPy hands over is in one of the lists. A function that is in
none, of NumPy or of another library, says so when it is called with a traced array.

- **Differentiable**: to any order, in every form of the arguments that is not refused by name.
- **Piecewise constant, or about shapes and types**: called on the plain values; the derivative is 0.
- **Not supported**: refused, with what to do instead.

`x[...]`, the operators, the methods of arrays, and the ufunc methods `outer`, `np.add.reduce`, `np.multiply.reduce`,
`np.maximum.reduce`, `np.minimum.reduce`, `np.logaddexp.reduce`, `np.hypot.reduce`, `np.add.accumulate` and
`np.multiply.accumulate` are differentiable, too. `np.array`, `np.zeros` and other functions that make arrays see no
traced ones: `np.stack([...])` makes an array of traced numbers. `autodiff.logsumexp`, `autodiff.softmax` and
`autodiff.log_softmax` take the places of those of `scipy.special`, which are no ufuncs.
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


def special_ufunc(name):
    """The ufunc of that name; `zeta` is a function around one."""
    return None if name.startswith("_") else getattr(scipy.special._ufuncs, f"_{name}", getattr(scipy.special, name))


def page():
    load_special()
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
    whole, by_some = [], []
    for name in dir(scipy.special):
        rules = RULES.get(special_ufunc(name))
        if rules is not None:
            known = [PLACES[k] for k, rule in enumerate(rules) if rule is not None]
            (whole if len(known) == len(rules) else by_some).append((name, " and ".join(known)))
    lines.append(f"## scipy.special\n\n**Differentiable**: {listed(name for name, _ in whole)}\n")
    lines.append(f"**By one argument**: {', '.join(f'`{name}` by the {which}' for name, which in by_some)}\n")
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
