"""One suite for the engines: whatever computes a network, the same numbers come out, alone and in batches."""

import dataclasses
import itertools

import numpy as np
import pytest
from gymnasium import spaces as gs

from rlaas_ray.errors import InvalidInput, NotFound, Refused, Tampered
from rlaas_ray.policies import certificate, heads, lookup, onnx_graph, spaces
from rlaas_ray.policies import view as views
from rlaas_ray.policies.engines import choice
from rlaas_ray.policies.network import ACTIVATIONS, Layer, Network, Normaliser, from_json

UNITS, UNIT_D, FLAT = 5, 6, 11


def layer(rng: np.random.Generator, inputs: int, outputs: int, activation: str) -> Layer:
    return Layer(
        weight=(rng.normal(size=(outputs, inputs)) / np.sqrt(inputs)).astype(np.float32),
        bias=rng.normal(size=outputs).astype(np.float32),
        activation=activation,
    )


def a_network(
    *, activation: str = "tanh", view: bool = False, normalise: bool = False, log_std: bool = False, parts: int = 1
) -> Network:
    rng = np.random.default_rng(5)
    d = UNIT_D if view else FLAT
    program = views.ViewProgram(
        index=rng.integers(0, FLAT + 3, size=(UNITS, UNIT_D)),
        matrix=rng.normal(size=(FLAT, 3)).astype(np.float32),
        offset=rng.normal(size=3).astype(np.float32),
    )
    norm = Normaliser(
        mean=rng.normal(size=d).astype(np.float32),
        std=(0.5 + rng.random(d)).astype(np.float32),
        clip=2.0,
    )
    return Network(
        layers=(layer(rng, d, 32, activation), layer(rng, 32, 16, activation), layer(rng, 16, 4, "linear")),
        view=program if view else None,
        normaliser=norm if normalise else None,
        log_std=np.array([-1.5, -1.0, -0.5, 0.0], np.float32) if log_std else None,
        parts=2 if log_std else parts,
    )


def observations(n: int = 64) -> np.ndarray:
    return (3 * np.random.default_rng(6).normal(size=(n, FLAT))).astype(np.float32)


def reference(network: Network, x: np.ndarray) -> np.ndarray:
    """The definition, in float64 and one unit at a time: slow, and unlike every engine."""
    rows = []
    for flat in x.astype(np.float64):
        view = network.view
        wide = flat if view is None else np.concatenate([flat, flat @ view.matrix.astype(float) + view.offset])
        outputs = []
        for unit in [wide] if view is None else [wide[index] for index in view.index]:
            y = unit
            if network.normaliser is not None:
                y = np.clip((y - network.normaliser.mean) / network.normaliser.std, -2.0, 2.0)
            for part in network.layers:
                y = ACTIVATION[part.activation](part.weight.astype(float) @ y + part.bias)
            outputs.append(y if network.log_std is None else np.concatenate([y, network.log_std]))
        rows.append(
            np.concatenate(
                [np.concatenate(block) for block in zip(*(np.split(o, network.parts) for o in outputs), strict=True)]
            )
        )
    return np.array(rows)


ACTIVATION = {
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x / (1 + np.exp(np.minimum(-x, 500))),
    "elu": lambda x: np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1),
    "linear": lambda x: x,
}
SHAPES = [
    dict(zip(("view", "normalise", "log_std", "parts"), values, strict=True))
    for values in itertools.product([False, True], [False, True], [False, True], [1, 2])
    if not (values[2] and values[3] == 2)
]


@pytest.fixture(params=choice.NAMES)
def engine_name(request: pytest.FixtureRequest) -> str:
    return request.param


