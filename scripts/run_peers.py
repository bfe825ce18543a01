"""What others do from a file to a model on disk, as their own documentation has it; `benchmark_runs.py` times them.

    python run_peers.py NAME TRAIN VALIDATION TARGET KIND GOAL MODEL

TRAIN and VALIDATION are .npz (X of bytes, y), .csv or .parquet; KIND is classes or values. Each trains until its
accuracy on the validation rows is at least GOAL, or its RMSE at most, writes MODEL, and prints the figure. The networks
of PyTorch and JAX are what one would write: two hidden layers of 256, relu, Adam at 0.001, batches of 256; they look at
the validation rows after each epoch, or 500 steps where an epoch is longer. scikit-learn's and LightGBM's are their
defaults, looked at after each epoch and each tree. pytabkit's RealMLP-TD-S cannot be stopped: it trains to its end.
"""

import json
import os
import sys
import warnings

import numpy as np

warnings.filterwarnings("ignore")
HIDDEN, RATE, BATCH, LOOK_EVERY, MOST_EPOCHS, MOST_TREES = 256, 1e-3, 256, 500, 200, 5000


def read(path):
    """Return a frame of columns, or an array of inputs in [0, 1], and the target beside it."""
    if path.endswith(".npz"):
        with np.load(path) as rows:
            X, y = rows["X"], rows["y"]
        return X.reshape(len(X), -1).astype(np.float32) / np.float32(X.max()), y
    import pandas

    table = pandas.read_csv(path, engine="pyarrow") if path.endswith(".csv") else pandas.read_parquet(path)
    return table.drop(columns=TARGET), table[TARGET].to_numpy()


def prepared(as_numbers):
    """Return inputs and targets of both parts: `as_numbers` scaled and one-hot, else categories of their own kind."""
    (X, y), (Z, t) = read(TRAIN), read(VALIDATION)
    if not isinstance(X, np.ndarray):
        import pandas

        texts = [name for name in X if not pandas.api.types.is_numeric_dtype(X[name])]
        gone = [name for name in texts if X[name].nunique() > 1000]
        X, Z, texts = X.drop(columns=gone), Z.drop(columns=gone), [name for name in texts if name not in gone]
        for name in texts:
            kind = pandas.CategoricalDtype(sorted(X[name].dropna().unique()))
            X[name], Z[name] = X[name].astype(kind), Z[name].astype(kind)
        numbers = [name for name in X if name not in texts]
        if as_numbers:
            middle, mean, spread = X[numbers].median(), X[numbers].mean(), X[numbers].std().replace(0, 1)
            for part in (X, Z):
                part[numbers] = (part[numbers].fillna(middle) - mean) / spread
            X, Z = (pandas.get_dummies(part).to_numpy(np.float32) for part in (X, Z))
    if KIND == "classes":
        names, y = np.unique(y, return_inverse=True)
        return X, y, Z, np.searchsorted(names, t), len(names)
    return X, y.astype(np.float32), Z, t.astype(np.float32), 1


def figure(predicted, t):
    """Return accuracy, or RMSE."""
    if KIND == "classes":
        return float((predicted == t).mean())
    return float(((np.ravel(predicted) - t) ** 2).mean() ** 0.5)


def reached(found):
    """Return whether it is as good as was asked for."""
    return found >= GOAL if KIND == "classes" else found <= GOAL


def rows_of(n, batch):
    """Give the rows of batches, permuted in each epoch, and after each whether it is time to look."""
    rng, step = np.random.default_rng(0), 0
    for _ in range(MOST_EPOCHS):
        order = rng.permutation(n)
        for lo in range(0, n - batch + 1, batch):
            step += 1
            yield order[lo : lo + batch], step % LOOK_EVERY == 0 or lo + 2 * batch > n


def torch_loop(processes=1):
    """PyTorch, both cores in one process, or a core each in two by DistributedDataParallel."""
    import torch

    torch.manual_seed(0)
    rank = int(os.environ.get("RANK", 0))
    torch.set_num_threads(2 // processes)
    if processes > 1:
        torch.distributed.init_process_group("gloo")
    X, y, Z, t, n_outputs = prepared(True)
    scale, shift = (1.0, 0.0) if KIND == "classes" else (float(y.std()), float(y.mean()))
    X, y, Z = (
        torch.from_numpy(X),
        torch.from_numpy(y if KIND == "classes" else (y - shift) / scale),
        torch.from_numpy(Z),
    )
    nn = torch.nn
    model = nn.Sequential(
        nn.Linear(X.shape[1], HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, n_outputs)
    )
    loss = nn.functional.cross_entropy if KIND == "classes" else lambda z, y: nn.functional.mse_loss(z[:, 0], y)
    net = nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True) if processes > 1 else model
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
    share = BATCH // processes
    for rows, looks in rows_of(len(X), BATCH):
        rows = torch.from_numpy(rows[rank * share : (rank + 1) * share])
        optimizer.zero_grad(set_to_none=True)
        loss(net(X[rows]), y[rows]).backward()
        optimizer.step()
        if looks:
            with torch.no_grad():
                z = model(Z).numpy()
            found = figure(z.argmax(1) if KIND == "classes" else z * scale + shift, t)
            if reached(found):
                break
    if rank == 0:
        torch.save(model.state_dict(), MODEL)
        print(json.dumps(found), flush=True)
    os._exit(0)


