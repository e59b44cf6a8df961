"""The plot maker: what it collects, what its figures say, what it writes, what it refuses."""

import re

import numpy as np
import pytest
import tensorflow as tf
from matplotlib.figure import Figure
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from orbit_snn.cells import Cell
from orbit_snn.connections import Conv2D, Dense, OneToOne
from orbit_snn.graph import (
    L2,
    MSE,
    Decision,
    GraphError,
    IdxType,
    InputNode,
    ModelNode,
    NetworkNode,
    assemble_for_training,
)
from orbit_snn.networks import Network
from orbit_snn.neurons import LIF, LeakyIntegrator
from orbit_snn.training import pictures, plot_figures
from orbit_snn.training.plot_maker import (
    Compare,
    Confusion,
    Errors,
    PlotMaker,
    Plotter,
    Raster,
    Traces,
    Weights,
)

STEPS, INPUTS, OUTPUTS = 12, 4, 3


def network_node(mask=None, db_name="target"):
    hidden = Cell(LIF(6, threshold=0.3), Dense(INPUTS, 6, seed=1), Dense(6, 6, autapses=False))
    above = Cell(LIF(5, threshold=0.3, dt_ms=1.0), Dense(6, 5, seed=2, bias=True))
    readout = Cell(LeakyIntegrator(OUTPUTS), Dense(5, OUTPUTS, seed=3))
    x = InputNode("inputs", mask=mask)
    return NetworkNode("network", x, Network([hidden, above], readout), db_name=db_name)


def plain_node(name="y", db_name="t", index=IdxType.SEQUENCES, mask=None):
    x = InputNode("x", name=f"{name}-x", index=index, mask=mask)
    return ModelNode(name, x, lambda x: 2.0 * x, db_name=db_name)


def batches_of(arrays, size, masked_out=9):
    """Batches as an evaluation has them: the last one is filled up with examples of weight 0."""
    count = len(next(iter(arrays.values())))
    for start in range(0, count, size):
        places = np.minimum(np.arange(start, start + size), count - 1)
        batch = {name: x[places].copy() for name, x in arrays.items()}
        real = np.arange(start, start + size) < count
        for x in batch.values():
            x[~real] = masked_out  # must be seen nowhere
        yield batch | {"weight": real.astype(np.float32)}


def run(plot_maker, arrays, size=4, loss=None, xla=False):
    """What is collected of a data set, raw and as it is kept."""
    origin = plot_maker.required_nodes[0].origin
    loss = loss or MSE(origin.pred, origin.pred)
    modules, db_info = assemble_for_training(loss, {"loss": loss}, plot_maker=plot_maker)
    assert set(plot_maker.features) <= set(db_info["targets"])

    @tf.function(autograph=False, jit_compile=xla)
    def step(batch):
        return plot_maker.collect(modules.model.run(batch).values, batch)

    raw, kept = [], []
    for batch in batches_of(arrays, size):
        tensors = step({name: tf.constant(x) for name, x in batch.items()})
        raw.append({key: value.numpy() for key, value in tensors.items()})
        plot_maker.keep(kept, tensors)
    return raw, kept


def spy(name, nodes, **options):
    """A plotter that draws nothing, and the values that it was given, by name of node."""
    seen = {}

    def draw(values):
        seen.update({node.name: value for node, value in values.items()})
        return {"": Figure()}

    return Plotter(name, nodes, draw, **options), seen


def sequences(count=7, seed=0):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, STEPS + 1, count)
    return {
        "inputs": (rng.random((count, STEPS, INPUTS)) < 0.4).astype(np.float32),
        "target": rng.normal(size=(count, STEPS, OUTPUTS)).astype(np.float32),
        "label": rng.integers(0, OUTPUTS, count),
        "real": np.arange(STEPS) < lengths[:, np.newaxis],
    }


def flat(count=10, outputs=3, seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=(count, outputs)).astype(np.float32) for name in "xt"}


