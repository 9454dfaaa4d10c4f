"""The NAS encoders: against the reference's records, and written out a second time in TF1."""

import functools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.backbones import nas
from deeplab_tf.backbones.nas_cells import DropPath
from deeplab_tf.weights import reference_name
from tests.golden.rules import make_image, make_weight
from tests.golden_cases import FOLDER, case_image, load_case

END_POINTS = json.loads((FOLDER / "facts_preprocess.json").read_text())["decoder_end_points"]
# Cells as "operation@state" pairs, networks as the level of each cell.
PNASNET = "sep5@1 max3@1  sep7@0 max3@0  sep5@0 sep3@0  sep3@4 max3@0  sep3@1 none@0"
HNASNET = "atr5@1 sep3@0  sep3@1 atr3@0  sep3@3 sep3@1  sep5@4 sep5@2  sep5@3 atr5@5"
LEVELS = {
    ("nas_pnasnet", 8): "111111111111",
    ("nas_pnasnet", 16): "111122222222",
    ("nas_pnasnet", 32): "111122223333",
    ("nas_hnasnet", 8): "000121223321",
    ("nas_hnasnet", 16): "000121223321",
}


class WrittenOut:
    """The reference's networks in plain TensorFlow 1 operations, weights drawn by the rules.

    Attributes:
        shapes: Shape of every variable used, by the reference's name.
        end_points: Every end point, by the reference's name and in its order.
    """

    def __init__(self, variant: str, output_stride: int, filters: int, head: bool, remove: bool):
        self.scope = variant.removeprefix("nas_")
        self.genotype = {"pnasnet": PNASNET, "hnasnet": HNASNET}[self.scope].split()
        self.levels = [int(level) for level in LEVELS[variant, output_stride]]
        self.output_stride, self.filters = output_stride, filters
        self.head, self.remove = head, remove
        self.shapes: dict[str, list[int]] = {}
        self.end_points: dict[str, np.ndarray] = {}

    def run(self, image: np.ndarray) -> None:
        """Fills in `shapes` and `end_points` for an image, float32 [1, h, w, 3] in [0, 255]."""
        x = self.conv_bn(2 / 255 * image - 1, "conv0", "conv0_bn", 64, 3, stride=2)
        before = self.conv_bn(relu(x), "conv1", "conv1_bn", 64, 3)
        x = self.conv_bn(relu(before), "conv2", "conv2_bn", 128, 3, stride=2)
        self.end_points["Stem"] = x
        level = 0
        for i, new in enumerate(self.levels):
            stride, out = 1, x
            both_reduced = self.remove and max(level, new) == 3
            if new > level and not both_reduced:
                stride = 2
            elif new < level and not both_reduced:
                x = resize(x, [2 * side - 1 for side in x.shape[1:3]])
            x = self.cell(x, before, f"cell_{i}", self.filters * 2**new, stride)
            self.end_points[f"Cell_{i}"] = x
            level, before = new, out
        x = relu(x)
        if self.head:
            x = self.classification_head(x, 4 * 2**level)
        self.end_points["final"] = x

    def cell(self, x, before, scope, filters, stride):
        if before.shape[1:3] != x.shape[1:3]:
            before = resize(before, x.shape[1:3])
        if before.shape[3] != filters:
            before = self.conv_bn(relu(before), f"{scope}/prev_1x1", f"{scope}/prev_bn", filters, 1)
        x = self.conv_bn(relu(x), f"{scope}/1x1", f"{scope}/beginning_bn", filters, 1)
        states = [x, before]
        for i in range(5):
            total = 0
            pair = self.genotype[2 * i : 2 * i + 2]
            for side, operand in zip(("left", "right"), pair, strict=True):
                kind, state = operand.split("@")
                total += self.operation(
                    states[int(state)],
                    kind,
                    f"{scope}/comb_iter_{i}/{side}",
                    filters,
                    stride if state in "01" else 1,
                )
            states.append(total)
        return np.concatenate(states[2:], axis=3)

    def operation(self, x, kind, scope, filters, stride):
        if kind == "none":
            if stride == 1:
                return x
            return self.conv_bn(relu(x), f"{scope}/1x1", f"{scope}/bn_1", filters, 1, stride=2)
        kind, k = kind[:3], int(kind[3])
        if kind == "max":
            return max_pool(x, k, stride)
        if kind == "atr":
            x = relu(x)
            if stride == 2:
                x = resize(x, [(side + 1) // 2 for side in x.shape[1:3]])
            names = f"{scope}/atrous_{k}x{k}", f"{scope}/bn_atr_{k}x{k}"
            return self.conv_bn(x, *names, filters, k, rate=3 - stride)
        for n in (1, 2):
            name = f"{scope}/separable_{k}x{k}_{n}"
            depthwise = self.weight(f"{name}/depthwise_weights", k, k, x.shape[3], 1)
            pointwise = self.weight(f"{name}/pointwise_weights", 1, 1, x.shape[3], filters)
            strides = [1, stride if n == 1 else 1, stride if n == 1 else 1, 1]
            x = tf.nn.depthwise_conv2d(pad(relu(x), k // 2), depthwise, strides, "VALID")
            x = tf.compat.v1.nn.conv2d(x, pointwise, padding="VALID").numpy()
            x = self.batch_norm(x, f"{scope}/bn_sep_{k}x{k}_{n}")
        return x

    def classification_head(self, x, stride):
        rate = 1
        while stride < 32:
            stride *= 2
            step = 2 if stride <= self.output_stride else 1
            rate = rate if step == 2 else 2 * rate
            name, filters = f"downsample_os{stride}", {16: 512, 32: 1024}[stride]
            x = self.conv_bn(x, f"{name}_conv", f"{name}_bn", filters, 3, stride=step, rate=rate)
            x = relu(x)
        x = self.conv_bn(x, "classification_head_conv", "classification_head_bn", 2048, 1)
        return relu(x)

    def conv_bn(self, x, name, batch_norm, filters, k, stride=1, rate=1):
        kernel = self.weight(f"{name}/weights", k, k, x.shape[3], filters)
        x = pad(x, rate * (k // 2))
        strides, rates = [1, stride, stride, 1], [1, rate, rate, 1]
        x = tf.compat.v1.nn.conv2d(x, kernel, strides, "VALID", dilations=rates)
        return self.batch_norm(x.numpy(), batch_norm)

    def batch_norm(self, x, name):
        gamma, beta, mean, variance = (
            self.weight(f"{name}/{kind}", x.shape[3])
            for kind in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return gamma * (x - mean) / np.sqrt(variance + np.float32(1e-3)) + beta

    def weight(self, name, *shape):
        name = f"{self.scope}/{name}"
        self.shapes[name] = list(shape)
        return make_weight(name, shape)


def relu(x):
    return np.maximum(x, 0)


def pad(x, size):
    return np.pad(x, [(0, 0), (size, size), (size, size), (0, 0)])


def resize(x, size):
    return tf.compat.v1.image.resize_bilinear(x, size, align_corners=True).numpy()


def max_pool(x, k, stride):
    """Window by window, with SAME's uneven padding."""
    excess = [max((-(-side // stride) - 1) * stride + k - side, 0) for side in x.shape[1:3]]
    around = [(total // 2, total - total // 2) for total in excess]
    x = np.pad(x, [(0, 0), *around, (0, 0)], constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(1, 2))
    return windows[:, ::stride, ::stride].max((-2, -1))


def build(variant: str, output_stride: int, **options: object) -> keras.Model:
    """Our encoder: pictures to its end points under the reference's names, weights by the rules."""
    record = nas.VARIANTS[variant]
    images = keras.Input((None, None, 3))
    features = record.build(record.normalize(images), output_stride=output_stride, **options)
    network = keras.Model(images, features.final)
    scope = variant.removeprefix("nas_")
    names = {"Stem": "conv2_bn"} | {f"Cell_{i}": f"cell_{i}.cell_output" for i in range(12)}
    outputs = {name: network.get_layer(f"{scope}.{ours}").output for name, ours in names.items()}
    low_level = {f"low_level_{stride}": x for stride, x in features.low_level.items()}
    model = keras.Model(images, outputs | low_level | {"final": features.final})
    for weight in model.weights:
        weight.assign(make_weight(reference_name(weight), weight.shape))
    return model


def options(filters: int = 3, head: bool = False, remove: bool = False, keep: float = 1.0) -> dict:
    values = (filters, head, remove, keep)
    return dict(zip(nas.VARIANTS["nas_pnasnet"].options, values, strict=True))


def error(ours: np.ndarray, theirs: np.ndarray) -> float:
    return np.abs(ours - theirs).max() / theirs.std()


@pytest.fixture(scope="module")
def hnasnet():
    """The recorded case, our network for it, and its end points."""
    facts, arrays = load_case("nas_hnasnet_os8")
    model = build("nas_hnasnet", 8, **options(filters=20))
    return facts, arrays, model, model(case_image(facts), training=False)


@pytest.mark.golden
def test_hnasnet_has_the_variables_of_the_reference(hnasnet):
    facts, _, model, _ = hnasnet
    theirs = {name: shape for name, shape in facts["variables"] if name.startswith("hnasnet/")}
    assert {reference_name(w): list(w.shape) for w in model.weights} == theirs


@pytest.mark.golden
def test_hnasnet_has_the_end_points_of_the_reference(hnasnet):
    facts, arrays, _, ours = hnasnet
    recorded = {k: v for k, v in facts["endpoints"].items() if k.startswith("backbone")}
    assert len(recorded) == 14
    for name, point in recorded.items():
        name = name.removeprefix("backbone_end_point:").replace("backbone_output", "final")
        x = np.asarray(ours[name])
        assert list(x.shape) == point["shape"], name
        probe = x[0, x.shape[1] // 2, x.shape[2] // 2, :4]
        differences = [x.mean() - point["mean"], x.std() - point["std"], *(probe - point["probe"])]
        assert np.abs(differences).max() < 5e-5 * point["std"], name
    channels = slice(None, None, int(arrays["backbone_channel_step"]))
    assert error(np.asarray(ours["final"])[..., channels], arrays["backbone_slice"]) < 5e-5


@pytest.mark.golden
def test_writing_it_out_gives_the_reference(hnasnet):
    """Which makes `WrittenOut` the judge of what is not recorded."""
    facts, arrays, _, _ = hnasnet
    written = WrittenOut("nas_hnasnet", 8, filters=20, head=False, remove=False)
    written.run(case_image(facts))
    assert written.shapes == {k: v for k, v in facts["variables"] if k.startswith("hnasnet/")}
    channels = slice(None, None, int(arrays["backbone_channel_step"]))
    assert error(written.end_points["final"][..., channels], arrays["backbone_slice"]) < 5e-5


@pytest.mark.parametrize(
    ("variant", "output_stride", "height", "width", "head", "remove"),
    [
        ("nas_pnasnet", 8, 65, 97, True, False),
        ("nas_pnasnet", 16, 100, 75, False, False),
        ("nas_pnasnet", 32, 97, 64, False, False),
        ("nas_hnasnet", 16, 100, 75, True, True),
    ],
)
def test_equals_the_network_written_out(variant, output_stride, height, width, head, remove):
    image = make_image(0, height, width)[None].astype(np.float32)
    written = WrittenOut(variant, output_stride, filters=3, head=head, remove=remove)
    written.run(image)
    model = build(variant, output_stride, **options(head=head, remove=remove))
    assert {reference_name(w): list(w.shape) for w in model.weights} == written.shapes
    ours = model(image, training=False)
    for stride, (name,) in END_POINTS[variant].items():
        written.end_points[f"low_level_{stride}"] = written.end_points[name]
    assert set(ours) == set(written.end_points)
    for name, theirs in written.end_points.items():
        assert error(np.asarray(ours[name]), theirs) < 5e-5, name


@pytest.fixture(scope="module")
def wide_pnasnet():
    """At the default width, with drop path."""
    return build("nas_pnasnet", 16, **options(filters=20, keep=0.4))


def test_pnasnet_has_the_parameters_of_its_genotype(wide_pnasnet):
    """Counted by hand: six separable stacks a cell, one convolution for each of its two inputs."""
    batch_norm = 4
    count = (9 * 3 + batch_norm) * 64 + (9 * 64 + batch_norm) * 64 + (9 * 64 + batch_norm) * 128
    inputs = [64, 128]
    for level in map(int, LEVELS["nas_pnasnet", 16]):
        width = 20 * 2**level
        for k in (5, 7, 5, 3, 3, 3):
            count += 2 * (k**2 + width + batch_norm) * width
        count += sum(channels + batch_norm for channels in inputs) * width
        inputs = [inputs[1], 5 * width]
    for width in (40, 80):  # the first cell of each level strides, its identity too
        count += (width + batch_norm) * width
    assert wide_pnasnet.count_params() == count


def test_paths_drop_more_in_deeper_cells(wide_pnasnet):
    """Every operand but the identity: 1 - (cell / cells) * (1 - 0.4) of them stay."""
    ours = {x.name: x.keep_prob for x in wide_pnasnet.layers if isinstance(x, DropPath)}
    expected = {
        f"pnasnet.cell_{cell}.comb_iter_{i}.{side}.drop_path": 1 - (cell + 1) / 12 * 0.6
        for cell in range(12)
        for i in range(5)
        for side in ("left", "right")
        if (i, side) != (4, "right")
    }
    assert ours == pytest.approx(expected)


def test_no_layer_is_added_when_all_paths_are_kept(hnasnet):
    assert not any(isinstance(layer, DropPath) for layer in hnasnet[2].layers)


@pytest.mark.parametrize(("progress", "kept"), [(1.0, 0.4), (lambda: tf.constant(0.25), 0.85)])
def test_drop_path_keeps_whole_examples_with_the_mean_unchanged(progress, kept):
    """As the reference: examples * floor(kept + uniform) / kept."""
    layer = DropPath(0.4, seed=0)
    layer.progress = progress
    examples = np.random.default_rng(0).uniform(1, 2, (20000, 2, 1, 3)).astype(np.float32)
    factors = np.asarray(layer(examples, training=True)) / examples
    np.testing.assert_allclose(factors, np.broadcast_to(factors[:, :1, :, :1], factors.shape), 1e-5)
    factors = factors[:, 0, 0, 0]
    np.testing.assert_allclose(factors[factors > 0], 1 / kept, rtol=1e-5)
    share = np.mean(factors > 0)
    assert abs(share - kept) < 4 * np.sqrt(kept * (1 - kept) / len(factors))


def test_drop_path_does_nothing_but_in_training():
    x = np.ones((100, 1, 1, 1), np.float32)
    layer = DropPath(0.5)
    np.testing.assert_array_equal(layer(x, training=False), x)
    layer.progress = 0.0
    np.testing.assert_array_equal(layer(x, training=True), x)


def test_drop_path_follows_progress_within_one_trace():
    step = tf.Variable(0.0)
    layer = DropPath(0.5, seed=0)
    layer.progress = lambda: step / 10
    compiled = tf.function(functools.partial(layer, training=True))
    x = tf.ones((1000, 1, 1, 1))
    assert tf.reduce_all(compiled(x) == 1)
    step.assign(10)
    assert 0.4 < np.mean(compiled(x) == 0) < 0.6
    assert compiled.experimental_get_tracing_count() == 1


def test_drop_path_survives_saving():
    layer = DropPath.from_config(DropPath(0.3, seed=5).get_config())
    assert (layer.keep_prob, layer.seed) == (0.3, 5)


def test_weights_start_as_in_the_reference():
    """Uniform within 1 / sqrt(fan in): variance_scaling_initializer(1 / 3, FAN_IN, uniform)."""
    record = nas.VARIANTS["nas_hnasnet"]
    short = record.build.keywords["architecture"]._replace(levels={8: (0, 1)}, low_level={})
    images = keras.Input((None, None, 3))
    features = record.build(images, architecture=short, output_stride=8, **options(filters=20))
    kernels = [w for w in keras.Model(images, features.final).weights if w.name.endswith("kernel")]
    for kernel in kernels:
        scaled = np.asarray(kernel) * np.sqrt(np.prod(kernel.shape[:3]))
        assert 0.9 < np.abs(scaled).max() <= 1
        assert abs(scaled.std() - 3**-0.5) < 0.1
    assert {kernel.name for kernel in kernels} == {"kernel", "depthwise_kernel", "pointwise_kernel"}


def test_batch_norm_averages_as_slowly_as_in_the_reference(hnasnet):
    layers = [x for x in hnasnet[2].layers if isinstance(x, keras.layers.BatchNormalization)]
    assert {(layer.momentum, layer.epsilon) for layer in layers} == {(0.9997, 1e-3)}


@pytest.mark.parametrize("output_stride", [16, 32])
def test_hnasnet_has_one_output_stride(output_stride):
    with pytest.raises(ValueError, match=r"hnasnet ends at stride 8: set output_stride=8"):
        build("nas_hnasnet", output_stride, **options())


@pytest.mark.parametrize("keep", [0.0, 1.5])
def test_drop_path_keep_prob_out_of_range(keep):
    with pytest.raises(ValueError, match=rf"drop_path_keep_prob is {keep}; expected above 0"):
        build("nas_pnasnet", 16, **options(keep=keep))