def jax_loop():
    """JAX, a compiled step, optax's Adam."""
    import jax
    import jax.numpy as jnp
    import optax

    X, y, Z, t, n_outputs = prepared(True)
    scale, shift = (1.0, 0.0) if KIND == "classes" else (float(y.std()), float(y.mean()))
    sizes, rng = [X.shape[1], HIDDEN, HIDDEN, n_outputs], np.random.default_rng(0)
    theta = [
        (jnp.asarray(rng.standard_normal((m, k)) * np.sqrt(2 / m), jnp.float32), jnp.zeros(k, jnp.float32))
        for m, k in zip(sizes, sizes[1:], strict=False)
    ]
    optimizer = optax.adam(RATE)

    def forward(theta, X):
        for W, b in theta[:-1]:
            X = jax.nn.relu(X @ W + b)
        return X @ theta[-1][0] + theta[-1][1]

    def loss(theta, X, y):
        z = forward(theta, X)
        if KIND == "classes":
            return optax.softmax_cross_entropy_with_integer_labels(z, y).mean()
        return ((z[:, 0] - y) ** 2).mean()

    def step(theta, state, X, y, rows):
        updates, state = optimizer.update(jax.grad(loss)(theta, X[rows], y[rows]), state, theta)
        return optax.apply_updates(theta, updates), state

    step, forward = jax.jit(step, donate_argnums=(0, 1)), jax.jit(forward)
    X, y, Z = jnp.asarray(X), jnp.asarray(y if KIND == "classes" else (y - shift) / scale), jnp.asarray(Z)
    state = optimizer.init(theta)
    for rows, looks in rows_of(len(X), BATCH):
        theta, state = step(theta, state, X, y, rows)
        if looks:
            z = np.asarray(forward(theta, Z))
            found = figure(z.argmax(1) if KIND == "classes" else z * scale + shift, t)
            if reached(found):
                break
    np.savez(MODEL, *[np.asarray(part) for layer in theta for part in layer])
    print(json.dumps(found))
    sys.stdout.flush()
    os._exit(0)


def sklearn_mlp():
    """scikit-learn's multilayer perceptron, as it is, epoch by epoch."""
    import joblib
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    X, y, Z, t, n_classes = prepared(True)
    scale, shift = (1.0, 0.0) if KIND == "classes" else (float(y.std()), float(y.mean()))
    model = (MLPClassifier if KIND == "classes" else MLPRegressor)(random_state=0)
    for epoch in range(MOST_EPOCHS):
        if KIND == "classes":
            model.partial_fit(X, y, **({} if epoch else {"classes": np.arange(n_classes)}))
        else:
            model.partial_fit(X, (y - shift) / scale)
        z = model.predict(Z)
        if reached(found := figure(z if KIND == "classes" else z * scale + shift, t)):
            break
    joblib.dump(model, MODEL)
    print(json.dumps(found))


def lightgbm():
    """LightGBM, as it is, tree by tree."""
    from lightgbm import LGBMClassifier, LGBMRegressor
    from lightgbm.callback import EarlyStopException

    X, y, Z, t, _ = prepared(False)

    def metric(truth, z):
        if KIND != "classes":
            return "figure", figure(z, truth), False
        return "figure", figure(z.argmax(1) if z.ndim > 1 else z > 0.5, truth), True

    def look(env):
        if reached(env.evaluation_result_list[0][2]):
            raise EarlyStopException(env.iteration, env.evaluation_result_list)

    model = (LGBMClassifier if KIND == "classes" else LGBMRegressor)(
        n_estimators=MOST_TREES, metric="None", random_state=0, verbose=-1
    )
    model.fit(X, y, eval_set=[(Z, t)], eval_metric=metric, callbacks=[look])
    model.booster_.save_model(MODEL)
    print(json.dumps(figure(model.predict(Z), t)))


def realmlp():
    """RealMLP-TD-S of pytabkit, as it is."""
    import joblib
    from pytabkit import RealMLP_TD_S_Classifier, RealMLP_TD_S_Regressor

    X, y, Z, t, _ = prepared(False)
    texts = [] if isinstance(X, np.ndarray) else [name for name in X if X[name].dtype.name == "category"]
    if not isinstance(X, np.ndarray):
        numbers = [name for name in X if name not in texts]
        middle = X[numbers].median()
        X[numbers], Z[numbers] = X[numbers].fillna(middle), Z[numbers].fillna(middle)
    kind = RealMLP_TD_S_Classifier if KIND == "classes" else RealMLP_TD_S_Regressor
    model = kind(device="cpu", random_state=0, n_threads=2).fit(X, y, cat_col_names=texts)
    joblib.dump(model, MODEL)
    print(json.dumps(figure(model.predict(Z), t)))


NAMES = {
    "PyTorch": torch_loop, "DDP": lambda: torch_loop(2), "JAX": jax_loop, "scikit-learn MLP": sklearn_mlp,
    "LightGBM": lightgbm, "RealMLP-TD-S": realmlp,
}  # fmt: skip
if __name__ == "__main__":
    _, NAME, TRAIN, VALIDATION, TARGET, KIND, GOAL, MODEL = sys.argv
    GOAL = float(GOAL)
    NAMES[NAME]()
