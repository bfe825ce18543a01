"""PyTorch as an oracle: the same weights, batches and settings give the same parameters."""

import math

import numpy as np
import pytest
from conftest import prepared
from flat import flat_trainer

from distbp import (
    ACTIVATIONS,
    BinaryCrossEntropy,
    Huber,
    Model,
    Network,
    Schedule,
    SoftmaxCrossEntropy,
    SquaredError,
)
from distbp.optim.rules import make_optimizer

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'distbp[oracle]'")
nn = torch.nn

STEPS, BATCH, ROWS = 100, 16, 59  # the last batch of an epoch is a short one

TORCH_ACTIVATIONS = {
    "identity": nn.Identity,
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.01),
    "elu": nn.ELU,
    "gelu": lambda: nn.GELU(approximate="tanh"),
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
}
LOSSES = {
    "squared-error": (SquaredError(), lambda z, y: 0.5 * nn.functional.mse_loss(z, y, reduction="sum") / len(z)),
    "huber": (Huber(0.7), lambda z, y: nn.functional.huber_loss(z, y, reduction="sum", delta=0.7) / len(z)),
    "binary-cross-entropy": (
        BinaryCrossEntropy(),
        lambda z, y: nn.functional.binary_cross_entropy_with_logits(z, y, reduction="sum") / len(z),
    ),
    "softmax": (SoftmaxCrossEntropy(), nn.functional.cross_entropy),
    "smoothed-softmax": (
        SoftmaxCrossEntropy(0.1),
        lambda z, y: nn.functional.cross_entropy(z, y, label_smoothing=0.1),
    ),
}
OPTIMIZERS = {
    "sgd": (0.1, lambda groups, lr: torch.optim.SGD(groups, lr)),
    "momentum": (0.05, lambda groups, lr: torch.optim.SGD(groups, lr, momentum=0.9)),
    "nesterov": (0.05, lambda groups, lr: torch.optim.SGD(groups, lr, momentum=0.9, nesterov=True)),
    "rmsprop": (1e-3, lambda groups, lr: torch.optim.RMSprop(groups, lr, alpha=0.99, eps=1e-8)),
    "adam": (5e-3, lambda groups, lr: torch.optim.Adam(groups, lr)),
    "adamw": (5e-3, lambda groups, lr: torch.optim.AdamW(groups, lr)),
}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def rows_for(loss):
    rng = np.random.default_rng(8)
    X = rng.standard_normal((ROWS, 4))
    score = X @ rng.standard_normal((4, 3)) + 0.3 * rng.standard_normal((ROWS, 3))
    if "softmax" in loss:
        return prepared(X, score.argmax(axis=1))
    return prepared(X, (score > 0).astype(np.float64) if loss == "binary-cross-entropy" else np.tanh(score))


def as_torch(network):
    """The same network, with the same parameters, in PyTorch."""
    modules = []
    for i, layer in enumerate(network.layers):
        linear = nn.Linear(layer.fan_in, layer.fan_out, dtype=getattr(torch, network.dtype.name))
        with torch.no_grad():
            linear.weight.copy_(torch.tensor(layer.W.T.copy()))
            linear.bias.copy_(torch.tensor(layer.b))
        modules += [linear, TORCH_ACTIVATIONS[network.activation.name]()] if i < len(network.layers) - 1 else [linear]
    return nn.Sequential(*modules)


def flat(model):
    """Its parameters in the order of distbp."""
    linears = [module for module in model if isinstance(module, nn.Linear)]
    return np.concatenate([p.detach().numpy().ravel() for linear in linears for p in (linear.weight, linear.bias)])


def clip(model, limit):
    """PyTorch's clip, without the 1e-6 that it adds to the norm; returns whether it was in effect."""
    norm = nn.utils.clip_grad_norm_(model.parameters(), math.inf).item()
    nn.utils.clip_grad_norm_(model.parameters(), limit * (norm + 1e-6) / norm)
    return norm > limit


