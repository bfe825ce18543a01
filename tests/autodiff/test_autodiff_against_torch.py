"""PyTorch as an oracle for `distbp.autodiff`: values and gradients, in the precision of float64."""

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from scipy import linalg, signal, special, stats

from distbp import autodiff
from distbp.autodiff import grad, hessian_vector_product, jacobian, value_and_grad

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'distbp[oracle]'")
T, L, F, S, D = torch, torch.linalg, torch.fft, torch.special, torch.distributions

rng = np.random.default_rng(5)
X, Y, Z = rng.standard_normal((3, 4)), rng.standard_normal((3, 4)), rng.standard_normal((4, 5))
V, W = rng.standard_normal(4), rng.standard_normal(5)
P, Q = np.exp(X), np.exp(Y)
U = rng.uniform(-0.9, 0.9, (3, 4))
A = rng.standard_normal((2, 3, 3)) + 3 * np.eye(3)
TALL, B = rng.standard_normal((2, 4, 3)), rng.standard_normal((2, 3, 2))
TIES = np.array([[1.0, 2.0, 2.0], [0.0, 0.0, -1.0]])
MASK = X > 0.3
ROWS = np.array([0, 2, 2, 0])
COUNTS, SIMPLEX = rng.integers(0, 6, (3, 4)), np.array([0.1, 0.2, 0.3, 0.4])


def both(name, ours, theirs, *args):
    return pytest.param(ours, theirs, args, id=name)


def named(*names, args):
    """Functions of the same name in both."""
    return [both(name, getattr(np, name), getattr(T, name), *args) for name in names]