def drawn(plotter, arrays, **options):
    """The figures of one plotter, by what is added to its name."""
    plot_maker = PlotMaker(plotter)
    figures = plot_maker.figures(run(plot_maker, arrays, **options)[0])
    return {tag.removeprefix(plotter.name).removeprefix("/"): f for tag, f in figures.items()}


def title(ax):
    return " ".join([ax.get_title(loc="left"), *(text.get_text() for text in ax.texts)]).strip()


def counts(figure):
    """The numbers written in a confusion matrix."""
    ax = figure.axes[0]
    size = len(ax.get_xticks())
    matrix = np.zeros((size, size), int)
    for text in ax.texts:
        if text.get_text():
            column, row = map(int, text.get_position())
            matrix[row, column] = int(text.get_text())
    return matrix


def confusion(scores, labels):
    matrix = np.zeros((scores.shape[-1],) * 2, int)
    np.add.at(matrix, (labels, scores.argmax(-1)), 1)
    return matrix


class TestNeeds:
    def test_nodes_of_all_plotters_each_once_with_their_masks(self):
        net = network_node(mask="real")
        choice = Decision("choice", net.output, db_name="label")
        plot_maker = PlotMaker(Compare(net.output), Errors(net.output), Confusion(choice),
                               Raster(net), Weights(net))  # fmt: skip
        assert [node.name for node in plot_maker.required_nodes] == [
            *("network.output-pred", "network.output-true", "real-true"),
            *("choice-pred", "choice-true"),
            *("inputs-pred", "network.cell0-pred", "network.cell1-pred"),
        ]
        assert plot_maker.features == ("target", "real", "label")
        loss = MSE.of_node(net.output)
        modules, db_info = assemble_for_training(loss, {"loss": loss}, plot_maker=plot_maker)
        assert modules.evaluator.plot_maker is plot_maker
        assert db_info == {"inputs": ["inputs", "real"], "targets": ["target", "real", "label"]}
        computed = {node.name for node in modules.model.nodes_to_compute}
        assert computed == {
            *("network.output", "choice", "inputs", "network.cell0", "network.cell1")
        }

    def test_weights_need_nothing(self):
        assert PlotMaker(Weights(network_node())).required_nodes == ()

    def test_every_so_many_evaluations(self):
        plot_maker = PlotMaker(Weights(network_node()), plot_every=3)
        assert [plot_maker.due(k) for k in range(7)] == [True, False, False] * 2 + [True]


class TestCollect:
    @pytest.mark.parametrize("xla", [False, True])
    def test_keys_and_values(self, xla):
        net = network_node(mask="real")
        choice = Decision("choice", net.output, db_name="label")
        plot_maker = PlotMaker(Compare(net.output), Confusion(choice), Raster(net))
        arrays = sequences()
        raw, _ = run(plot_maker, arrays, size=4, xla=xla)
        shapes = {key: value.shape for key, value in raw[0].items()}
        assert shapes == {
            "pred/network.output": (4, STEPS, OUTPUTS),
            "true/target": (4, STEPS, OUTPUTS),
            "mask/real": (4, STEPS),
            "pred/choice": (4, OUTPUTS),
            "true/label": (4,),
            "pred/inputs": (4, STEPS, INPUTS),
            "pred/network.cell0": (4, STEPS, 6),
            "pred/network.cell1": (4, STEPS, 5),
            "weight": (4,),
        }
        np.testing.assert_array_equal(raw[1]["weight"], [1, 1, 1, 0])
        np.testing.assert_array_equal(raw[1]["true/target"][:3], arrays["target"][4:])
        np.testing.assert_array_equal(raw[0]["pred/inputs"], arrays["inputs"][:4])

    def test_every_example_weighs_1_where_none_is_padding(self):
        plot_maker = PlotMaker(Compare(plain_node()))
        batch = {name: tf.constant(x) for name, x in flat(5).items()}
        tensors = plot_maker.collect({"y": batch["x"]}, batch)
        np.testing.assert_array_equal(tensors["weight"], np.ones(5))
        only_weights = PlotMaker(Weights(network_node())).collect({}, batch)
        assert list(only_weights) == ["weight"] and only_weights["weight"].shape == (5,)

    def test_what_is_missing_is_named(self):
        plot_maker = PlotMaker(Compare(plain_node()))
        x = tf.zeros([2, 3])
        with pytest.raises(GraphError, match="need `pred/y`; got pred/z. Give the plot maker to"):
            plot_maker.collect({"z": x}, {"t": x})
        with pytest.raises(GraphError, match="need `true/t`; got true/x"):
            plot_maker.collect({"y": x}, {"x": x})


