"""A Network as an ONNX graph, and the refusal of any graph that could do more than compute.

The graph takes flat encoded observations (n, d) and gives head parameters (n, k): view and frozen normalisation are baked in,
so `policy.onnx` stands alone. Called by bundle.py. Standard operators, opset 17; the same network gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from rlaas_ray.errors import Tampered
from rlaas_ray.policies.network import Layer, Network
from rlaas_ray.policies.view import ViewProgram
from rlaas_ray.specs.arrays import Array

INPUT, OUTPUT = "observations", "distribution"
_OPSET, _IR_VERSION = 17, 8  # IR 8 is opset 17's own: older runtimes read the file
_STANDARD_DOMAINS = {"", "ai.onnx"}
_MAX_NODES = 10_000


def build(network: Network) -> bytes:
    """The model's bytes."""
    graph = _Graph()
    x = INPUT
    if network.view is not None:
        x = graph.view(network.view)
    if network.normaliser is not None:
        x = graph.node("Sub", x, graph.constant("normaliser.mean", network.normaliser.mean))
        x = graph.node("Div", x, graph.constant("normaliser.std", network.normaliser.std))
        clip = np.float32(network.normaliser.clip)
        x = graph.node("Clip", x, graph.constant("clip.low", -clip), graph.constant("clip.high", clip))
    for i, layer in enumerate(network.layers):
        x = graph.layer(i, layer, x=x)
    blocks = graph.blocks(x, network=network)
    if len(blocks) == 1:
        graph.nodes.append(helper.make_node("Identity", blocks, [OUTPUT]))
    else:
        graph.nodes.append(helper.make_node("Concat", blocks, [OUTPUT], axis=1))
    return graph.model(inputs=network.inputs, outputs=network.outputs)


def check(data: bytes, *, network: Network) -> None:
    """Refuses a model that is not plain computation from (n, d) to (n, k): Tampered names what it holds."""
    try:
        model = onnx.load_model_from_string(data)
    except (DecodeError, ValueError) as error:
        raise _refused("policy.onnx is not an ONNX model", given=str(error)) from None
    foreign = sorted({o.domain for o in model.opset_import} - _STANDARD_DOMAINS)
    if foreign or model.functions:
        raise _refused("policy.onnx uses operators outside the standard", given=foreign or "own functions")
    graphs = list(_graphs(model.graph))
    if sum(len(graph.node) for graph in graphs) > _MAX_NODES:
        raise _refused("policy.onnx is over its limit", given="too many nodes")
    for graph in graphs:
        for tensor in _tensors(graph):
            if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
                raise _refused("policy.onnx keeps data outside the bundle", given=tensor.name)
        for node in graph.node:
            if node.domain not in _STANDARD_DOMAINS:
                raise _refused("policy.onnx uses operators outside the standard", given=f"{node.domain}:{node.op_type}")
    _check_ends(model.graph, network=network)


@dataclass(slots=True, kw_only=True)
class _Graph:
    """Nodes and initializers while a graph is being written; each method gives the name of its result."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def constant(self, name: str, value: Array | np.generic) -> str:
        self.constants[name] = numpy_helper.from_array(np.asarray(value), name=name)
        return name

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind.lower()}.{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def view(self, view: ViewProgram) -> str:
        wide = INPUT
        if view.matrix.shape[1]:
            derived = self.node("MatMul", INPUT, self.constant("view.matrix", view.matrix))
            derived = self.node("Add", derived, self.constant("view.offset", view.offset))
            wide = self.node("Concat", INPUT, derived, axis=1)
        units = self.node("Gather", wide, self.constant("view.index", view.index), axis=1)
        return self.node("Reshape", units, self.constant("view.shape", np.array([-1, view.size])))

    def layer(self, i: int, layer: Layer, *, x: str) -> str:
        weight, bias = (
            self.constant(f"layers.{i}.weight", layer.weight),
            self.constant(f"layers.{i}.bias", layer.bias),
        )
        x = self.node("Gemm", x, weight, bias, transB=1)
        match layer.activation:
            case "tanh":
                return self.node("Tanh", x)
            case "relu":
                return self.node("Relu", x)
            case "elu":
                return self.node("Elu", x)
            case "silu":
                return self.node("Mul", x, self.node("Sigmoid", x))
            case "linear":
                return x

    def blocks(self, x: str, *, network: Network) -> list[str]:
        """Rows of units -> rows of observations: one block for each part of the head's parameters."""
        width = int(network.layers[-1].weight.shape[0])
        if network.log_std is not None:
            mean = self._rows(x, network=network, width=width)
            log_std = self.constant("log_std", np.tile(network.log_std, network.units)[None, :])
            return [mean, self.node("Expand", log_std, self.node("Shape", mean))]
        if network.parts == 1:
            return [self._rows(x, network=network, width=width)]
        part = width // network.parts
        names = [f"part.{i}" for i in range(network.parts)]
        sizes = self.constant("part.sizes", np.full(network.parts, part, dtype=np.int64))
        self.nodes.append(helper.make_node("Split", [x, sizes], names, axis=1))
        return [self._rows(name, network=network, width=part) for name in names]

    def _rows(self, x: str, *, network: Network, width: int) -> str:
        if network.view is None:
            return x
        shape = np.array([-1, network.units * width])
        return self.node("Reshape", x, self.constant(f"rows.{width * network.units}", shape))

    def model(self, *, inputs: int, outputs: int) -> bytes:
        given, wanted = (
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size])
            for name, size in ((INPUT, inputs), (OUTPUT, outputs))
        )
        graph = helper.make_graph(self.nodes, "policy", [given], [wanted], initializer=list(self.constants.values()))
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION, producer_name="rlaas"
        )
        onnx.checker.check_model(model, full_check=True)
        data: bytes = model.SerializeToString(deterministic=True)
        return data


def _check_ends(graph: onnx.GraphProto, *, network: Network) -> None:
    constants = {tensor.name for tensor in graph.initializer}
    given = {
        "inputs": [_end(value) for value in graph.input if value.name not in constants],
        "outputs": [_end(value) for value in graph.output],
    }
    wanted = {"inputs": [(INPUT, 1, network.inputs)], "outputs": [(OUTPUT, 1, network.outputs)]}
    if given != wanted:
        raise Tampered("policy.onnx has other inputs and outputs", given=given, expected=str(wanted), cure=_CURE)


def _end(value: onnx.ValueInfoProto) -> tuple[str, int, int]:
    """Name, element type (1 is float32) and last dimension of a two-dimensional end."""
    kind = value.type.tensor_type
    dims = kind.shape.dim
    return value.name, kind.elem_type, dims[1].dim_value if len(dims) == 2 else -1


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and every graph inside an attribute of it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    yield from _graphs(inner)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)


def _refused(subject: str, *, given: Any) -> Tampered:
    return Tampered(subject, given=given, expected="standard ONNX operators with their data inside", cure=_CURE)


_CURE = "Write the bundle again with `rlaas train` or `rlaas models import` from its source."
