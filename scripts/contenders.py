"""The systems that `benchmark.py` and `benchmark_network.py` time, each in processes of its own.

    python contenders.py NAME HOST:PORT [OPTION=VALUE ...]

Each process of a contender connects to the benchmark, which sends it settings as lines of JSON
({"sizes": [784, 128, 10], "batch": 32, "optimizer": "sgd", "steps": 100}); all processes of a
contender train that many steps together, and rank 0 answers with the seconds that they took. A
contender that waits for its turn sleeps in a read and costs nothing.

All train the same networks (relu, softmax cross-entropy, float32, plain SGD or Adam) on the same rows,
which lie in memory as float32 (for PyTorch and JAX as their own tensors); the rows of each step are
gathered by a permutation, as a mini-batch is. Peers are set up as their documentation advises for
speed on CPUs; the comments name what was chosen.
"""

import json
import os
import socket
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

ROWS, INPUTS, CLASSES = 16384, 784, 10
RATE = {"sgd": 0.01, "adam": 1e-4}


def data():
    """Rows in [0, 1] and classes that a network can learn, the same for all contenders."""
    rng = np.random.default_rng(0)
    X = rng.random((ROWS, INPUTS), np.float32)
    y = (X @ rng.standard_normal((INPUTS, CLASSES)).astype(np.float32)).argmax(axis=1)
    return X, y