class TestJoin:
    @pytest.mark.parametrize("size", [1, 3, 4, 10, 16])
    def test_real_examples_in_order_whatever_the_batches(self, size):
        y, arrays = plain_node(), flat(10)
        plotter, seen = spy("spy", (y.pred, y.true))
        plot_maker = PlotMaker(plotter)
        for collected in run(plot_maker, arrays, size):
            seen.clear()
            assert list(plot_maker.figures(collected)) == ["spy"]
            np.testing.assert_array_equal(seen["y-pred"], 2 * arrays["x"])
            np.testing.assert_array_equal(seen["y-true"], arrays["t"])

    def test_the_first_ones_of_many(self):
        y, z, arrays = plain_node(), plain_node("z"), flat(10)
        few, few_seen = spy("few", (y.pred, y.true), examples=3)
        many, many_seen = spy("many", (z.pred, z.true), examples=90)
        plot_maker = PlotMaker(few, many, max_examples=6)
        raw, kept = run(plot_maker, arrays)
        for collected in (raw, kept):
            few_seen.clear()
            many_seen.clear()
            plot_maker.figures(collected)
            for seen, node, count in ((few_seen, "y", 3), (many_seen, "z", 6)):
                np.testing.assert_array_equal(seen[f"{node}-pred"], 2 * arrays["x"][:count])
                np.testing.assert_array_equal(seen[f"{node}-true"], arrays["t"][:count])

    def test_no_more_is_kept_than_is_drawn(self):
        y, z = plain_node(), plain_node("z", "u")
        plotters = spy("few", (y.pred,), examples=3)[0], spy("many", (z.pred,))[0]
        plot_maker = PlotMaker(*plotters, max_examples=6)
        _, kept = run(plot_maker, flat(16))
        shapes = [{key: len(value) for key, value in each.items()} for each in kept]
        assert shapes == [{"pred/y": 3, "pred/z": 4, "weight": 4}, {"pred/z": 2, "weight": 4}]

    def test_batches_of_other_lengths_are_padded_where_a_mask_says_so(self):
        y = plain_node(index=IdxType.SEQ_STEP, mask="real")
        plotter, seen = spy("spy", (y.pred, y.true, y.mask.true))
        plot_maker = PlotMaker(plotter)
        rng = np.random.default_rng(0)
        parts = [rng.normal(size=(2, steps, 3)) for steps in (4, 6)]
        collected = [
            {"pred/y": x, "true/t": -x, "mask/real": np.ones(x.shape[:2], bool), "weight": [1, 0]}
            for x in parts
        ]
        plot_maker.figures(collected)
        want = np.zeros((2, 6, 3))
        want[0, :4], want[1] = parts[0][0], parts[1][0]
        np.testing.assert_array_equal(seen["y-pred"], want)
        np.testing.assert_array_equal(seen["y-true"], -want)
        np.testing.assert_array_equal(seen["real-true"].sum(1), [4, 6])
        plotter, _ = spy("spy", (plain_node().pred,))
        with pytest.raises(GraphError, match=re.escape("shapes [1, 4, 3], [1, 6, 3], ... in")):
            PlotMaker(plotter).figures([{"pred/y": x, "weight": [1, 0]} for x in parts])

    def test_no_examples_give_no_figures(self):
        plot_maker = PlotMaker(Compare(plain_node()), Weights(network_node()))
        assert plot_maker.figures([]) == {}
        nothing = {"pred/y": np.zeros((2, 3)), "true/t": np.zeros((2, 3)), "weight": np.zeros(2)}
        assert plot_maker.figures([nothing]) == {}
        kept = []
        plot_maker.keep(kept, nothing)
        assert plot_maker.figures(kept) == {}

    def test_weights_alone_are_drawn_of_any_example(self):
        plot_maker, kept = PlotMaker(Weights(network_node())), []
        for weight in ([0, 0], [1, 0], [1, 1]):
            plot_maker.keep(kept, {"weight": tf.constant(weight, tf.float32)})
        assert len(kept) == 2 and list(plot_maker.figures(kept)) == ["weights/network"]


