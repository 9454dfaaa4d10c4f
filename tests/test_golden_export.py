"""What is exported, against what the reference's frozen graphs returned."""

import json

import numpy as np
import pytest
from keras import ops

from deeplab_tf import InferenceConfig, ModelConfig, build_deeplab
from deeplab_tf.predictors import image_predictor, network_config
from tests import golden_cases
from tests.golden.rules import make_image

FACTS = json.loads((golden_cases.FOLDER / "facts_export.json").read_text())
CASES = [case for case in FACTS if case.startswith("export_")]
INFERENCE_FLAGS = {
    "crop_size": "crop_size",
    "min_resize_value": "min_resize_value",
    "max_resize_value": "max_resize_value",
    "resize_factor": "resize_factor",
    "inference_scales": "eval_scales",
    "add_flipped_images": "add_flipped_images",
}


@pytest.mark.golden
@pytest.mark.parametrize("case", CASES)
def test_equals_the_reference(case, record_golden_error):
    seed, height, width = map(int, FACTS[case]["input"].split("(")[1].split(")")[0].split(","))
    model_flags, inference_flags = {}, {}
    for name, value in FACTS[case]["flags"].items():
        if name == "decoder_output_stride":  # a list flag, of strings
            value = list(map(int, value))
        value = tuple(value) if isinstance(value, list) else value
        if name in INFERENCE_FLAGS:
            inference_flags[INFERENCE_FLAGS[name]] = value
        else:
            model_flags[name] = value
    inference = InferenceConfig(**inference_flags)
    config = network_config(ModelConfig(**model_flags), inference)
    model = build_deeplab(config)
    golden_cases.set_case_weights(model)

    image = make_image(seed, height, width)[None]
    labels, probabilities = map(np.asarray, image_predictor(model, config, inference)(image))

    with np.load(golden_cases.FOLDER / "facts_export.npz") as arrays:
        recorded_labels = arrays[f"{case}_pred"]
        recorded_probabilities = arrays[f"{case}_prob_stride2"]
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)
    if "inference_scales" in FACTS[case]["flags"]:
        probabilities = np.asarray(ops.softmax(probabilities))  # the reference's mistake
    error = np.abs(probabilities[:, ::2, ::2] - recorded_probabilities).max()
    agreement = (labels == recorded_labels).mean()
    record_golden_error(case, error / recorded_probabilities.std(), agreement)
    assert error < 1e-5
    assert agreement > 0.999
