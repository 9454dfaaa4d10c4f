"""The dense CRF as a graph gives what pydensecrf gave, in everything that can load a graph."""

import functools
import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from deeplab_tf.crf.graph import dense_crf_graph

GOLDEN = Path(__file__).parent.parent / "golden" / "crf"
V2 = {"pos_w": 3.0, "pos_xy": 1.0, "bi_w": 4.0, "bi_xy": 67.0, "bi_rgb": 3.0}
SIGNATURE = [
    tf.TensorSpec([None, None, None, 3], tf.uint8, name="images"),
    tf.TensorSpec([None, None, None, None], tf.float32, name="probabilities"),
]
# Height, width and classes of batches of two.
SIZES = [(24, 32, 3), (17, 9, 8), (1, 40, 2), (1, 1, 21)]

# Nothing of this package.
SERVE_ELSEWHERE = """
import sys
import numpy as np
import tensorflow as tf

folder, frozen_file, inputs_file, results_file = sys.argv[1:]
inputs, results = dict(np.load(inputs_file)), {}
count = len(inputs) // 2
batches = [(inputs[f"images{i}"], inputs[f"probabilities{i}"]) for i in range(count)]

served = tf.saved_model.load(folder).signatures["serving_default"]
for i, (images, probabilities) in enumerate(batches):
    outputs = served(images=tf.constant(images), probabilities=tf.constant(probabilities))
    results[f"tf2/{i}"] = outputs["refined"].numpy()

def run_all(session, name, inputs, output):
    for i, batch in enumerate(batches):
        results[f"{name}/{i}"] = session.run(output, dict(zip(inputs, batch)))

with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    loaded = tf.compat.v1.saved_model.load(session, ["serve"], folder)
    signature = loaded.signature_def["serving_default"]
    names = [signature.inputs[name].name for name in ("images", "probabilities")]
    run_all(session, "tf1", names, signature.outputs["refined"].name)

with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    definition = tf.compat.v1.GraphDef.FromString(open(frozen_file, "rb").read())
    tf.import_graph_def(definition, name="")
    run_all(session, "frozen", ["images:0", "probabilities:0"], "refined:0")

assert "deeplab_tf" not in sys.modules
np.savez(results_file, **results)
"""