class TestCompare:
    def test_numbers_are_those_of_all_examples(self):
        arrays = flat(300)
        (figure,) = drawn(Compare(plain_node()), arrays, size=64).values()
        error, true = 2 * arrays["x"] - arrays["t"], arrays["t"]
        rsq = 1 - np.sum(error**2) / np.sum((true - true.mean()) ** 2)
        rmse = np.sqrt(np.mean(error**2))
        assert title(figure.axes[0]) == f"RMSE {rmse:.3g}, R² {rsq:.4g} 900 points"
        assert figure.axes[0].get_xlabel() == "true: t"
        assert figure.axes[0].get_ylabel() == "predicted: y"

    def test_dots_have_a_colour_for_each_output_and_a_diagonal(self):
        arrays = flat(10)
        ax = drawn(Compare(plain_node()), arrays)[""].axes[0]
        dots = [collection.get_offsets() for collection in ax.collections]
        for k in range(3):
            np.testing.assert_allclose(dots[k], np.stack([arrays["t"], 2 * arrays["x"]], -1)[:, k])
        assert len(ax.get_legend().get_texts()) == len(dots) == 3
        (diagonal,) = ax.lines
        np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())
        assert ax.get_xlim() == ax.get_ylim()

    def test_many_points_are_a_density(self):
        figure = drawn(Compare(plain_node()), flat(700), size=700)[""]
        density, bar = figure.axes[0].collections[0], figure.axes[1]
        assert density.get_array().sum() == 2100 and bar.get_ylabel() == "points"

    def test_padded_steps_are_left_out(self):
        arrays = sequences()
        net = network_node(mask="real")
        plot_maker = PlotMaker(Compare(net.output), Errors(net.output))
        raw, _ = run(plot_maker, arrays)
        compared, errors = plot_maker.figures(raw).values()
        pred = np.concatenate([each["pred/network.output"] for each in raw])[:7]
        error = (pred - arrays["target"])[arrays["real"]]
        want = f"RMSE {np.sqrt(np.mean(error**2)):.3g}, "
        assert title(compared.axes[0]).startswith(want)
        assert title(compared.axes[0]).endswith(f" {error.size} points")
        bars = [patch.get_height() for patch in errors.axes[0].patches]
        assert sum(bars) == error.size == 3 * arrays["real"].sum()
        assert title(errors.axes[0]) == (
            f"mean {error.mean():.3g}, std {error.std():.3g} {error.size} errors"
        )

    def test_one_number_an_example(self):
        y = ModelNode("y", InputNode("x"), lambda x: x[:, :1], db_name="t")
        arrays = {"x": np.array([[1.0], [3.0]], np.float32), "t": np.array([0.0, 1.0], np.float32)}
        figure = drawn(Compare(y), arrays)[""]
        assert title(figure.axes[0]) == "RMSE 1.58, R² -9 2 points"


