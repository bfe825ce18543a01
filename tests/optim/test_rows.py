"""Updates of some rows of a table, beside those of PyTorch and of the whole."""

import numpy as np
import pytest

from distbp.optim.compiled import _UPDATES
from distbp.optim.optimizer import Optimizer
from distbp.optim.rules import OPTIMIZERS, SGD, Adam, make_optimizer

WIDTH, VALUES = 8, 12


def steps(n=6, seed=0, dtype=np.float64):
    """Yield rows and their gradients; each batch has others."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        values = np.sort(rng.permutation(VALUES)[: rng.integers(1, 6)])
        yield values, rng.standard_normal((len(values), WIDTH)).astype(dtype)


def run(optimizer, dtype=np.float64, norm=None):
    table = np.random.default_rng(1).standard_normal((VALUES, WIDTH)).astype(dtype)
    optimizer.assign_tables([table], np.zeros_like)
    for values, gradient in steps(dtype=dtype):
        optimizer.step(np.zeros(1, dtype), np.zeros(1, dtype), norm)
        optimizer.step_rows([(0, values, gradient.copy())], norm)
    return table


@pytest.mark.parametrize(
    ("ours", "rule", "more"),
    [(Adam(0.01, epsilon=1e-30), "SparseAdam", {"eps": 1e-30}), (SGD(0.01), "SGD", {})],
    ids=["SparseAdam", "SGD"],
)
def test_pytorch_updates_the_same_rows(ours, rule, more):
    """SparseAdam adds epsilon before the bias is corrected, Kingma & Ba's algorithm 1 after it: here it is nothing."""
    torch = pytest.importorskip("torch")
    table = np.random.default_rng(1).standard_normal((VALUES, WIDTH))
    embedding = torch.nn.Embedding.from_pretrained(torch.from_numpy(table.copy()), freeze=False, sparse=True)
    theirs = getattr(torch.optim, rule)(list(embedding.parameters()), lr=0.01, **more)
    for values, gradient in steps():
        theirs.zero_grad()
        (embedding(torch.from_numpy(values)) * torch.from_numpy(gradient)).sum().backward()
        theirs.step()
    assert np.allclose(run(ours), embedding.weight.detach().numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name not in ("lars", "lamb")])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_a_row_that_every_batch_has_goes_the_way_of_any_parameter(name, decay):
    rng = np.random.default_rng(3)
    theta, gradients = rng.standard_normal(WIDTH), rng.standard_normal((5, WIDTH))
    whole, rows = (make_optimizer(name, 0.01, weight_decay=decay, clip_norm=1.0) for _ in range(2))
    table, flat = theta[None].copy(), theta.copy()
    rows.assign_tables([table], np.zeros_like)
    for g in gradients:
        norm = float(np.linalg.norm(g))
        whole.step(flat, g.copy(), norm)
        rows.step(np.zeros(1), np.zeros(1), norm)
        rows.step_rows([(0, np.zeros(1, np.intp), g[None].copy())], norm)
    assert np.array_equal(table[0], flat)


@pytest.mark.parametrize(("name", "plain"), [("lars", "momentum"), ("lamb", "adam")])
def test_rates_by_layer_take_the_plain_step_for_rows(name, plain):
    assert np.array_equal(run(make_optimizer(name, 0.01)), run(make_optimizer(plain, 0.01)))


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_compiled_has_the_same_bits(name, dtype, monkeypatch):
    """The loops as plain Python; LARS and LAMB have none of their own."""
    wanted = run(make_optimizer(name, 0.01), dtype)
    monkeypatch.setattr("distbp.optim.optimizer.compiled_update", lambda name, dtype: _UPDATES.get(name))
    monkeypatch.setattr(Optimizer, "compile_after", 0)
    assert np.array_equal(run(make_optimizer(name, 0.01), dtype), wanted)


def test_blocks_of_rows_are_one_update(monkeypatch):
    wanted = run(make_optimizer("adam", 0.01))
    monkeypatch.setattr("distbp.optim.optimizer._BLOCK_OF_ROWS", 2 * WIDTH)
    assert np.array_equal(run(make_optimizer("adam", 0.01)), wanted)