CASES = [
    *named(
        "negative",
        "positive",
        "abs",
        "square",
        "exp",
        "exp2",
        "expm1",
        "sin",
        "cos",
        "tan",
        "sinh",
        "cosh",
        "tanh",
        "arctan",
        "arcsinh",
        "deg2rad",
        "rad2deg",
        "sinc",
        "sign",
        "floor",
        "ceil",
        "trunc",
        "nan_to_num",
        "ravel",
        "fliplr",
        "flipud",
        "tril",
        "triu",
        "diag",
        "trace",
        "conj",
        args=(X,),
    ),
    *named("sqrt", "reciprocal", "log", "log2", "log10", "log1p", args=(P,)),
    *named("arcsin", "arccos", "arctanh", args=(U,)),
    both("arccosh", np.arccosh, T.arccosh, 1 + P),
    *named(
        "add",
        "subtract",
        "multiply",
        "divide",
        "maximum",
        "minimum",
        "fmax",
        "fmin",
        "hypot",
        "logaddexp",
        "arctan2",
        "logaddexp2",
        "copysign",
        "remainder",
        "fmod",
        args=(X, Y),
    ),
    both("power", np.power, T.pow, P, Y),
    both("float_power", np.float_power, T.float_power, P, Y),
    both("x**3", lambda x: x**3, lambda x: x**3, X),
    both("2**x", lambda x: 2**x, lambda x: 2**x, X),
    both("ties of maximum", lambda x: np.maximum(x, 2.0), lambda x: T.maximum(x, T.tensor(2.0)), TIES),
    both("ties of minimum", lambda x: np.minimum(x, 0.0), lambda x: T.minimum(x, T.tensor(0.0).double()), TIES),
    both("ties of max", lambda x: np.max(x, 1), lambda x: T.amax(x, 1), TIES),
    both("ties of min", lambda x: np.min(x), lambda x: T.amin(x, (0, 1)), TIES),
    both(
        "ties of norm inf",
        lambda x: np.linalg.norm(x, np.inf, axis=1),
        lambda x: L.vector_norm(x, float("inf"), dim=1),
        TIES,
    ),
    both("clip", lambda x: np.clip(x, -0.5, 0.5), lambda x: T.clip(x, -0.5, 0.5), X),
    both("clip at its bounds", lambda x: np.clip(x, 0.0, 2.0), lambda x: T.clip(x, 0.0, 2.0), TIES),
    both("clip by arrays", lambda x, y: np.clip(x, y, y + 1), lambda x, y: T.clip(x, y, y + 1), X, Y),
    both("where", lambda x, y: np.where(MASK, x, y), lambda x, y: T.where(T.tensor(MASK), x, y), X, Y),
    both("abs at 0", np.abs, T.abs, TIES),
    # special functions
    *[
        both(f"special.{n}", getattr(special, n), getattr(S, n), X)
        for n in "expit erf erfc erfcx ndtr log_ndtr i0 i0e i1 i1e".split()
    ],
    *[both(f"special.{n}", getattr(special, n), getattr(S, n), P) for n in "gammaln psi entr".split()],
    *[both(f"special.{n}", getattr(special, n), getattr(S, n), P, Q) for n in "xlogy xlog1py".split()],
    both("special.erfinv", special.erfinv, S.erfinv, U),
    both("special.logit", special.logit, S.logit, (U + 1) / 2),
    both("special.ndtri", special.ndtri, S.ndtri, (U + 1) / 2),
    both("special.log_expit", special.log_expit, T.nn.functional.logsigmoid, X),
    both("special.gammainc", lambda x: special.gammainc(1.5, x), lambda x: S.gammainc(T.tensor(1.5).double(), x), P),
    both("special.gammaincc", lambda x: special.gammaincc(1.5, x), lambda x: S.gammaincc(T.tensor(1.5).double(), x), P),
    both("logsumexp", lambda x: autodiff.logsumexp(x, 1), lambda x: T.logsumexp(x, 1), X),
    both("softmax", lambda x: autodiff.softmax(x, 0), lambda x: T.softmax(x, 0), X),
    both("log_softmax", lambda x: autodiff.log_softmax(x, 1), lambda x: T.log_softmax(x, 1), X),
    both("logaddexp.reduce", lambda x: np.logaddexp.reduce(x, 1), lambda x: T.logsumexp(x, 1), X),
    # reductions
    *[
        both(
            f"{n} over {a}, {k}",
            lambda x, n=n, a=a, k=k: getattr(np, n)(x, axis=a, keepdims=k),
            lambda x, t=t, a=a, k=k: getattr(T, t)(x, dim=a, keepdim=k),
            TALL,
        )
        for n, t in (("sum", "sum"), ("mean", "mean"), ("max", "amax"), ("min", "amin"))
        for a in (0, -1, (0, 2))
        for k in (True, False)
    ],
    both("prod", lambda x: np.prod(x, 1), lambda x: T.prod(x, 1), X),
    both("prod with zeros", lambda x: np.prod(x, 1), lambda x: T.prod(x, 1), TIES),
    both("cumprod with zeros", lambda x: np.cumprod(x, 1), lambda x: T.cumprod(x, 1), TIES),
    *[
        both(n, lambda x, n=n: getattr(np, n)(x, 0), lambda x, n=n: getattr(T, n)(x, 0), X)
        for n in ("cumsum", "cumprod")
    ],
    *[
        both(
            f"{n}, ddof {c}",
            lambda x, n=n, c=c: getattr(np, n)(x, axis=(0, 2), ddof=c, keepdims=True),
            lambda x, n=n, c=c: getattr(T, n)(x, dim=(0, 2), correction=c, keepdim=True),
            TALL,
        )
        for n in ("var", "std")
        for c in (0, 1)
    ],
    both("median of 3", lambda x: np.median(x, 0), lambda x: T.median(x, 0).values, X),
    both("quantile", lambda x: np.quantile(x, 0.3, axis=1), lambda x: T.quantile(x, 0.3, dim=1), X),
    both(
        "quantiles",
        lambda x: np.quantile(x, [0.2, 0.7], axis=0, keepdims=True),
        lambda x: T.quantile(x, T.tensor([0.2, 0.7], dtype=T.float64), dim=0, keepdim=True),
        X,
    ),
    both(
        "nansum",
        lambda x: np.nansum(np.where(MASK, np.nan, x), 1),
        lambda x: T.nansum(T.where(T.tensor(MASK), np.nan, x), 1),
        X,
    ),
    both(
        "nanmean",
        lambda x: np.nanmean(np.where(MASK, np.nan, x), 1),
        lambda x: T.nanmean(T.where(T.tensor(MASK), np.nan, x), 1),
        X,
    ),
    both("cov", np.cov, T.cov, X),
    both("corrcoef", np.corrcoef, T.corrcoef, X),
    both("trapezoid", lambda y, x: np.trapezoid(y, x), lambda y, x: T.trapezoid(y, x), X, V),
    both("diff", lambda x: np.diff(x, 2, axis=1), lambda x: T.diff(x, 2, dim=1), X),
    both("gradient", lambda x: np.gradient(x, 0.5), lambda x: T.gradient(x, spacing=0.5), X),
    # products
    both("matmul", np.matmul, T.matmul, X, Z),
    both("matmul, broadcast", np.matmul, T.matmul, A, B[:, None]),
    both("x @ vector", np.matmul, T.matmul, X, V),
    both("vector @ x", np.matmul, T.matmul, V, Z),
    both("inner", np.inner, T.inner, X, Y),
    both("outer", np.outer, T.outer, V, W),
    both("kron", np.kron, T.kron, X, Z),
    both(
        "tensordot",
        lambda x, y: np.tensordot(x, y, ([0, 2], [0, 1])),
        lambda x, y: T.tensordot(x, y, ([0, 2], [0, 1])),
        A,
        B,
    ),
    both("vecdot", np.vecdot, L.vecdot, X, Y),
    both("cross", np.cross, L.cross, A[0], A[1]),
    *[
        both(f"einsum {s}", lambda *x, s=s: np.einsum(s, *x), lambda *x, s=s: T.einsum(s, *x), *args)
        for s, *args in (
            ("ij,jk->ik", X, Z),
            ("ij,jk", X, Z),
            ("bii->b", A),
            ("bii->bi", A),
            ("ij->", X),
            ("...ij,...jk->...ik", A, B),
            ("ij,ij->i", X, Y),
            ("ij,jk,k->i", X, Z, W),
            ("bij,bkj,bkl->bil", A, A, B),
            ("ij,kl->", X, Z),
            ("i,j,k->ijk", V, V, W),
        )
    ],
    # linear algebra
    *[both(f"linalg.{n}", getattr(np.linalg, n), getattr(L, n), A) for n in ("inv", "det", "pinv", "svdvals")],
    both("linalg.slogdet", np.linalg.slogdet, L.slogdet, A),
    both("linalg.solve", np.linalg.solve, L.solve, A, B),
    both("linalg.solve, a vector", np.linalg.solve, L.solve, A[0], V[:3]),
    both("linalg.cholesky", lambda a: np.linalg.cholesky(a @ a.mT), lambda a: L.cholesky(a @ a.mT), A),
    both("linalg.eigvalsh", lambda a: np.linalg.eigvalsh(a + a.mT), lambda a: L.eigvalsh(a + a.mT), A),
    both("linalg.eigh", lambda a: np.linalg.eigh(a + a.mT)[1] ** 2, lambda a: L.eigh(a + a.mT)[1] ** 2, A),
    both(
        "linalg.svd",
        lambda a: [x**2 for x in np.linalg.svd(a, full_matrices=False)],
        lambda a: [x**2 for x in L.svd(a, full_matrices=False)],
        TALL,
    ),
    both(
        "linalg.svd of wide ones",
        lambda a: [x**2 for x in np.linalg.svd(a.mT, full_matrices=False)],
        lambda a: [x**2 for x in L.svd(a.mT, full_matrices=False)],
        TALL,
    ),
    both("linalg.pinv of tall ones", np.linalg.pinv, L.pinv, TALL),
    both("linalg.matrix_power", lambda a: np.linalg.matrix_power(a, -3), lambda a: L.matrix_power(a, -3), A),
    both("linalg.multi_dot", lambda *a: np.linalg.multi_dot(a), lambda *a: L.multi_dot(a), X, Z, W),
    *[
        both(
            f"vector norm {o}",
            lambda x, o=o: np.linalg.norm(x, o, axis=1, keepdims=True),
            lambda x, o=o: L.vector_norm(x, o, dim=1, keepdim=True),
            X,
        )
        for o in (2, 1, 3, 2.5, np.inf, -np.inf)
    ],
    *[
        both(
            f"matrix norm {o}",
            lambda x, o=o: np.linalg.norm(x, o, axis=(1, 2)),
            lambda x, o=o: L.matrix_norm(x, o),
            TALL,
        )
        for o in ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf)
    ],
    both(
        "norm of nothing but zeros",
        lambda x: np.linalg.norm(x, axis=1),
        lambda x: L.vector_norm(x, 2, dim=1),
        np.zeros((2, 3)),
    ),
    both("linalg.cond", np.linalg.cond, L.cond, A),
    # shapes and places
    both("reshape", lambda x: np.reshape(x, (2, -1)), lambda x: T.reshape(x, (2, -1)), X),
    both("transpose", lambda x: np.transpose(x, (2, 0, 1)), lambda x: T.permute(x, (2, 0, 1)), A),
    both("moveaxis", lambda x: np.moveaxis(x, 0, 2), lambda x: T.moveaxis(x, 0, 2), A),
    both("broadcast_to", lambda x: np.broadcast_to(x, (2, 3, 4)), lambda x: T.broadcast_to(x, (2, 3, 4)), X),
    both("concatenate", lambda x, y: np.concatenate([x, y], 1), lambda x, y: T.cat([x, y], 1), X, Y),
    both("stack", lambda x, y: np.stack([x, y], -1), lambda x, y: T.stack([x, y], -1), X, Y),
    both("repeat", lambda x: np.repeat(x, 2, 1), lambda x: T.repeat_interleave(x, 2, 1), X),
    both("tile", lambda x: np.tile(x, (2, 1, 2)), lambda x: T.tile(x, (2, 1, 2)), X),
    both("roll", lambda x: np.roll(x, (1, -2), (0, 1)), lambda x: T.roll(x, (1, -2), (0, 1)), X),
    both("rot90", lambda x: np.rot90(x, 3), lambda x: T.rot90(x, 3), X),
    both("split", lambda x: np.split(x, [1, 3], 1), lambda x: T.tensor_split(x, [1, 3], 1), X),
    both("pad", lambda x: np.pad(x, ((0, 0), (1, 2))), lambda x: T.nn.functional.pad(x, (1, 2)), X),
    *[
        both(
            f"pad, {mode}",
            lambda x, m=ours: np.pad(x, ((0, 0), (2, 1)), m),
            lambda x, m=mode: T.nn.functional.pad(x, (2, 1), m),
            X,
        )
        for mode, ours in (("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap"))
    ],
    both("sort", lambda x: np.sort(x, 0), lambda x: T.sort(x, 0).values, X),
    both("take", lambda x: np.take(x, ROWS, 0), lambda x: T.index_select(x, 0, T.tensor(ROWS)), X),
    both(
        "take_along_axis",
        lambda x: np.take_along_axis(x, np.argsort(X, 1), 1),
        lambda x: T.take_along_dim(x, T.tensor(np.argsort(X, 1)), 1),
        X,
    ),
    both("bincount", lambda v: np.bincount(ROWS, v), lambda v: T.zeros(3).double().index_add(0, T.tensor(ROWS), v), V),
    both("sliding_window_view", lambda x: sliding_window_view(x, 3, 1), lambda x: x.unfold(1, 3, 1), X),
    *[
        both(f"x[{i}]", lambda x, at=at: x[at], lambda x, at=at: x[at], A)
        for i, at in enumerate(
            (
                0,
                (slice(None), 1),
                (Ellipsis, -1),
                (slice(None), [0, 0, 2]),
                ([0, 1, 1], [2, 0, 0]),
                (None, Ellipsis, slice(1, None)),
                ([[0], [1]], [[1, 1]]),
                ([0, 1, 1], slice(None), [0, 2, 2]),
            )
        )
    ],
    both("x[mask]", lambda x: x[MASK], lambda x: x[T.tensor(MASK)], X),
    # Fourier transforms
    *[
        both(
            f"fft.{n}, n={k}, {norm}",
            lambda x, n=n, k=k, norm=norm: split(getattr(np.fft, n)(x, k, 1, norm)),
            lambda x, n=n, k=k, norm=norm: split(getattr(F, n)(x, k, 1, norm)),
            Z,
        )
        for n in ("fft", "ifft", "rfft", "ihfft")
        for k in (None, 4, 7)
        for norm in (None, "ortho", "forward")
    ],
    *[
        both(
            f"fft.{n} of complex numbers, n={k}, {norm}",
            lambda x, y, n=n, k=k, norm=norm: split(getattr(np.fft, n)(x + 1j * y, k, 1, norm)),
            lambda x, y, n=n, k=k, norm=norm: split(getattr(F, n)(x + 1j * y, k, 1, norm)),
            X,
            Y,
        )
        for n in ("irfft", "hfft", "ifft")
        for k in (None, 5, 8)
        for norm in (None, "ortho", "forward")
    ],
    *[
        both(f"fft.{n}", lambda x, n=n: split(getattr(np.fft, n)(x)), lambda x, n=n: split(getattr(F, n)(x)), TALL)
        for n in ("fft2", "ifft2", "rfft2", "fftn", "rfftn")
    ],
    both(
        "fft.irfft2",
        lambda x: np.fft.irfft2(np.fft.rfft2(x) ** 2, (4, 3)),
        lambda x: F.irfft2(F.rfft2(x) ** 2, (4, 3)),
        TALL,
    ),
    both("|fft|", lambda x: np.abs(np.fft.fft(x)), lambda x: T.abs(F.fft(x)), Z),
    both("fft.fftshift", np.fft.fftshift, F.fftshift, X),
    both("exp(ix)", lambda x: split(np.exp(1j * x) ** 2), lambda x: split(T.exp(1j * x) ** 2), X),
]


