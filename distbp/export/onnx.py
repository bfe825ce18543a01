"""A model as one file of ONNX: raw columns in; classes, probabilities or values out.

Preprocessing, encodings, embeddings, calibration and the members of an ensemble are inside, so whoever runs it needs
neither Python nor this package. The file is written without a library for it: see `protobuf`.
"""

from typing import Any

import numpy as np

import distbp
from distbp.errors import UserError
from distbp.export.columns import network_inputs
from distbp.export.graph import Graph
from distbp.model import Model
from distbp.network.activations import ACTIVATIONS, GELU_C, GELU_CUBIC, LEAKY_SLOPE
from distbp.network.dense import Network
from distbp.network.losses import BinaryCrossEntropy, SoftmaxCrossEntropy
from distbp.network.mixture import Mixture


def to_onnx(model: Model) -> bytes:
    """Return a model as the content of an ONNX file.

    Its inputs are the raw columns, see `distbp.export.columns`; its outputs ``label`` (rows,) and ``probabilities``
    (rows, classes) of classes, ``probabilities`` of labels, ``values`` (rows, values) of a regression.

    Raises
    ------
    UserError
        For functions of the user's own, which are Python.
    """
    members = model.network.members if isinstance(model.network, Mixture) else [model.network]
    for network in members:
        if not isinstance(network, Network) or network.activation.name not in ACTIVATIONS:
            raise UserError("--onnx: a model, loss or activation of your own is Python; ONNX has no place for it")
    graph = Graph()
    X = network_inputs(graph, model)
    if isinstance(model.network, Mixture):
        z = _mean(graph, model, model.network, X)
    else:
        z = _outputs(graph, members[0], X)
    _predictions(graph, model, z)
    about = {"target": str(model.target), "classes": "\n".join(model.target.classes)}
    return graph.to_bytes("distbp", distbp.__version__, about)


def _outputs(graph: Graph, network: Any, X: str) -> str:
    """Return the outputs of a network (rows, n_outputs)."""
    a = X
    for k, layer in enumerate(network.layers):
        W, b = graph.constant(np.ascontiguousarray(layer.W)), graph.constant(layer.b)
        a = graph("Gemm", a, W, b)
        if k < len(network.layers) - 1:
            a = _activation(graph, network, a)
    return a


def _activation(graph: Graph, network: Any, z: str) -> str:
    def c(value: float) -> str:
        return graph.constant(value, network.dtype)

    match network.activation.name:
        case "identity":
            return z
        case "leaky_relu":
            return graph("LeakyRelu", z, alpha=LEAKY_SLOPE)
        case "silu":
            return graph("Mul", z, graph("Sigmoid", z))
        case "gelu":
            cube = graph("Mul", graph("Mul", z, graph("Mul", z, z)), c(GELU_CUBIC))
            inner = graph("Tanh", graph("Mul", graph("Add", z, cube), c(GELU_C)))
            return graph("Mul", graph("Mul", z, c(0.5)), graph("Add", inner, c(1.0)))
        case name:
            operators = {"relu": "Relu", "elu": "Elu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softplus": "Softplus"}
            return graph(operators[name], z)


def _mean(graph: Graph, model: Model, mixture: Mixture, X: str) -> str:
    """Return the outputs that the mean prediction of the members has; see `Mixture.forward`."""
    outputs = [graph("Cast", _outputs(graph, member, X), to=11) for member in mixture.members]
    least = graph.constant(float(np.finfo(mixture.dtype).tiny), np.float64)

    def mean(parts: list[str]) -> str:
        return graph("Mul", graph("Sum", *parts), graph.constant(1.0 / len(parts), np.float64))

    def log_mean(parts: list[str]) -> str:
        return graph("Log", graph("Max", mean(parts), least))

    match model.loss:
        case SoftmaxCrossEntropy():
            z = log_mean([graph("Softmax", one, axis=1) for one in outputs])
        case BinaryCrossEntropy():
            yes, no = (
                [graph("Sigmoid", s) for s in signed] for signed in (outputs, [graph("Neg", z) for z in outputs])
            )
            z = graph("Sub", log_mean(yes), log_mean(no))
        case _:
            z = mean(outputs)
    z = graph("Mul", z, graph.constant(mixture.sharpness, np.float64))
    if mixture.offset:
        z = graph("Add", z, graph.constant(mixture.offset, np.float64))
    return graph("Cast", z, to={"float32": 1, "float64": 11}[mixture.dtype.name])


def _predictions(graph: Graph, model: Model, z: str) -> None:
    """Add the outputs: what `Model.predict` and `Model.predict_proba` give."""
    target, p = model.target, model.preprocessor
    if target.kind == "values":
        values = graph("Cast", z, to=11)
        if p.target_shift:
            values = graph("Div", values, graph.constant([p.target_scale], np.float64))
            values = graph("Add", values, graph.constant([p.target_shift], np.float64))
        graph.output(values, "values", "float64", target.n_outputs)
        return
    if isinstance(model.loss, SoftmaxCrossEntropy):
        probabilities = graph("Softmax", z, axis=1)
    elif isinstance(model.loss, BinaryCrossEntropy):
        probabilities = graph("Sigmoid", z)
    else:
        probabilities = z
    if target.kind == "classes" and model.network.output_shape == (1,):
        one = graph.constant(1.0, model.network.dtype)
        probabilities = graph("Concat", graph("Sub", one, probabilities), probabilities, axis=1)
    probabilities = graph("Cast", probabilities, to=11)
    graph.output(probabilities, "probabilities", "float64", target.n_outputs)
    if target.kind == "classes":
        weighed = probabilities
        if model.network.decision is not None:
            weighed = graph("Mul", probabilities, graph.constant([np.exp(model.network.decision)], np.float64))
        best = graph("ArgMax", weighed, axis=1, keepdims=0)
        numbers = model.classes_.dtype.kind == "i"
        names = graph.constant(model.classes_ if numbers else np.array(target.classes))
        graph.output(graph("Gather", names, best), "label", "int64" if numbers else "str", None)