class TestConfusion:
    @pytest.mark.parametrize("one_hot", [False, True])
    def test_counts(self, one_hot):
        scores, labels = flat(50)["x"], np.random.default_rng(1).integers(0, 3, 50)
        arrays = {"x": scores, "t": np.eye(3, dtype=int)[labels] if one_hot else labels}
        figure = drawn(Confusion(plain_node(), ["a", "b", "$c$"]), arrays)[""]
        np.testing.assert_array_equal(counts(figure), confusion(scores, labels))
        right = np.mean(scores.argmax(-1) == labels)
        ax = figure.axes[0]
        assert ax.get_title(loc="left") == f"{right:.1%} of 50 right"
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted: y", "true: t")
        pictures.to_image(figure)  # dollars are no mathematics

    @pytest.mark.parametrize("kind", ["each step", "one-hot steps", "sequence", "one-hot"])
    def test_scores_of_every_step(self, kind):
        rng = np.random.default_rng(2)
        scores = rng.normal(size=(9, STEPS, 3)).astype(np.float32)
        labels = rng.integers(0, 3, (9, STEPS))
        real = np.arange(STEPS) < rng.integers(1, STEPS, (9, 1))
        if kind in ("sequence", "one-hot"):
            labels[:] = labels[:, :1]
        given = {
            "each step": labels,
            "one-hot steps": np.eye(3, dtype=np.float32)[labels],
            "sequence": labels[:, 0].astype(np.uint8),
            "one-hot": np.eye(3, dtype=np.float32)[labels[:, 0]],
        }[kind]
        node = plain_node(index=IdxType.SEQ_STEP, mask="real")
        figure = drawn(Confusion(node), {"x": scores, "t": given, "real": real})[""]
        np.testing.assert_array_equal(counts(figure), confusion(scores[real], labels[real]))

    def test_a_decision_about_padded_sequences(self):
        net, arrays = network_node(mask="real"), sequences()
        arrays["real"][2] = False  # no step of it is real, so it counts nowhere
        plotter = Confusion(Decision("choice", net.output, "mean", db_name="label"))
        plot_maker = PlotMaker(plotter)
        raw, _ = run(plot_maker, arrays)
        scores = np.concatenate([each["pred/choice"] for each in raw])[:7]
        figure = plot_maker.figures(raw)["confusion/choice"]
        keep = np.arange(7) != 2
        want = confusion(scores[keep], arrays["label"][keep])
        np.testing.assert_array_equal(counts(figure), want)

    def test_what_is_left_out_is_said(self):
        scores, labels = flat(20)["x"], np.arange(20) % 3
        scores[4, 1], labels[:2] = np.nan, (-1, 3)
        figure = drawn(Confusion(plain_node()), {"x": scores, "t": labels})[""]
        good = np.isin(np.arange(20), (0, 1, 4), invert=True)
        np.testing.assert_array_equal(counts(figure), confusion(scores[good], labels[good]))
        assert figure.get_supxlabel() == "left out: 1 with NaN, 2 of no such class"


class TestTraces:
    def test_a_panel_an_example_with_targets_and_padding(self):
        net, arrays = network_node(mask="real"), sequences()
        arrays["real"][0], arrays["real"][1] = True, np.arange(STEPS) < 5
        plot_maker = PlotMaker(Traces(net.output))
        raw, _ = run(plot_maker, arrays)
        axes = plot_maker.figures(raw)["traces/network.output"].axes
        assert [title(ax) for ax in axes] == [f"example {k} 3 outputs" for k in range(3)]
        for k, ax in enumerate(axes):
            solid = [line for line in ax.lines if not line.is_dashed()]
            dashed = [line for line in ax.lines if line.is_dashed()]
            pred = np.stack([line.get_ydata() for line in solid], -1)
            np.testing.assert_array_equal(pred, raw[0]["pred/network.output"][k])
            true = np.stack([line.get_ydata() for line in dashed], -1)
            np.testing.assert_array_equal(true, arrays["target"][k])
        assert len(axes[0].patches) == 0 and axes[1].patches[0].get_x() == 4.5
        assert axes[0].get_legend() and not axes[1].get_legend()
        assert axes[-1].get_xlabel() == "time (ms)"

    def test_labels_are_no_targets(self):
        net = network_node(db_name="label")
        axes = drawn(Traces(net.output, examples=2), sequences())[""].axes
        assert len(axes) == 2 and not any(line.is_dashed() for ax in axes for line in ax.lines)

    def test_of_a_node_without_truth_or_network(self):
        x = np.random.default_rng(0).normal(size=(3, STEPS)).astype(np.float32)
        node = plain_node(db_name=None, index=IdxType.SEQ_STEP)
        axes = drawn(Traces(node, examples=9), {"x": x})[""].axes
        assert [len(ax.lines) for ax in axes] == [1, 1, 1]
        assert axes[-1].get_xlabel() == "step"

    @pytest.mark.parametrize(("scale", "label"), [(1e-6, "1e−06"), (1.0, "1"), (1e6, "1e+06")])
    def test_numbers_of_any_size_stay_beside_the_axis(self, scale, label):
        ax = plot_figures.traces_figure(scale * np.array([[[0.0], [1.0]]])).axes[0]
        ax.figure.draw_without_rendering()
        assert not ax.yaxis.get_offset_text().get_text()
        assert float(label.replace("−", "-")) in [
            float(tick.get_text().replace("−", "-")) for tick in ax.get_yticklabels()
        ]


