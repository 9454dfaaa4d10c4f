"""Scores of a split against counting by hand; what is scored is what is predicted."""

import dataclasses

import keras
import numpy as np
import pytest

from deeplab_tf import InferenceConfig, build_deeplab, crf
from deeplab_tf.backbones import get_backbone
from deeplab_tf.config import CRFParams
from deeplab_tf.evaluation.run import evaluate
from deeplab_tf.inference import predict
from deeplab_tf.predictors import label_predictor, network_config, probability_predictor
from tests import golden_cases, tiny_run


def random_examples(count, *, num_classes, ignore_label):
    """Images of several sizes whose first channel is a label map with mistakes: a prediction."""
    rng = np.random.default_rng(count)
    for _ in range(count):
        size = rng.integers(3, 20, 2)
        label = rng.integers(0, num_classes - 1, size, dtype=np.uint8)  # the last one in no label
        prediction = np.where(rng.random(size) < 0.4, rng.integers(0, num_classes, size), label)
        label[rng.random(size) < 0.2] = ignore_label
        yield {"image": prediction.astype(np.uint8)[..., None].repeat(3, axis=2), "label": label}


@pytest.mark.parametrize("ignore_label", [255, 1])
def test_scores_equal_counting_by_hand(ignore_label):
    num_classes = 5
    examples = list(random_examples(6, num_classes=num_classes, ignore_label=ignore_label))
    scores = evaluate(
        lambda image: image[..., 0].astype(np.int32),
        iter(examples),
        num_classes=num_classes,
        ignore_label=ignore_label,
    )

    # Over all pixels of the split at once: a mean over images would be another number.
    labels = np.concatenate([example["label"].ravel() for example in examples])
    predictions = np.concatenate([example["image"][..., 0].ravel() for example in examples])
    valid = labels != ignore_label
    labels, predictions = labels[valid], predictions[valid]
    iou, of_class = {}, {}
    for c in range(num_classes):
        of_class[c] = (labels == c).sum()
        union = ((labels == c) | (predictions == c)).sum()
        if union:
            iou[c] = ((labels == c) & (predictions == c)).sum() / union
    assert scores.mean_iou == pytest.approx(np.mean(list(iou.values())))
    assert scores.pixel_accuracy == pytest.approx((labels == predictions).mean())
    assert scores.pixels == tuple(of_class.values())
    expected = [iou[c] if of_class[c] else np.nan for c in range(num_classes)]
    np.testing.assert_allclose(scores.iou, expected)


@pytest.mark.parametrize("crop_size", [None, (65, 33)])
def test_label_predictor_equals_predict(crop_size):
    model = tiny_run.random_network()
    predict_labels = label_predictor(model, tiny_run.MODEL, InferenceConfig(crop_size))
    seen = set()
    for seed in range(3):
        image, _ = tiny_run.scene(seed)
        labels = predict_labels(image)
        expected = predict(
            model,
            image[None],
            output_stride=16,
            mean_pixel=get_backbone("mobilenet_v2").mean_pixel,
            crop_size=crop_size,
        ).labels[0]
        assert isinstance(labels, np.ndarray)
        np.testing.assert_array_equal(labels, expected)
        seen |= set(np.unique(labels))
    assert len(seen) > 1


def test_labels_chosen_at_the_stride_of_the_logits_are_repeated():
    config = dataclasses.replace(tiny_run.MODEL, prediction_with_upsampled_logits=False)
    model, image = tiny_run.random_network(), tiny_run.scene(0)[0][:33, :33]
    labels = label_predictor(model, config, InferenceConfig())(image)
    logits = keras.Model(model.input, model.get_layer("logits").output)(image[None])
    coarse = np.asarray(logits)[0].argmax(-1)
    assert coarse.shape == (9, 9)
    nearest = np.floor(np.arange(33) * 8 / 32 + 0.5).astype(int)
    np.testing.assert_array_equal(labels, coarse[nearest][:, nearest])
    assert (labels != label_predictor(model, tiny_run.MODEL, InferenceConfig())(image)).any()


@pytest.mark.parametrize(("scales", "side"), [((1.0,), 65), ((0.5, 1.0), 129)])
def test_an_image_smaller_than_the_window_of_image_pooling_is_padded(scales, side):
    config = dataclasses.replace(tiny_run.MODEL, image_pooling_crop_size=(65, 65))
    model = build_deeplab(config)
    golden_cases.set_case_weights(model)
    image, _ = tiny_run.scene(0)
    inference = InferenceConfig(eval_scales=scales)
    padded = InferenceConfig(crop_size=(side, side), eval_scales=scales)
    labels = label_predictor(model, config, inference)(image)
    np.testing.assert_array_equal(labels, label_predictor(model, config, padded)(image))


def test_several_scales_leave_the_image_pyramid_out():
    config = dataclasses.replace(tiny_run.MODEL, image_pyramid=(0.5, 1.0))
    assert network_config(config, InferenceConfig()) == config
    for inference in (
        InferenceConfig(eval_scales=(0.5,)),
        InferenceConfig(add_flipped_images=True),
    ):
        assert network_config(config, inference) == tiny_run.MODEL


CRF = CRFParams(pos_w=2, pos_xy=2, bi_w=5, bi_xy=20, bi_rgb=20, iterations=3)


@pytest.mark.parametrize("size", [None, (30, 71)])
def test_the_crf_sees_image_and_probabilities_at_one_size(size):
    """That of the image that is given; the network may see it at another one."""
    model, image = tiny_run.random_network(), tiny_run.scene(0)[0]
    resized = {} if size is None else {"min_resize_value": size[0], "max_resize_value": size[1]}
    inference = InferenceConfig(**resized, crf=CRF)
    labels = label_predictor(model, tiny_run.MODEL, inference)(image)
    probabilities = probability_predictor(model, tiny_run.MODEL, inference)(image)
    assert probabilities.shape == (*image.shape[:2], 3)
    assert labels.dtype == np.int32
    refined = crf.dense_crf(image, probabilities, CRF)
    np.testing.assert_array_equal(labels, refined.argmax(-1))
    assert (labels != probabilities.argmax(-1)).mean() > 0.05
    plain = dataclasses.replace(inference, crf=None)
    before = label_predictor(model, tiny_run.MODEL, plain)(image)
    if size is None:  # resized labels are repeated, resized probabilities interpolated
        np.testing.assert_array_equal(before, probabilities.argmax(-1))


def test_the_crf_sees_a_resized_image_rounded():
    """As the examples of records come that are resized to a range."""
    model, image = tiny_run.random_network(), tiny_run.scene(0)[0]
    resized = image + np.random.default_rng(0).uniform(-0.49, 0.49, image.shape)
    resized = resized.clip(0, 255).astype(np.float32)
    inference = InferenceConfig(min_resize_value=30, crf=CRF)
    labels = label_predictor(model, tiny_run.MODEL, inference, resize=False)(resized)
    predict_probabilities = probability_predictor(model, tiny_run.MODEL, inference, resize=False)
    refined = crf.dense_crf(image, predict_probabilities(resized), CRF)
    np.testing.assert_array_equal(labels, refined.argmax(-1))