def memory(key="VmRSS"):
    """Resident memory of this process, now (VmRSS) or at its peak (VmHWM), bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    raise OSError("no /proc/self/status: this benchmark needs Linux")


def proportional():
    """Resident memory, a page that k processes share counted as a k-th of one."""
    text = Path("/proc/self/smaps_rollup").read_text()
    return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:"))


class Order:
    """Rows of one batch after the other, in a new permutation for each epoch."""

    def __init__(self, batch):
        self.batch, self.rng, self.left = batch, np.random.default_rng(1), np.zeros(0, np.int64)

    def __call__(self):
        if len(self.left) < self.batch:
            self.left = self.rng.permutation(ROWS)
        rows, self.left = self.left[: self.batch], self.left[self.batch :]
        return rows


class Distbp:
    """This project: the whole trainer, with status, loss and accuracy of every step.

    Options are those of `Trainer`, and `only`: "compute" leaves out the messages (each rank trains
    alone on its share of the batch), "messages" leaves out all else.
    """

    def __init__(self, options):
        import distbp
        from distbp.optim.compiled import compiled_update
        from distbp.run.blas import limited_blas

        self.distbp, self.only = distbp, options.pop("only", "")
        self.options = options
        self.comm = distbp.communicator()
        self.rank = self.comm.rank
        self._blas = limited_blas(self.comm)
        self._blas.__enter__()
        compiled_update("adam", np.dtype("f4"))  # Numba is a library like others
        self.libraries = memory()
        with tempfile.TemporaryDirectory() as folder:
            X, y = data()
            np.savez(Path(folder) / "rows.npz", X=X, y=y)
            del X, y
            loaded = distbp.load(
                str(Path(folder) / "rows.npz"), comm=self.comm, scaling="none",
                validation_fraction=0.0, test_fraction=0.0,
            )  # fmt: skip
        self.train = loaded.train

    def make(self, setting):
        d, options = self.distbp, dict(self.options)
        alone = self.only == "compute"
        optimizer = {"sgd": d.SGD, "adam": d.Adam}[setting["optimizer"]](RATE[setting["optimizer"]])
        optimizer.compile_after = 0  # as it is in a long run
        options |= setting.get("options", {})
        trainer = d.Trainer(
            d.Network(setting["sizes"]), d.SoftmaxCrossEntropy(), optimizer, self.train,
            comm=d.SerialCommunicator() if alone else self.comm, components=d.Components(log=d.Log(1000)),
            batches=setting["batch"] // (self.comm.size if alone else 1), gradient=d.Gradient(**options),
        )  # fmt: skip
        if self.only == "messages":
            return lambda steps: [self.send(trainer) for _ in range(steps)] and None
        return lambda steps: trainer.fit_until(steps=trainer.position.step + steps) and None

    def send(self, trainer):
        """What the reducer sends in a step."""
        reducer, batch = trainer.reducer, trainer.sampler.batch(0)
        for part in reducer.parts(batch):
            reducer.send(part)
        reducer.wait()

    def barrier(self):
        self.comm.barrier()


class Lines:
    """Not a trainer: cache lines that change hands. Each rank writes LINES of them and reads those of the
    other; the time of a step tells how near the two cores are to each other at the moment."""

    LINES = 4096

    def __init__(self, options):
        from mpi4py import MPI

        self.comm = MPI.COMM_WORLD
        self.rank = self.comm.rank
        size = 64 * self.LINES * self.comm.size
        self.window = MPI.Win.Allocate_shared(size if self.rank == 0 else 0, 1, comm=self.comm)
        self.memory = np.asarray(self.window.Shared_query(0)[0])[:size].view(np.float32).reshape(self.comm.size, -1)

    def make(self, setting):
        def run(steps):
            for _ in range(steps):
                self.memory[self.rank] = 1.0
                self.comm.Barrier()
                self.memory[self.rank - 1].sum()
                self.comm.Barrier()

        return run

    def barrier(self):
        self.comm.Barrier()


class Floor:
    """What no data-parallel step can do without: the products of each rank, and one pass over
    parameters and gradient (theta -= lr * grad, in blocks that stay in the cache)."""

    def __init__(self, options):
        from mpi4py import MPI
        from threadpoolctl import threadpool_limits

        self.comm = MPI.COMM_WORLD
        self.rank = self.comm.rank
        threadpool_limits(1, user_api="blas")

    def make(self, setting):
        n = setting["batch"] // self.comm.size
        pairs = list(zip(setting["sizes"], setting["sizes"][1:], strict=False))
        rng = np.random.default_rng(self.rank)

        def array(*shape):
            return rng.random(shape, np.float32) - np.float32(0.5)

        sizes = setting["sizes"]
        a, delta = [array(n, size) for size in sizes], [array(n, size) for size in sizes]
        theta = array(sum(m * k + k for m, k in pairs))
        grad = theta * 0
        ends = np.cumsum([0, *(m * k for m, k in pairs)])

        # the orders in memory in which the products are fastest, the same as distbp's
        def order(x):
            return np.asfortranarray(x) if x.shape[1] >= n or x.shape[1] == sizes[-1] else x

        a, delta = [a[0], *map(order, a[1:])], [delta[0], *map(order, delta[1:])]
        W = [theta[lo : lo + m * k].reshape(k, m).T for lo, (m, k) in zip(ends, pairs, strict=False)]
        dW = [grad[lo : lo + m * k].reshape(k, m).T for lo, (m, k) in zip(ends, pairs, strict=False)]
        scratch, block = np.empty(16384, np.float32), 16384

        def step():
            for i in range(len(W)):
                np.matmul(a[i], W[i], out=a[i + 1])
            for i in range(len(W) - 1, -1, -1):
                np.matmul(a[i].T, delta[i + 1], out=dW[i])
                if i:
                    np.matmul(delta[i + 1], W[i].T, out=delta[i])
            for lo in range(0, len(theta), block):
                g = grad[lo : lo + block]
                theta[lo : lo + block] -= np.multiply(g, 1e-9, out=scratch[: len(g)])

        def run(steps):
            for _ in range(steps):
                step()
                # keep the numbers where they were: what is timed must not overflow or become denormal
            for part in a[1:] + delta[1:-1]:
                part[...] = 0.25

        return run

    def barrier(self):
        self.comm.Barrier()


class PyTorch:
    """PyTorch in one process, or in several by DistributedDataParallel over gloo, one thread each (as torchrun has it).

    Options are `mode` (eager or compile), `threads` (in one process), and `hook`, what messages of DDP become: fp16 or
    powersgd, of rank 4, as its documentation has it.
    """

    def __init__(self, options):
        import torch
        import torch.distributed as dist

        self.torch, self.dist = torch, dist
        self.mode, self.hook = options.get("mode", "eager"), options.get("hook", "")
        self.rank, self.size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        torch.set_num_threads(options.get("threads", 1))
        torch._dynamo.config.recompile_limit = 1000  # one compilation for each setting, never a fallback
        if self.size > 1:
            dist.init_process_group("gloo")
        self.libraries = memory()
        X, y = data()
        self.X, self.y = torch.from_numpy(X), torch.from_numpy(y)

    def make(self, setting):
        torch, layers = self.torch, []
        torch.manual_seed(0)
        for m, k in zip(setting["sizes"], setting["sizes"][1:], strict=False):
            layers += [torch.nn.Linear(m, k), torch.nn.ReLU()]
        model = torch.nn.Sequential(*layers[:-1])
        if self.size > 1:
            # gradient_as_bucket_view saves a copy of the gradient; static_graph allows further shortcuts; over gloo the
            # sums of PowerSGD's buckets come in another order on each rank, and end the run: it has one
            buckets = {"bucket_cap_mb": 1024} if self.hook == "powersgd" else {}
            model = torch.nn.parallel.DistributedDataParallel(
                model, gradient_as_bucket_view=True, static_graph=True, **buckets
            )
            self.compress(model)
        # fused: one kernel for all parameters (PyTorch's documentation names it the fastest)
        kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[setting["optimizer"]]
        optimizer = kind(model.parameters(), lr=RATE[setting["optimizer"]], fused=True)
        forward = torch.compile(model, dynamic=False) if self.mode == "compile" else model
        loss = torch.nn.functional.cross_entropy
        order, n = Order(setting["batch"]), setting["batch"] // self.size

        def run(steps):
            for _ in range(steps):
                rows = torch.from_numpy(order()[self.rank * n : (self.rank + 1) * n])
                optimizer.zero_grad(set_to_none=True)
                loss(forward(self.X[rows]), self.y[rows]).backward()
                optimizer.step()

        return run

    def compress(self, model):
        """Register the hook of the messages, where there is one."""
        from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook

        if self.hook == "fp16":  # that of bf16 refuses to work without a GPU
            model.register_comm_hook(None, default_hooks.fp16_compress_hook)
        elif self.hook == "powersgd":
            state = powerSGD_hook.PowerSGDState(None, matrix_approximation_rank=4, start_powerSGD_iter=2)
            model.register_comm_hook(state, powerSGD_hook.powerSGD_hook)

    def barrier(self):
        if self.size > 1:
            self.dist.barrier()


class Jax:
    """JAX in one process with all cores: jitted steps with donated buffers, optax optimisers.

    Option `scan`: so many steps in one compiled loop, with their rows.
    """

    rank = 0

    def __init__(self, options):
        import jax
        import jax.numpy as jnp
        import optax

        self.jax, self.jnp, self.optax = jax, jnp, optax
        self.scan = options.get("scan", 1)
        X, y = data()
        self.X, self.y = jnp.asarray(X), jnp.asarray(y)

    def make(self, setting):
        jax, jnp, optax = self.jax, self.jnp, self.optax
        rng = np.random.default_rng(0)
        pairs = list(zip(setting["sizes"], setting["sizes"][1:], strict=False))
        theta = [
            (jnp.asarray(rng.standard_normal((m, k)) * np.sqrt(2 / m), jnp.float32), jnp.zeros(k, jnp.float32))
            for m, k in pairs
        ]
        optimizer = {"sgd": optax.sgd, "adam": optax.adam}[setting["optimizer"]](RATE[setting["optimizer"]])

        def loss(theta, X, y):
            for W, b in theta[:-1]:
                X = jax.nn.relu(X @ W + b)
            W, b = theta[-1]
            return optax.softmax_cross_entropy_with_integer_labels(X @ W + b, y).mean()

        def step(theta, state, X, y, rows):
            value, grad = jax.value_and_grad(loss)(theta, X[rows], y[rows])
            updates, state = optimizer.update(grad, state, theta)
            return optax.apply_updates(theta, updates), state, value

        def steps_of(theta, state, X, y, rows):
            def one(carry, rows):
                *carry, value = step(*carry, X, y, rows)
                return tuple(carry), value

            (theta, state), values = jax.lax.scan(one, (theta, state), rows)
            return theta, state, values

        k = self.scan
        jitted = jax.jit(step if k == 1 else steps_of, donate_argnums=(0, 1))
        order, held = Order(setting["batch"]), [theta, optimizer.init(theta)]

        def run(steps):
            theta, state = held
            for _ in range(max(1, steps // k)):
                rows = order() if k == 1 else np.stack([order() for _ in range(k)])
                theta, state, _ = jitted(theta, state, self.X, self.y, rows)
            held[:] = jax.block_until_ready((theta, state))
            return max(1, steps // k) * k

        return run

    def barrier(self):
        pass


class Sklearn:
    """scikit-learn's MLPClassifier, one process with all cores, its own loop over epochs."""

    rank = 0

    def __init__(self, options):
        warnings.simplefilter("ignore")
        self.X, self.y = data()

    def make(self, setting):
        from sklearn.neural_network import MLPClassifier

        def run(steps):
            epoch = min(steps, ROWS // setting["batch"])  # steps of one epoch
            rows = epoch * setting["batch"]
            MLPClassifier(
                setting["sizes"][1:-1], solver=setting["optimizer"], batch_size=setting["batch"], momentum=0.0,
                learning_rate_init=RATE[setting["optimizer"]], alpha=0.0, max_iter=steps // epoch, tol=0.0,
                n_iter_no_change=10**6,
            ).fit(self.X[:rows], self.y[:rows])  # fmt: skip
            return steps // epoch * epoch

        return run

    def barrier(self):
        pass


CONTENDERS = {"distbp": Distbp, "floor": Floor, "lines": Lines, "torch": PyTorch, "jax": Jax, "sklearn": Sklearn}


def main():
    name, address, *rest = sys.argv[1:]
    options = {key: json.loads(value) for key, value in (item.split("=", 1) for item in rest)}
    contender = CONTENDERS[name](options)
    host, port = address.split(":")
    line = socket.create_connection((host, int(port))).makefile("rw")
    print(json.dumps({"contender": name, "rank": contender.rank}), file=line, flush=True)
    made = {}
    while text := line.readline():
        setting = json.loads(text)
        key = json.dumps({k: v for k, v in setting.items() if k != "steps"})
        if key not in made:
            made[key] = contender.make(setting)
            made[key](3)
        contender.barrier()
        start = time.perf_counter()
        steps = made[key](setting["steps"])
        contender.barrier()
        seconds = time.perf_counter() - start
        steps = steps if isinstance(steps, int) else setting["steps"]
        answer = {"seconds": seconds, "steps": steps}
        if "memory" in setting:
            answer |= {"libraries": contender.libraries, "peak": memory("VmHWM"), "proportional": proportional()}
        print(json.dumps(answer), file=line, flush=True)
    if name not in ("distbp", "floor", "lines"):
        os._exit(0)  # whatever threads a library keeps; MPI wants to end by itself


if __name__ == "__main__":
    main()