class TestRaster:
    def test_inputs_on_top_of_all_cells(self):
        net, arrays = network_node(mask="real"), sequences()
        plot_maker = PlotMaker(Raster(net, examples=2))
        raw, _ = run(plot_maker, arrays)
        figures = plot_maker.figures(raw)
        assert list(figures) == ["raster/network/0", "raster/network/1"]
        for k, figure in enumerate(figures.values()):
            axes = figure.axes
            names = [ax.get_title(loc="left") for ax in axes]
            assert names == ["inputs", "cell0", "cell1"]
            values = [raw[0][f"pred/{n}"][k] for n in ("inputs", "network.cell0", "network.cell1")]
            bars = [len(ax.collections[0].get_segments()) for ax in axes]
            assert bars == [np.count_nonzero(x) for x in values]
            real = int(arrays["real"][k].sum())
            assert axes[0].patches[0].get_x() == real - 0.5 if real < STEPS else True

    def test_fewer_examples_than_asked_for(self):
        assert list(drawn(Raster(network_node(), examples=5), sequences(2))) == ["0", "1"]


def test_weights_are_those_in_effect():
    net = network_node()
    cells = net.module.cells
    cells[0].recurrent.kernel.assign(np.full((6, 6), 2.0))
    plot_maker = PlotMaker(Weights(net))
    figure = plot_maker.figures([{"weight": np.ones(1)}])["weights/network"]
    shown = {ax.get_title(loc="left"): ax.images[0].get_array() for ax in figure.axes if ax.images}
    assert list(shown) == [
        *("cell0 feedforward", "cell0 recurrent"),
        *("cell1 feedforward", "output feedforward"),
    ]
    np.testing.assert_array_equal(shown["cell0 recurrent"], 2 - 2 * np.eye(6))
    np.testing.assert_array_equal(shown["cell1 feedforward"], cells[1].feedforward.kernel)


def test_weights_of_a_convolution_have_a_column_for_each_filter():
    images, own = Conv2D((4, 5, 2), 3, (2, 3), bias=True), OneToOne(27)
    network = Network([Cell(LIF(27), images), Cell(LIF(27), own)])
    net = NetworkNode("network", InputNode("inputs"), network)
    figure = PlotMaker(Weights(net)).figures([{"weight": np.ones(1)}])["weights/network"]
    (shown,) = (ax.images[0].get_array() for ax in figure.axes if ax.images)
    np.testing.assert_array_equal(shown, images.kernel.numpy().reshape(12, 3))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, 0.0])
@pytest.mark.parametrize("everywhere", [False, True])
@pytest.mark.filterwarnings("error")
def test_runs_that_diverged_are_drawn(value, everywhere):
    net, arrays = network_node(mask="real"), sequences()
    choice = Decision("choice", net.output, db_name="label")
    plot_maker = PlotMaker(
        *(Compare(net.output), Errors(net.output), Confusion(choice), Traces(net.output)),
        *(Raster(net), Weights(net)),
    )
    collected = {
        "pred/network.output": np.ones((7, STEPS, OUTPUTS), np.float32),
        "pred/choice": np.ones((7, OUTPUTS), np.float32),
        "pred/inputs": arrays["inputs"],
        "pred/network.cell0": np.zeros((7, STEPS, 6), np.float32),
        "pred/network.cell1": np.zeros((7, STEPS, 5), np.float32),
    }
    for x in collected.values():
        x[...] = value if everywhere else x
        x[0, :2] = value
    net.module.cells[0].feedforward.kernel.assign(np.full((INPUTS, 6), value))
    truth = {"true/target": arrays["target"], "true/label": arrays["label"]}
    rest = truth | {"mask/real": arrays["real"], "weight": np.ones(7)}
    for figure in plot_maker.figures([collected | rest]).values():
        assert pictures.to_image(figure)[..., :3].std() > 1