def split(z):
    return [z.real, z.imag] if z.dtype in (np.complex128, T.complex128) else z


CASES_OF_SCIPY = [
    both("stats.norm", stats.norm.logpdf, lambda x, m, s: D.Normal(m, s).log_prob(x), X, V, P),
    both("stats.t", lambda x, df, m, s: stats.t.logpdf(x, df, m, s),
         lambda x, df, m, s: D.StudentT(df, m, s).log_prob(x), X, P + 1, V, Q),
    both("stats.beta", stats.beta.logpdf, lambda x, a, b: D.Beta(a, b).log_prob(x), (U + 1) / 2, P, Q),
    both("stats.gamma", lambda x, a, r: stats.gamma.logpdf(x, a, scale=1 / r),
         lambda x, a, r: D.Gamma(a, r).log_prob(x), P, Q, P),
    both("stats.chi2", stats.chi2.logpdf, lambda x, k: D.Chi2(k).log_prob(x), P, Q),
    both("stats.expon", lambda x, r: stats.expon.logpdf(x, scale=1 / r),
         lambda x, r: D.Exponential(r).log_prob(x), P, Q),
    both("stats.laplace", stats.laplace.logpdf, lambda x, m, s: D.Laplace(m, s).log_prob(x), X, V, P),
    both("stats.lognorm", lambda x, m, s: stats.lognorm.logpdf(x, s, scale=np.exp(m)),
         lambda x, m, s: D.LogNormal(m, s).log_prob(x), P, X, Q),
    both("stats.cauchy", stats.cauchy.logpdf, lambda x, m, s: D.Cauchy(m, s).log_prob(x), X, V, P),
    both("stats.halfnorm", lambda x, s: stats.halfnorm.logpdf(x, 0, s), lambda x, s: D.HalfNormal(s).log_prob(x), P, Q),
    both("stats.weibull_min", lambda x, c, s: stats.weibull_min.logpdf(x, c, 0, s),
         lambda x, c, s: D.Weibull(s, c).log_prob(x), P, Q, P),
    both("stats.invgamma", lambda x, a, b: stats.invgamma.logpdf(x, a, scale=b),
         lambda x, a, b: D.InverseGamma(a, b).log_prob(x), P, Q, P),
    both("stats.poisson", lambda m: stats.poisson.logpmf(COUNTS, m),
         lambda m: D.Poisson(m).log_prob(T.tensor(1.0 * COUNTS)), P),
    both("stats.binom", lambda p: stats.binom.logpmf(COUNTS, 7, p),
         lambda p: D.Binomial(7, p).log_prob(T.tensor(1.0 * COUNTS)), (U + 1) / 2),
    both("stats.bernoulli", lambda p: stats.bernoulli.logpmf(MASK.astype(int), p),
         lambda p: D.Bernoulli(p).log_prob(T.tensor(MASK.astype(float))), (U + 1) / 2),
    both("stats.geom", lambda p: stats.geom.logpmf(COUNTS + 1, p),
         lambda p: D.Geometric(p).log_prob(T.tensor(1.0 * COUNTS)), (U + 1) / 2),
    both("stats.nbinom", lambda p: stats.nbinom.logpmf(COUNTS, 2.5, p),
         lambda p: D.NegativeBinomial(2.5, 1 - p).log_prob(T.tensor(1.0 * COUNTS)), (U + 1) / 2),
    both("stats.norm.cdf", stats.norm.cdf, lambda x, m, s: D.Normal(m, s).cdf(x), X, V, P),
    both("stats.cauchy.cdf", stats.cauchy.cdf, lambda x, m, s: D.Cauchy(m, s).cdf(x), X, V, P),
    both("stats.laplace.cdf", stats.laplace.cdf, lambda x, m, s: D.Laplace(m, s).cdf(x), X, V, P),
    both("stats.norm.ppf", stats.norm.ppf, lambda q, m, s: D.Normal(m, s).icdf(q), (U + 1) / 2, V, P),
    both("stats.multivariate_normal", lambda x, m, a: stats.multivariate_normal.logpdf(x, m, a @ a.T + np.eye(4)),
         lambda x, m, a: D.MultivariateNormal(m, a @ a.T + T.eye(4)).log_prob(x), X, V, X.T @ Y),
    both("stats.dirichlet", lambda a: stats.dirichlet.logpdf(SIMPLEX, a),
         lambda a: D.Dirichlet(a).log_prob(T.tensor(SIMPLEX)), P[0]),
    both("special.logsumexp", lambda x: special.logsumexp(x, axis=1), lambda x: T.logsumexp(x, 1), X),
    both("special.softmax", lambda x: special.softmax(x, axis=0), lambda x: T.softmax(x, 0), X),
    both("special.polygamma", lambda x: special.polygamma(2, x), lambda x: S.polygamma(2, x), P),
    both("special.multigammaln", lambda x: special.multigammaln(x, 3), lambda x: S.multigammaln(x, 3), P + 1),
    both("linalg.solve_triangular", lambda a, b: linalg.solve_triangular(a, b, lower=True),
         lambda a, b: L.solve_triangular(a.tril(), b, upper=False), A[0], B[0]),
    both("linalg.cholesky", lambda a: linalg.cholesky(a @ a.T, lower=True), lambda a: L.cholesky(a @ a.T), A[0]),
    both("linalg.cho_solve", lambda a, b: linalg.cho_solve(linalg.cho_factor(a @ a.T), b),
         lambda a, b: T.cholesky_solve(b, L.cholesky(a @ a.T)), A[0], B[0]),
    both("linalg.expm", linalg.expm, T.matrix_exp, A[0] / 3),
    both("linalg.block_diag", linalg.block_diag, lambda *a: T.block_diag(*a), A[0], B[0]),
    both("linalg.solve", linalg.solve, L.solve, A[0], B[0]),
    both("linalg.inv", linalg.inv, L.inv, A[0]),
    both("signal.convolve", lambda a, v: signal.convolve(a, v, "valid"),
         lambda a, v: T.nn.functional.conv1d(a[None, None], v.flip(0)[None, None])[0, 0], W, V[:3]),
    both("signal.correlate2d", lambda a, b: signal.correlate2d(a, b, "valid"),
         lambda a, b: T.nn.functional.conv2d(a[None, None], b[None, None])[0, 0], Z, B[0][:2]),
]  # fmt: skip