def load_synth():
    spec = importlib.util.spec_from_file_location("synth", GOLDEN / "synth.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


synth = load_synth()


@functools.cache
def compiled(iterations, **settings):
    """The CRF, V2 if not told otherwise, traced for unknown sizes."""

    @tf.function(input_signature=SIGNATURE)
    def function(images, probabilities):
        return dense_crf_graph(images, probabilities, iterations=iterations, **V2 | settings)

    return function


def refine(image, probabilities, iterations, **settings):
    return compiled(iterations, **settings)(image[None], probabilities[None])[0].numpy()


def random_batch(height, width, classes, seed=0):
    """Two images whose neighbours are alike, and probabilities."""
    cases = [synth.make_case(height, width, classes, seed + i) for i in range(2)]
    return tuple(np.stack(parts) for parts in zip(*cases, strict=True))


@pytest.mark.golden
@pytest.mark.parametrize(
    "name", ["tiny_c3", "small_c2_v2", "small_c21_v2", "odd_c5_v2", "mid_c2_v1", "big_c21_v2"]
)
def test_golden(name):
    """Within the bounds of the golden data's README."""
    golden = np.load(GOLDEN / f"{name}.npz")
    case = next(case for case in synth.CASES if case[0] == name)
    image, probabilities = synth.make_case(*case[1:6])
    params = dict(zip(V2, map(float, golden["params"]), strict=True))
    settings = {name: value for name, value in params.items() if value != V2[name]}

    # Large cases are recorded at every fourth or eighth pixel only.
    suffix, stride = {"mid": ("_ds4", 4), "big": ("_ds8", 8)}.get(name.split("_")[0], ("", 1))
    first = refine(image, probabilities, 1, **settings)
    error = np.abs(first[::stride, ::stride] - golden[f"Q_iter1{suffix}"])
    assert error.max() <= 5e-5

    last = refine(image, probabilities, 10, **settings)
    error = np.abs(last[::stride, ::stride] - golden[f"Q{suffix}"])
    assert np.quantile(error, 0.9999) <= 1e-4 and error.mean() <= 1e-6
    clear = golden["margin_f16"] > 1e-2
    np.testing.assert_array_equal(last.argmax(-1)[clear], golden["argmax"][clear])
    np.testing.assert_allclose(last.sum(-1), 1, rtol=1e-6)


def test_near_brute_force():
    """As near as pydensecrf's lattice is to the exact mean field."""
    golden = np.load(GOLDEN / "tiny_c3.npz")
    refined = refine(golden["image"], golden["prob"], 1)
    error = np.abs(refined - golden["Q_exact_iter1"])
    assert error.mean() <= 0.008 and error.max() <= 0.2


def test_without_messages_only_normalizes():
    image, probabilities = synth.make_case(6, 7, 4, 0)
    for iterations, settings in ((0, {}), (1, {"pos_w": 0.0, "bi_w": 0.0})):
        refined = refine(image, probabilities * 0.5, iterations, **settings)
        np.testing.assert_allclose(refined, probabilities, atol=1e-4)


def test_images_of_a_batch_do_not_meet():
    images, probabilities = random_batch(24, 32, 5)
    function = compiled(10)
    batch = function(images, probabilities).numpy()
    singles = [function(images[i : i + 1], probabilities[i : i + 1])[0] for i in range(2)]
    np.testing.assert_array_equal(batch, np.stack(singles))
    assert np.abs(batch[0] - batch[1]).max() > 0.5


@pytest.mark.parametrize("size", SIZES)
def test_eager_equals_compiled(size):
    """Eager products are oneDNN's, compiled ones are Eigen's."""
    images, probabilities = random_batch(*size)
    expected = compiled(1)(images, probabilities)
    eager = dense_crf_graph(images, probabilities, iterations=1, **V2)
    np.testing.assert_allclose(eager, expected, atol=1e-5)


def test_float_images_are_rounded():
    images, probabilities = random_batch(9, 14, 3)
    expected = compiled(1)(images, probabilities)
    floats = images + np.float32(0.4)
    refined = dense_crf_graph(floats, probabilities, iterations=1, **V2)
    np.testing.assert_allclose(refined, expected, atol=1e-5)


def test_static_shape_is_kept():
    specs = [tf.TensorSpec([2, 5, None, channels]) for channels in (3, 4)]
    function = tf.function(lambda *args: dense_crf_graph(*args, iterations=1, **V2))
    assert function.get_concrete_function(*specs).output_shapes.as_list() == [2, 5, None, 4]


@pytest.mark.parametrize("name", ["pos_xy", "bi_xy", "bi_rgb"])
def test_deviations_that_keys_cannot_hold(name):
    image, probabilities = synth.make_case(40, 40, 2, 0)
    batch, settings = (image[None], probabilities[None]), V2 | {"iterations": 1}
    assert np.isfinite(dense_crf_graph(*batch, **settings | {name: 0.05})).all()
    for deviation in (1e-6, 1e-30, 1e-44):
        with pytest.raises(tf.errors.InvalidArgumentError, match="deviations of the dense CRF"):
            dense_crf_graph(*batch, **settings | {name: deviation})
    with pytest.raises(tf.errors.InvalidArgumentError, match="deviations of the dense CRF"):
        refine(image, probabilities, 1, **{name: 1e-44})


def test_served_elsewhere(tmp_path):
    """By TensorFlow 2, by a TF1 session, and frozen, each without this package."""
    module = tf.Module()

    @tf.function(input_signature=SIGNATURE)
    def serve(images, probabilities):
        return {"refined": tf.identity(compiled(10)(images, probabilities), "refined")}

    module.serve = serve
    tf.saved_model.save(module, tmp_path / "saved", signatures=serve)
    frozen = convert_variables_to_constants_v2(serve.get_concrete_function())
    (tmp_path / "frozen.pb").write_bytes(frozen.graph.as_graph_def().SerializeToString())
    batches = [random_batch(*size, seed=i) for i, size in enumerate(SIZES)]
    np.savez(
        tmp_path / "inputs.npz",
        **{f"images{i}": images for i, (images, _) in enumerate(batches)},
        **{f"probabilities{i}": probabilities for i, (_, probabilities) in enumerate(batches)},
    )

    files = ["saved", "frozen.pb", "inputs.npz", "results.npz"]
    subprocess.run([sys.executable, "-c", SERVE_ELSEWHERE, *files], cwd=tmp_path, check=True)
    results = np.load(tmp_path / "results.npz")
    assert len(results) == 3 * len(SIZES)
    for i, batch in enumerate(batches):
        expected = serve(*batch)["refined"]
        for server in ("tf2", "tf1", "frozen"):
            np.testing.assert_array_equal(results[f"{server}/{i}"], expected)