class TestWrite:
    def test_images_and_files(self, tmp_path):
        net, arrays = network_node(), sequences()
        plot_maker = PlotMaker(Traces(net.output), Raster(net, 2), Compare(net.output, "mine"))
        figures = plot_maker.figures(run(plot_maker, arrays)[0])
        writer = tf.summary.create_file_writer(str(tmp_path / "events"))
        plot_maker.write(figures, writer, 30, tmp_path)
        plot_maker.write(figures, writer, 60, tmp_path)
        events = EventAccumulator(str(tmp_path / "events"), {"tensors": 0})
        events.Reload()
        tags = ["traces/network.output", "raster/network/0", "raster/network/1", "mine"]
        assert sorted(events.Tags()["tensors"]) == sorted(tags)
        for tag in tags:
            written = events.Tensors(tag)
            assert [event.step for event in written] == [30, 60]
            width, height, png = written[0].tensor_proto.string_val
            image = tf.io.decode_png(png)
            assert image.shape[:2] == (int(height), int(width))
            if tag != "mine":  # whose layout moves by less than a pixel when it is drawn again
                np.testing.assert_array_equal(image, pictures.to_image(figures[tag])[0])
        assert events.SummaryMetadata("mine").plugin_data.plugin_name == "images"
        top = tmp_path / "plots" / "step30"
        found = {str(f.relative_to(top)) for f in top.rglob("*") if f.is_file()}
        assert found == {f"{tag}.png" for tag in tags}
        assert imread(top / "mine.png").std() > 0.01

    def test_files_only_and_no_files(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        plot_maker = PlotMaker(Weights(network_node()))
        figures = plot_maker.figures([{"weight": np.ones(1)}])
        plot_maker.write(figures, None, 1, "run")
        plot_maker.write(figures, tf.summary.create_noop_writer(), 1)
        files = [str(f.relative_to(tmp_path)) for f in tmp_path.rglob("*") if f.is_file()]
        assert files == ["run/plots/step1/weights/network.png"]

    def test_no_name_leads_out_of_the_directory(self, tmp_path):
        for tag in ("../../out", "/out", "a/../../../out", "..", "a\\b:c/"):
            PlotMaker(Weights(network_node())).write({tag: Figure()}, None, 0, tmp_path / "run")
        assert [f.name for f in tmp_path.iterdir()] == ["run"]
        top = tmp_path / "run" / "plots" / "step0"
        files = {str(f.relative_to(top)) for f in top.rglob("*.png")}
        assert files == {"_/_/out.png", "_/out.png", "a/_/_/_/out.png", "_.png", "a_b_c/_.png"}


def collect(plotter, pred, **features):
    """Collects zeros of some shapes, or of arrays, as in the trace of a step."""
    given = [tf.zeros(x) if isinstance(x, list) else tf.constant(x) for x in features.values()]
    name = plotter.required_nodes[0].origin.name
    return PlotMaker(plotter).collect(
        {name: tf.zeros(pred)}, dict(zip(features, given, strict=True))
    )


NET, Y = network_node(mask="real"), plain_node()
STEPWISE = plain_node(index=IdxType.SEQ_STEP, mask="real")
LABELS = np.zeros(2, np.int64)
PENALTY = L2(NET).parents[0].origin
PENALTY.db_name = "t"
REFUSED = [
    (lambda: PlotMaker(), "got no plotters"),
    (lambda: PlotMaker(Y), "<ModelNode y> is no plotter"),
    (lambda: PlotMaker(Compare(Y), Compare(Y)), "two plotters are called 'compare/y'"),
    (lambda: PlotMaker(Plotter("a", (Y.pred - 1.0,), dict)), "'a' requires <Operation sub("),
    (lambda: PlotMaker(Weights(NET), plot_every=0), "plot_every is 0; expected 1 or more"),
    (lambda: PlotMaker(Weights(NET), max_examples=0), "max_examples is 0; expected 1 or more"),
    (lambda: Compare(plain_node(db_name=None)), "Compare of `y` has nothing to compare it with"),
    (lambda: Errors(plain_node(db_name=None)), "Errors of `y` has nothing to compare it with"),
    (lambda: Confusion(NET.cell0), "Confusion of `network.cell0` has nothing to compare it with"),
    (lambda: Compare(Y.pred), "Compare got <Prediction y-pred> (a node of the loss); expected"),
    (lambda: Traces(NET), "has several values; give one of its outputs: network.output"),
    (lambda: Errors(PENALTY), "Errors got `l2(network)`, one number a batch"),
    (lambda: Traces(NET.output, examples=0), "examples is 0; expected 1 or more"),
    (lambda: Raster(NET.output), "Raster got <OutputNode network.output>; expected a NetworkNode"),
    (lambda: Raster(NET, examples=0), "examples is 0; expected 1 or more"),
    (lambda: Weights(Y), "Weights got <ModelNode y>; expected a NetworkNode"),
    (lambda: collect(Compare(Y), [2, 3], t=LABELS), "`y` has shape [2, 3] and `t` [2, 1]"),
    (lambda: collect(Errors(Y), [2, 3], t=[2, 4]), "Errors: `y` has shape [2, 3] and `t` [2, 4]"),
    (lambda: collect(Compare(Y), [], t=[]), "Compare: `y` has shape []; expected [B, ...]"),
    (lambda: collect(Confusion(Y), [2], t=LABELS), "expected scores of classes, [B, K]"),
    (
        lambda: collect(Confusion(STEPWISE), [2, 5], t=LABELS, real=[2, 5]),
        "expected scores of classes, [B, T, K]",
    ),
    (lambda: collect(Confusion(Y), [2, 3], t=[2]), "`t` have shape (2,) for scores `y` (2, 3)"),
    (lambda: collect(Confusion(Y), [2, 3], t=[2, 4]), "expected integers (2,), or one value a"),
    (lambda: collect(Confusion(Y, "ab"), [2, 3], t=LABELS), "got 2 names for the 3 classes of `y`"),
    (
        lambda: collect(Compare(STEPWISE), [2, 5, 3], t=[2, 5, 3], real=[2, 4]),
        "Compare: the mask `real` has shape (2, 4) for `y` of shape (2, 5, 3); expected [B, T]",
    ),
    (lambda: collect(Traces(Y), [2, 3], t=[2, 3]), "Traces: `y` has shape (2, 3); expected a seq"),
    (
        lambda: PlotMaker(Compare(Y)).figures(
            [{"pred/y": np.zeros((2, 3)), "true/t": np.zeros((2, 4)), "weight": np.ones(2)}]
        ),
        "Compare: `y` has shape [2, 3] and `t` [2, 4]",
    ),
    (
        lambda: PlotMaker(Compare(Y)).figures([{"pred/y": np.zeros((2, 3)), "weight": np.ones(2)}]),
        "the plots need `true/t`; got nothing of the kind",
    ),
]


@pytest.mark.parametrize(
    ("make", "message"), REFUSED, ids=[f"{i}-{m[:40]}" for i, (_, m) in enumerate(REFUSED)]
)
def test_refuses(make, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_names_are_cut_and_no_mathematics():
    assert plot_figures.plain("network.output") == "network.output"
    cut = plot_figures.plain("start/" + "x" * 60 + "/end")
    assert len(cut) == 42 and cut.startswith("start/") and cut.endswith("/end") and "…" in cut
    assert plot_figures.plain("$a$") == r"\$a\$"
