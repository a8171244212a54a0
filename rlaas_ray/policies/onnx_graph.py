"""A Network as an ONNX graph, and the refusal of any graph that could do more than compute.

The graph takes flat encoded observations (n, d) and gives head parameters (n, k): view and frozen normalisation are baked in,
so `policy.onnx` stands alone. A memory adds a state (n, s) at both ends. Called by bundle.py. Standard operators, opset 17; the
same network gives the same bytes.
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
from rlaas_ray.policies.memory import HIDDEN, Memory
from rlaas_ray.policies.network import Layer, Network
from rlaas_ray.policies.view import ViewProgram
from rlaas_ray.specs.arrays import Array

INPUT, OUTPUT = "observations", "distribution"
STATE, STATE_OUT = "state", "state_out"
_OPSET, _IR_VERSION = 17, 8  # IR 8 is opset 17's own: older runtimes read the file
_STANDARD_DOMAINS = {"", "ai.onnx"}
_MAX_NODES = 10_000


def build(network: Network) -> bytes:
    """The model's bytes."""
    graph = _Graph()
    x = INPUT
    if network.view is not None:
        x = graph.view(network.view)
    if network.memory is None:
        x = graph.found(graph.normalised(x, network=network), network=network)
        x = graph.through(x, network=network, start=0, stop=len(network.layers))
    else:
        x = graph.remembering(x, network=network, memory=network.memory)
        x = graph.through(x, network=network, start=network.memory.after, stop=len(network.layers))
    if network.atoms is not None:
        x = graph.mean(x, atoms=network.atoms, width=network.unit_outputs)
    blocks = graph.blocks(x, network=network)
    if len(blocks) == 1:
        graph.nodes.append(helper.make_node("Identity", blocks, [OUTPUT]))
    else:
        graph.nodes.append(helper.make_node("Concat", blocks, [OUTPUT], axis=1))
    return graph.model(network)


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

    def through(self, x: str, *, network: Network, start: int, stop: int) -> str:
        for i in range(start, stop):
            x = self.layer(i, network.layers[i], x=x)
        return x

    def found(self, x: str, *, network: Network) -> str:
        """The row of the table, where there is one."""
        if network.lookup is None:
            return x
        tensors = network.lookup.tensors()
        source, edge, table = (
            self.constant(name, tensors[name]) for name in ("lookup.source", "lookup.edge", "lookup.table")
        )
        stride = self.constant("lookup.stride", tensors["lookup.stride"][:, None])
        passed = self.node("GreaterOrEqual", self.node("Gather", x, source, axis=1), edge)
        cell = self.node("MatMul", self.node("Cast", passed, to=TensorProto.FLOAT), stride)
        cell = self.node("Cast", self.node("Squeeze", cell, self.sizes(1)), to=TensorProto.INT64)
        last = self.constant("lookup.last", np.int64(len(network.lookup.table) - 1))
        return self.node("Gather", table, self.node("Min", cell, last), axis=0)

    def normalised(self, x: str, *, network: Network) -> str:
        if network.normaliser is None:
            return x
        x = self.node("Sub", x, self.constant("normaliser.mean", network.normaliser.mean))
        x = self.node("Div", x, self.constant("normaliser.std", network.normaliser.std))
        clip = np.float32(network.normaliser.clip)
        return self.node("Clip", x, self.constant("clip.low", -clip), self.constant("clip.high", clip))

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

    def remembering(self, seen: str, *, network: Network, memory: Memory) -> str:
        """What the memory gives for rows of units; their states after it become the second output."""
        size = memory.state_size(observed=network.unit_inputs)
        held = STATE if network.view is None else self.shaped(STATE, size)
        for name, array in memory.tensors().items():
            self.constant(name, array)
        if memory.kind == "attention":
            x, held = self.attention(seen, held, network=network, memory=memory)
        else:
            x = self.through(self.normalised(seen, network=network), network=network, start=0, stop=memory.after)
            x, held = self.lstm(x, held) if memory.kind == "lstm" else self.gru(x, held)
        self.nodes.append(
            helper.make_node("Reshape", [held, self.sizes(-1, network.state_size)], [STATE_OUT], name=STATE_OUT)
        )
        return x

    def lstm(self, x: str, held: str) -> tuple[str, str]:
        """The LSTMCell of torch: gates i, f, g, o."""
        h, c = self.split(held, 2)
        gates = self.node(
            "Add",
            self.node("Gemm", x, "memory.weight_ih", "memory.bias_ih", transB=1),
            self.node("Gemm", h, "memory.weight_hh", "memory.bias_hh", transB=1),
        )
        i, f, g, o = self.split(gates, 4)
        kept = self.node("Mul", self.node("Sigmoid", f), c)
        c = self.node("Add", kept, self.node("Mul", self.node("Sigmoid", i), self.node("Tanh", g)))
        h = self.node("Mul", self.node("Sigmoid", o), self.node("Tanh", c))
        return h, self.node("Concat", h, c, axis=1)

    def gru(self, x: str, held: str) -> tuple[str, str]:
        """The GRUCell of torch: gates r, z, n."""
        given = self.split(self.node("Gemm", x, "memory.weight_ih", "memory.bias_ih", transB=1), 3)
        kept = self.split(self.node("Gemm", held, "memory.weight_hh", "memory.bias_hh", transB=1), 3)
        r, z = (self.node("Sigmoid", self.node("Add", given[gate], kept[gate])) for gate in (0, 1))
        new = self.node("Tanh", self.node("Add", given[2], self.node("Mul", r, kept[2])))
        h = self.node("Add", new, self.node("Mul", z, self.node("Sub", held, new)))
        return h, h

    def attention(self, seen: str, held: str, *, network: Network, memory: Memory) -> tuple[str, str]:
        """One head over the window: the state's places and the newest observation."""
        steps, place = memory.steps, 1 + network.unit_inputs
        newest = self.node("Pad", seen, self.sizes(0, 1, 0, 0), self.constant("one", np.float32(1)))
        window = self.node("Concat", self.shaped(held, steps - 1, place), self.shaped(newest, 1, place), axis=1)
        taken = self.shaped(self.cut(window, start=0, stop=1, axis=2), steps)
        x = self.normalised(self.shaped(self.cut(window, start=1, stop=place, axis=2), place - 1), network=network)
        x = self.through(x, network=network, start=0, stop=memory.after)
        x = self.shaped(x, steps, memory.inputs)
        places = self.constant("places", memory.arrays["position"][::-1].copy())
        del self.constants["memory.position"]
        placed = self.node("Add", x, places)
        last = self.shaped(self.cut(placed, start=steps - 1, stop=steps, axis=1), memory.inputs)
        query = self.node("Gemm", last, "memory.query.weight", "memory.query.bias", transB=1)
        keys = self.node("MatMul", placed, self.node("Transpose", "memory.key.weight", perm=[1, 0]))
        scores = self.shaped(self.node("MatMul", keys, self.shaped(query, memory.outputs, 1)), steps)
        scores = self.node("Mul", scores, self.constant("scale", np.float32(memory.outputs**-0.5)))
        empty = self.node("Mul", self.node("Sub", "one", taken), self.constant("hidden", np.float32(HIDDEN)))
        weights = self.node("Softmax", self.node("Add", scores, empty), axis=1)
        context = self.shaped(self.node("MatMul", self.shaped(weights, 1, steps), placed), memory.inputs)
        context = self.node("MatMul", context, self.node("Transpose", "memory.value.weight", perm=[1, 0]))
        newest_x = self.shaped(self.cut(x, start=steps - 1, stop=steps, axis=1), memory.inputs)
        both = self.node("Concat", newest_x, context, axis=1)
        out = self.node("Gemm", both, "memory.output.weight", "memory.output.bias", transB=1)
        return self.node("Tanh", out), self.cut(window, start=1, stop=steps, axis=1)

    def split(self, x: str, parts: int) -> list[str]:
        """Equal blocks of the last axis."""
        names = [f"split.{len(self.nodes)}.{i}" for i in range(parts)]
        self.nodes.append(helper.make_node("Split", [x], names, axis=-1))
        return names

    def cut(self, x: str, *, start: int, stop: int, axis: int) -> str:
        return self.node("Slice", x, self.sizes(start), self.sizes(stop), self.sizes(axis))

    def shaped(self, x: str, *sizes: int) -> str:
        """Rows of this shape."""
        return self.node("Reshape", x, self.sizes(-1, *sizes))

    def sizes(self, *values: int) -> str:
        return self.constant("sizes." + ".".join(map(str, values)), np.array(values, dtype=np.int64))

    def mean(self, x: str, *, atoms: Array, width: int) -> str:
        """Of the distributions over atoms: (rows, A * K) logits -> (rows, A)."""
        x = self.node("Reshape", x, self.sizes(-1, width, len(atoms)))
        x = self.node("MatMul", self.node("Softmax", x, axis=2), self.constant("atoms", atoms[:, None]))
        return self.node("Reshape", x, self.sizes(-1, width))

    def blocks(self, x: str, *, network: Network) -> list[str]:
        """Rows of units -> rows of observations: one block for each part of the head's parameters."""
        width = network.unit_outputs
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

    def model(self, network: Network) -> bytes:
        given, wanted = (
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size]) for name, _, size in ends]
            for ends in _ends(network)
        )
        graph = helper.make_graph(self.nodes, "policy", given, wanted, initializer=list(self.constants.values()))
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
    inputs, outputs = _ends(network)
    wanted = {"inputs": inputs, "outputs": outputs}
    if given != wanted:
        raise Tampered("policy.onnx has other inputs and outputs", given=given, expected=str(wanted), cure=_CURE)


def _ends(network: Network) -> tuple[list[tuple[str, int, int]], list[tuple[str, int, int]]]:
    """Name, element type (1 is float32) and width of inputs and outputs."""
    inputs, outputs = [(INPUT, 1, network.inputs)], [(OUTPUT, 1, network.outputs)]
    if network.memory is not None:
        inputs.append((STATE, 1, network.state_size))
        outputs.append((STATE_OUT, 1, network.state_size))
    return inputs, outputs


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