def leaves(x):
    return list(x) if isinstance(x, (tuple, list)) else [x]


def loss(value, exp):
    """A number that depends on every element in another way."""
    total = 0.0
    for k, part in enumerate(leaves(value)):
        total = total + exp(0.3 * (part - k)).sum() + (part * part).sum()
    return total


@pytest.mark.parametrize("ours, theirs, args", CASES + CASES_OF_SCIPY)
def test_values_and_gradients(ours, theirs, args):
    tensors = [T.tensor(x, requires_grad=True) for x in args]
    expected = theirs(*tensors)
    for a, b in zip(leaves(ours(*args)), leaves(expected), strict=True):
        np.testing.assert_allclose(a, b.detach().resolve_neg().numpy(), rtol=1e-9, atol=1e-11)
    total = loss(expected, T.exp)
    slopes = T.autograd.grad(total, tensors, allow_unused=True)
    value, grads = value_and_grad(lambda *x: loss(ours(*x), np.exp), tuple(range(len(args))))(*args)
    np.testing.assert_allclose(value, total.item(), rtol=1e-10)
    for g, slope, x in zip(grads, slopes, args, strict=True):
        slope = np.zeros_like(x) if slope is None else slope.numpy()
        np.testing.assert_allclose(g, slope, rtol=1e-8, atol=1e-9)