def train_both(activation, loss, optimizer, *, weight_decay=0.0, clip_norm=None, schedule=None):
    """Parameters of distbp and of PyTorch after the same steps, and how many of these were clipped."""
    mine, theirs = LOSSES[loss]
    rate, build = OPTIMIZERS[optimizer]
    data = rows_for(loss)
    network = Network([4, 8, 6, 3], activation, dtype=np.float64, seed=1)
    initial = network.theta.copy()
    model = as_torch(network)
    trainer = flat_trainer(
        network, mine, make_optimizer(optimizer, rate, weight_decay=weight_decay), data, batch_size=BATCH,
        clip_norm=clip_norm, schedule=schedule,
    )  # fmt: skip
    weights = [p for name, p in model.named_parameters() if name.endswith("weight")]
    biases = [p for name, p in model.named_parameters() if name.endswith("bias")]
    groups = [{"params": weights, "weight_decay": weight_decay}, {"params": biases, "weight_decay": 0.0}]
    torch_optimizer = build(groups, rate)
    clipped = 0
    for step in range(STEPS):
        X, y, _ = data.take(trainer.sampler.batch(step).rows())
        if schedule is not None:
            for group in torch_optimizer.param_groups:
                group["lr"] = rate * schedule(step)
        torch_optimizer.zero_grad()
        theirs(model(torch.tensor(X)), torch.tensor(y)).backward()
        if clip_norm is not None:
            clipped += clip(model, clip_norm)
        torch_optimizer.step()
    trainer.fit(steps=STEPS)
    assert np.abs(network.theta - initial).max() > 0.05  # something was learnt
    return network.theta, flat(model), clipped


def assert_equal(mine, theirs):
    np.testing.assert_allclose(mine, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_with_every_loss(activation, loss):
    mine, theirs, _ = train_both(activation, loss, "momentum")
    assert_equal(mine, theirs)


@pytest.mark.parametrize("clip_norm", [None, 0.5])
@pytest.mark.parametrize("weight_decay", [0.0, 0.03])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_with_decay_and_clipping(optimizer, weight_decay, clip_norm):
    mine, theirs, clipped = train_both(
        "tanh", "smoothed-softmax", optimizer, weight_decay=weight_decay, clip_norm=clip_norm
    )
    assert 0 < clipped < STEPS if clip_norm else not clipped
    assert_equal(mine, theirs)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_with_a_rate_that_changes(optimizer):
    schedule = Schedule("cosine", warmup=7, total=STEPS, floor=0.1)
    mine, theirs, _ = train_both("gelu", "huber", optimizer, weight_decay=0.01, schedule=schedule)
    assert_equal(mine, theirs)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_value_and_derivative_at_each_point_also_at_a_kink(activation):
    # not further out: 1 + tanh(-5), in both formulas of gelu, has few digits left
    g, z = ACTIVATIONS[activation], np.linspace(-3, 3, 97)[:, None]
    assert z[48] == 0.0
    a, delta = np.empty_like(z), np.ones_like(z)
    g.value(kept := z.copy(), a)
    g.times_derivative(delta, kept if g.from_z else a)
    x = torch.tensor(z, requires_grad=True)
    theirs = TORCH_ACTIVATIONS[activation]()(x)
    theirs.sum().backward()
    np.testing.assert_allclose(a, theirs.detach().numpy(), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(delta, x.grad.numpy(), rtol=1e-12, atol=1e-15)


def test_plateau_decays_at_the_same_evaluations():
    parameter = nn.Parameter(torch.zeros(1))
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        torch.optim.SGD([parameter], 1.0), factor=0.5, patience=2, threshold=0.0
    )
    mine = Schedule("plateau", decay=0.5, patience=2)
    for loss in np.random.default_rng(0).uniform(size=60) + np.linspace(1, 0, 60):
        mine.observe(float(loss))
        theirs.step(float(loss))
        assert mine(0) == theirs.get_last_lr()[0]
    assert mine(0) < 0.1


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_pytorch_reads_the_model_file(activation, loss, tmp_path):
    from safetensors.torch import load_file

    data = rows_for(loss)
    network = Network([4, 8, 6, 3], activation, seed=3)
    network.theta[:] += 0.1 * np.random.default_rng(0).standard_normal(network.n_parameters)
    Model(network, LOSSES[loss][0], data.target, data.preprocessor).save(tmp_path / "model.safetensors")
    model = as_torch(Network([4, 8, 6, 3], activation, seed=99))
    model.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=True)
    assert np.array_equal(flat(model), network.theta)
    X = np.random.default_rng(1).standard_normal((50, 4), np.float32)
    z = network.predict(X)
    with torch.no_grad():
        theirs = model(torch.tensor(X)).numpy()
    np.testing.assert_allclose(theirs, z, rtol=0, atol=8 * np.finfo(np.float32).eps * np.abs(z).max())