def make(name: str, network: Network):
    return choice.make(name, network=network, model=onnx_graph.build(network))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_an_engine_computes_the_definition(engine_name, shape):
    network = a_network(**shape)
    given = make(engine_name, network).distribution(observations())
    assert given.dtype == np.float32
    assert given.shape == (64, network.outputs)
    np.testing.assert_allclose(given, reference(network, observations()), atol=2e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_an_engine_knows_every_activation_also_far_from_zero(engine_name, activation):
    network = a_network(activation=activation)
    x = observations() * 100
    expected = reference(network, x)
    given = make(engine_name, network).distribution(x)
    assert np.abs(given - expected).max() <= 1e-5 * np.abs(expected).max()


def test_a_row_does_not_depend_on_its_batch_and_the_input_is_left_alone(engine_name):
    network = a_network(view=True, normalise=True, log_std=True)
    engine, x = make(engine_name, network), observations(8)
    before = x.copy()
    whole = engine.distribution(x)
    alone = np.concatenate([engine.distribution(x[i : i + 1]) for i in range(8)])
    np.testing.assert_allclose(alone, whole, atol=1e-5)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(engine.distribution(x), whole)


def test_units_are_put_together_as_means_then_log_stds(engine_name):
    network = a_network(view=True, log_std=True)
    given = make(engine_name, network).distribution(observations(2))
    np.testing.assert_array_equal(given[:, UNITS * 4 :], np.tile([-1.5, -1.0, -0.5, 0.0], (2, UNITS)))


LOOKED_UP = gs.Dict({"a": gs.Discrete(3), "b": gs.Box(-1, 1, (2,), np.float32), "c": gs.MultiBinary(2)})


def a_lookup(*, layers: int = 0) -> Network:
    rng = np.random.default_rng(7)
    bins = [lookup.Bins(count=4, low=-1, high=1), lookup.Bins(count=3, low=-0.5, high=0.5)]
    cells, count = lookup.cells_of(LOOKED_UP, bins=bins)
    table = rng.normal(size=(count, 4)).astype(np.float32)
    return Network(
        layers=(layer(rng, 4, 8, "tanh"), layer(rng, 8, 2, "linear"))[:layers],
        lookup=lookup.Lookup(cells=cells, table=table),
    )


@pytest.mark.parametrize("layers", [0, 2])
def test_every_engine_finds_the_same_row_of_a_table_also_at_an_edge(layers):
    network = a_lookup(layers=layers)
    LOOKED_UP.seed(0)
    x = spaces.encode(LOOKED_UP, [LOOKED_UP.sample() for _ in range(300)])
    x[:40, 3:5] = np.repeat(np.linspace(-1, 1, 9, dtype=np.float32)[:8], 10).reshape(40, 2)
    assert len(np.unique(network.lookup.cells.of(x))) > 80
    given = {name: make(name, network).distribution(x) for name in choice.NAMES}
    expected = network.lookup.table[network.lookup.cells.of(x)]
    for output in given.values():
        if layers:
            np.testing.assert_allclose(output, given["numpy"], atol=1e-6)
        else:
            np.testing.assert_array_equal(output, expected)
    again = from_json(network.to_json(), tensors=network.tensors())
    np.testing.assert_array_equal(make("numpy", again).distribution(x), given["numpy"])
    strange = np.full_like(x[:1], 9.0)  # nothing is encoded so; no engine may fail, or read elsewhere
    assert all(np.isfinite(make(name, network).distribution(strange)).all() for name in choice.NAMES)


@pytest.mark.parametrize(
    "change",
    [
        {"stride": np.full(9, 0.5, np.float32)},
        {"stride": np.full(9, -1.0, np.float32)},
        {"source": np.full(9, 7, np.int64)},
        {"edge": np.zeros(3, np.float32)},
    ],
)
def test_a_lookup_that_points_outside_is_refused(change):
    whole = a_lookup().lookup
    assert len(whole.cells.source) == 9
    cells = dataclasses.replace(whole.cells, **change)
    with pytest.raises(InvalidInput, match="not a network"):
        Network(layers=(), lookup=lookup.Lookup(cells=cells, table=whole.table))


def test_a_network_survives_its_program_and_tensors():
    network = a_network(view=True, normalise=True, log_std=True)
    again = from_json(network.to_json(), tensors=network.tensors())
    np.testing.assert_array_equal(
        make("numpy", again).distribution(observations()), make("numpy", network).distribution(observations())
    )


def test_the_same_network_gives_the_same_onnx_bytes():
    assert onnx_graph.build(a_network(view=True)) == onnx_graph.build(a_network(view=True))


def test_a_certificate_has_every_pair_and_survives_json():
    network = a_network(normalise=True)
    made = certificate.certify(
        network,
        model=onnx_graph.build(network),
        observations=observations(),
        head=heads.Categorical(n=4),
        seed=3,
    )
    assert made.engines == choice.NAMES
    assert [pair.engines for pair in made.pairs] == [("numpy", "onnx"), ("numpy", "torch"), ("onnx", "torch")]
    assert all(pair.max_abs <= 1e-5 and pair.compared > 50 for pair in made.pairs)
    assert certificate.from_json(made.to_json()) == made


def test_engines_that_disagree_are_refused_with_the_pair():
    right = np.array([[1.0, 2.0]], np.float32)
    with pytest.raises(Refused, match="numpy and onnx disagree"):
        certificate.compare({"numpy": right, "onnx": right * np.float32(1.0001)}, head=heads.Point(entries=2), seed=0)
    with pytest.raises(Refused):
        certificate.compare({"numpy": right, "onnx": right * np.nan}, head=heads.Point(entries=2), seed=0)


def test_another_best_action_is_refused_unless_nobody_can_tell_the_two_apart():
    # Within the gate, relative to the large third logit, but the best two swap.
    far = np.array([[1.0, 1.002, -1e3]], np.float32), np.array([[1.002, 1.0, -1e3]], np.float32)
    near = np.array([[1.0, 1.00005, -1e3]], np.float32), np.array([[1.00005, 1.0, -1e3]], np.float32)
    head = heads.Categorical(n=3)
    with pytest.raises(Refused, match="argmax agreement 0"):
        certificate.compare({"numpy": far[0], "onnx": far[1]}, head=head, seed=0)
    certificate.compare({"numpy": near[0], "onnx": near[1]}, head=head, seed=0)


def timed(medians: dict[str, float]):
    """Engines whose forward takes a set time on a clock of the test's own."""
    now = [0.0]

    class Engine:
        def __init__(self, seconds: float) -> None:
            self.seconds = seconds

        def distribution(self, observations):
            now[0] += self.seconds
            return observations

    return {name: Engine(s) for name, s in medians.items()}, lambda: now[0]


@pytest.mark.parametrize(
    ("medians", "chosen"),
    [
        ({"numpy": 10e-6, "onnx": 12e-6}, "numpy"),
        ({"numpy": 10e-6, "onnx": 10.5e-6}, "onnx"),
        ({"numpy": 12e-6, "onnx": 10e-6}, "onnx"),
        ({"numpy": 12e-6}, "numpy"),
    ],
)
def test_the_quickest_engine_is_taken_and_a_tie_goes_to_onnx(medians, chosen):
    engines, timer = timed(medians)
    assert choice.quickest(engines, observation=observations(1), timer=timer) == chosen


def test_an_unknown_engine_is_refused_with_the_nearest():
    with pytest.raises(NotFound, match="no engine 'onxx'") as caught:
        choice.make("onxx", network=a_network(), model=b"")
    assert "onnx" in caught.value.cure


@pytest.mark.parametrize(
    "change",
    [
        {"layers": ()},
        {"layers": (layer(np.random.default_rng(0), 3, 4, "tanh"), layer(np.random.default_rng(0), 5, 2, "linear"))},
        {"log_std": np.zeros(4, np.float32)},
        {"log_std": np.zeros(3, np.float32), "parts": 2},
        {"parts": 3},
        {"normaliser": Normaliser(mean=np.zeros(11, np.float32), std=np.zeros(11, np.float32), clip=1.0)},
        {"normaliser": Normaliser(mean=np.zeros(10, np.float32), std=np.ones(10, np.float32), clip=1.0)},
        {
            "layers": (
                Layer(weight=np.full((4, 11), np.nan, np.float32), bias=np.zeros(4, np.float32), activation="tanh"),
            )
        },
        {"layers": (Layer(weight=np.zeros((4, 11)), bias=np.zeros(4, np.float32), activation="tanh"),)},
    ],
)
def test_a_network_whose_parts_do_not_fit_is_refused(change):
    whole = a_network()
    fields = {"layers": whole.layers, "normaliser": None, "log_std": None, "view": None, "parts": 1} | change
    with pytest.raises(InvalidInput, match="not a network"):
        Network(**fields)


def test_a_view_that_points_outside_its_observation_is_refused():
    for index in (np.array([[14]]), np.array([[-1]]), np.array([0])):
        with pytest.raises(InvalidInput, match="not a view"):
            views.ViewProgram(index=index, matrix=np.zeros((FLAT, 3), np.float32), offset=np.zeros(3, np.float32))


def test_a_graph_of_another_network_is_refused():
    with pytest.raises(Tampered, match="other inputs and outputs"):
        onnx_graph.check(onnx_graph.build(a_network(log_std=True)), network=a_network())
