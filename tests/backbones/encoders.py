"""Encoders alone, built and compared for the tests beside this file."""

import itertools
import json

import keras
import numpy as np

from deeplab_tf import ModelConfig
from deeplab_tf.backbones import Features, get_backbone
from deeplab_tf.weights import reference_name
from tests import golden_cases
from tests.golden.rules import make_image

DECODER_END_POINTS = json.loads((golden_cases.FOLDER / "facts_preprocess.json").read_text())[
    "decoder_end_points"
]


def build_encoder(config: ModelConfig) -> tuple[keras.Model, Features]:
    """The encoder of a config as a model from images in [0, 255] to its final features."""
    backbone = get_backbone(config.model_variant)
    images = keras.Input((None, None, 3))
    options = {option: getattr(config, option) for option in backbone.options}
    normalized = backbone.normalize(images)
    features = backbone.build(normalized, output_stride=config.output_stride, **options)
    return keras.Model(images, features.final), features


def assert_equals_the_reference(case: str, tolerance: float = 1e-4) -> None:
    """Variables, every end point in its order, and the features of a recorded case.

    Errors are over the standard deviation; 1e-4 tells 0.16667 from 1 / 6 in MobileNetV3's gates.
    """
    facts, arrays = golden_cases.load_case(case)
    config = golden_cases.case_config(facts)
    model, features = build_encoder(config)
    root = model.weights[0].path.split(".")[0]
    ours = {reference_name(w): list(w.shape) for w in model.weights}
    assert ours == {name: shape for name, shape in facts["variables"] if name.startswith(root)}
    assert_low_level_features(model, features, DECODER_END_POINTS.get(config.model_variant, {}))

    golden_cases.set_case_weights(model)
    recorded = {
        name.partition(":")[2]: facts["endpoints"][name]
        for name in facts["endpoints"]
        if name.startswith("backbone_end_point:")
    }
    tensors = [golden_cases.end_point(model, name) for name in recorded]
    image = golden_cases.case_image(facts)
    *values, final = keras.Model(model.input, [*tensors, model.output])(image, training=False)
    for (name, expected), tensor in zip(recorded.items(), values, strict=True):
        value = np.asarray(tensor, np.float64)
        row, column = value.shape[1] // 2, value.shape[2] // 2
        errors = [
            value.mean() - expected["mean"],
            value.std() - expected["std"],
            np.abs(value).max() - expected["absmax"],
            *(value[0, row, column, :4] - expected["probe"]),
        ]
        assert list(value.shape) == expected["shape"], name
        assert np.abs(errors).max() < tolerance * expected["std"], name
    channels = np.asarray(final)[..., :: int(arrays["backbone_channel_step"])]
    expected = arrays["backbone_slice"]
    np.testing.assert_allclose(channels, expected, rtol=0, atol=tolerance * expected.std())


def assert_low_level_features(
    model: keras.Model, features: Features, end_points: dict[str, list[str]]
) -> None:
    """The features for the decoder are the end points listed by stride."""
    for stride, [name] in end_points.items():
        assert features.low_level[int(stride)] is golden_cases.end_point(model, name), (
            stride,
            name,
        )


def assert_atrous_consistency(
    config: ModelConfig, output_strides: tuple[int, ...] = (8, 16, 32)
) -> None:
    """The same weights give the same features at every output stride, where the grids meet."""
    image = make_image(0, 65, 97)[None].astype(np.float32)
    features = []
    for output_stride in output_strides:
        model, _ = build_encoder(config.at_output_stride(output_stride))
        golden_cases.set_case_weights(model)
        for weight in model.weights:
            if "squeeze_excite" in weight.path and len(weight.shape) > 1:
                weight.assign(np.zeros(weight.shape))  # a mean over another grid is another mean
        features.append(np.asarray(model(image, training=False)))
    for fine, coarse in itertools.pairwise(features):
        scale = coarse.std()
        assert scale > 0
        np.testing.assert_allclose(fine[:, ::2, ::2], coarse, rtol=0, atol=1e-4 * scale)
