"""A transformer that learns to write, character by character (Vaswani et al. 2017, a decoder), in plain NumPy.

    python examples/transformer.py characters.npz        # Python's own documentation of its syntax, in pieces
    mpirun -n 2 python -m distbp.train --data characters.npz --task regression --preprocessing none \
        --no-scale-target --model examples.transformer:model --loss examples.transformer:loss \
        --batch-size 32 --epochs 3 --lr 0.003 --warmup 100 --schedule cosine --clip-norm 1

from the folder above this one. A row is a piece of `LENGTH` characters, the target the same piece one further on; the
loss is in nats a character, from log(vocabulary) = 4.6 on.
"""

import math
import pydoc_data.topics
import sys

import numpy as np

ALPHABET = "\n" + "".join(map(chr, range(32, 127)))
LENGTH, STRIDE, WIDTH, HEADS, LAYERS = 64, 20, 64, 4, 2


def pieces():
    """Inputs and targets (rows, LENGTH), numbers of characters."""
    text = "".join(pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics))
    numbers = np.array([ALPHABET.index(c) for c in text if c in ALPHABET], np.uint8)
    starts = np.arange(0, len(numbers) - LENGTH - 1, STRIDE)
    windows = numbers[starts[:, None] + np.arange(LENGTH + 1)]
    return windows[:, :-1], windows[:, 1:]


def init(rng):
    """Embeddings of characters and places, and of each layer the matrices of attention and of the network after it."""

    def weights(*shape):
        return rng.standard_normal(shape) / math.sqrt(shape[0])

    return {
        "characters": 0.3 * rng.standard_normal((len(ALPHABET), WIDTH)),
        "places": 0.3 * rng.standard_normal((LENGTH, WIDTH)),
        "layers": [
            {
                "query, key, value": weights(WIDTH, 3 * WIDTH),
                "together": weights(WIDTH, WIDTH) / math.sqrt(2 * LAYERS),
                "up": weights(WIDTH, 4 * WIDTH),
                "bias": np.zeros(4 * WIDTH),
                "down": weights(4 * WIDTH, WIDTH) / math.sqrt(2 * LAYERS),
                "scale": np.ones((2, WIDTH)),
            }
            for _ in range(LAYERS)
        ],
        "last scale": np.ones(WIDTH),
        "last": weights(WIDTH, len(ALPHABET)),
    }


def normalised(x, scale):
    """Each vector at the length that it is meant to have (Zhang & Sennrich 2019)."""
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + 1e-5) * scale


def attention(x, layer):
    """Every character looks back at those before it."""
    n, t, width = x.shape
    qkv = (x @ layer["query, key, value"]).reshape(n, t, 3, HEADS, width // HEADS)
    q, k, v = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
    score = np.einsum("nqhw,nkhw->nhqk", q, k) / math.sqrt(width // HEADS)
    score = np.where(np.tri(t, dtype=bool), score, -np.inf)
    weight = np.exp(score - np.max(score, axis=-1, keepdims=True))
    weight = weight / np.sum(weight, axis=-1, keepdims=True)
    return np.einsum("nhqk,nkhw->nqhw", weight, v).reshape(n, t, width) @ layer["together"]


def predict(parameters, X):
    """Logits of the next character (n, length, characters)."""
    characters = X.astype(int)
    x = parameters["characters"][characters] + parameters["places"][: X.shape[1]]
    for layer in parameters["layers"]:
        x = x + attention(normalised(x, layer["scale"][0]), layer)
        hidden = normalised(x, layer["scale"][1]) @ layer["up"] + layer["bias"]
        x = x + np.maximum(hidden, 0.0) @ layer["down"]
    return normalised(x, parameters["last scale"]) @ parameters["last"]


def loss(z, y):
    """Mean over a row of -log p(next character)."""
    n, t, _ = z.shape
    z = z - np.max(z, axis=-1, keepdims=True)
    right = z[np.arange(n)[:, None], np.arange(t), y.astype(int)]
    return np.mean(np.log(np.sum(np.exp(z), axis=-1)) - right, axis=1)


model = init, predict

if __name__ == "__main__":
    inputs, targets = pieces()
    np.savez_compressed(sys.argv[1], X=inputs, y=targets)
    print(f"{sys.argv[1]}: {len(inputs):,} pieces of {LENGTH} characters")