# --- derivatives of derivatives ------------------------------------------------------------------------------


def network(np_like, W1, b1, W2, x):
    return (np_like.tanh(x @ W1 + b1) @ W2).sum()


def test_hessian_vector_products():
    parameters = (Z, W, rng.standard_normal((5, 2)))
    direction = [rng.standard_normal(p.shape) for p in parameters]
    for k in range(3):
        ours = hessian_vector_product(lambda *p: network(np, *p, X) ** 2, k)(*parameters, direction[k])
        theirs = T.autograd.functional.hvp(
            lambda p, k=k: (
                network(T, *(p if i == k else T.tensor(q) for i, q in enumerate(parameters)), T.tensor(X)) ** 2
            ),
            T.tensor(parameters[k]),
            T.tensor(direction[k]),
        )[1]
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-10)


def test_jacobians_and_hessians():
    ours = jacobian(lambda x: np.exp(x) @ np.sin(Z))(X)
    theirs = T.autograd.functional.jacobian(lambda x: T.exp(x) @ T.sin(T.tensor(Z)), T.tensor(X))
    assert ours.shape == (3, 5, 3, 4)
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-12)
    ours = jacobian(grad(lambda v: np.sum(np.exp(v)) * np.prod(v) + np.linalg.norm(v)))(V)
    theirs = T.autograd.functional.hessian(lambda v: T.sum(T.exp(v)) * T.prod(v) + L.norm(v), T.tensor(V))
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-10)
