"""Pictures of predictions: what they show, that nothing is cut off, and the files written."""

import cv2
import numpy as np
import pytest
from PIL import Image

from deeplab_tf.colormap import VOID_COLOR, colorize
from deeplab_tf.visualization.run import overlay, panel, visualize_predictions

NAMES = ("sky", "road", "car", "bird")
PALETTE = ((10, 20, 230), (120, 60, 120), (0, 140, 10), (250, 200, 0))
STYLE = {"class_names": NAMES, "palette": PALETTE}


def scene(height, width, seed=0):
    """A noise image, a prediction of sky, road and car, and a label that has void as well."""
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    prediction = np.zeros((height, width), np.uint8)
    prediction[height // 2 :] = 1
    prediction[height // 2 :, width // 2 :] = 2
    label = prediction.copy()
    label[: height // 2, : width // 2] = 255
    label[-height // 4 :] = 1
    return image, prediction, label


def find(picture, part):
    """Returns (top, left) of the place where `part` lies in `picture`, pixel by pixel."""
    score = cv2.matchTemplate(picture, part, cv2.TM_SQDIFF)
    top, left = np.unravel_index(score.argmin(), score.shape)
    height, width = part.shape[:2]
    np.testing.assert_array_equal(picture[top : top + height, left : left + width], part)
    return top, left


def has_color(picture, color):
    return (picture == color).all(axis=-1).any()


def assert_margin_is_blank(picture):
    for edge in (picture[:8], picture[-8:], picture[:, :8], picture[:, -8:]):
        assert (edge == 255).all()


def test_overlay_blends():
    image, prediction, _ = scene(12, 16)
    blended = overlay(image, prediction, PALETTE, alpha=0.3)
    expected = 0.7 * image + 0.3 * colorize(prediction, PALETTE)
    np.testing.assert_allclose(blended, expected, atol=0.51)


def test_panel_shows_input_truth_and_prediction_side_by_side():
    image, prediction, label = scene(260, 300)
    drawn = panel(image, prediction, label=label, ignore_label=255, **STYLE)
    top, left = find(drawn, image)
    truth = find(drawn, colorize(label, PALETTE, ignore_label=255))
    predicted = find(drawn, colorize(prediction, PALETTE))
    assert truth[0] == predicted[0] == top
    assert left + 300 < truth[1] and truth[1] + 300 < predicted[1]
    assert_margin_is_blank(drawn)


def test_legend_holds_the_classes_that_occur():
    image, prediction, label = scene(260, 300)
    label[0, 0] = 3
    drawn = panel(image, prediction, label=label, ignore_label=255, **STYLE)
    legend = drawn[find(drawn, image)[0] + 260 :]
    assert all(has_color(legend, color) for color in (*PALETTE, VOID_COLOR))
    drawn = panel(image, prediction, **STYLE)
    legend = drawn[find(drawn, image)[0] + 260 :]
    assert all(has_color(legend, color) for color in PALETTE[:3])
    assert not has_color(legend, PALETTE[3]) and not has_color(legend, VOID_COLOR)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (1, 1), (3, 300), (3000, 4000)])
def test_panel_fits_any_size(height, width):
    image, prediction, label = scene(height, width)
    drawn = panel(image, prediction, label=label, ignore_label=255, **STYLE)
    assert max(drawn.shape[:2]) < 4100
    assert_margin_is_blank(drawn)
    if height == width == 32:
        find(drawn, image.repeat(8, axis=0).repeat(8, axis=1))
    if height == 3000:
        reduced = cv2.resize(image, (1280, 960), interpolation=cv2.INTER_AREA)
        find(drawn, np.ascontiguousarray(reduced[-50:, -50:]))


def test_long_class_names_are_not_cut_off():
    image, prediction, _ = scene(32, 32)
    ink = []
    for length in (50, 100, 150):
        names = ("W" * length, *NAMES[1:])
        drawn = panel(image, prediction, class_names=names, palette=PALETTE)
        assert_margin_is_blank(drawn)
        ink.append((drawn[8 * 32 + 40 :] < 128).sum())
    # Every letter brings its ink.
    assert ink[2] - ink[1] == pytest.approx(ink[1] - ink[0], rel=0.02)


def test_an_ignored_class_id_is_void_in_the_truth_only():
    image, prediction, label = scene(260, 300)
    label[label == 255] = 0
    drawn = panel(image, prediction, label=label, ignore_label=0, **STYLE)
    find(drawn, colorize(label, PALETTE, ignore_label=0))
    find(drawn, colorize(prediction, PALETTE))


def test_wrong_input_is_an_error():
    image, prediction, label = scene(12, 16)
    with pytest.raises(ValueError, match=r"prediction is \(16, 12\) but the image \(12, 16\)"):
        panel(image, prediction.T, **STYLE)
    with pytest.raises(ValueError, match="label is"):
        panel(image, prediction, label=label[1:], **STYLE)
    with pytest.raises(ValueError, match="prediction to be integer class ids, found float32"):
        panel(image, prediction.astype(np.float32), **STYLE)
    with pytest.raises(ValueError, match="uint8 image"):
        overlay(image / 255, prediction, PALETTE)
    with pytest.raises(ValueError, match="Label 4 has no colour"):
        panel(image, prediction + 2, **STYLE)


def by_first_pixel(image):
    """A stand-in for a model: the prediction of `scene`, shifted by the image's own content."""
    return (scene(*image.shape[:2])[1] + image[0, 0, 0] % 2).astype(np.int64)


def example(name, *, seed=0, size=(20, 30)):
    image, _, label = scene(*size, seed)
    return {"filename": name, "image": image, "label": label}


def files_below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))


def test_files_of_one_example(tmp_path):
    shown = example("street.0001.jpg")
    expected = by_first_pixel(shown["image"])
    visualize_predictions(
        [shown],
        by_first_pixel,
        output_dir=tmp_path / "out",
        ignore_label=255,
        save_raw=True,
        **STYLE,
    )
    assert files_below(tmp_path / "out") == [
        "raw_segmentation_results/street.0001.png",
        "street.0001_overlay.png",
        "street.0001_panel.png",
        "street.0001_prediction.png",
    ]
    with Image.open(tmp_path / "out" / "street.0001_prediction.png") as written:
        np.testing.assert_array_equal(written, expected)
        np.testing.assert_array_equal(written.convert("RGB"), colorize(expected, PALETTE))
    raw = tmp_path / "out" / "raw_segmentation_results" / "street.0001.png"
    np.testing.assert_array_equal(Image.open(raw), expected)
    np.testing.assert_array_equal(
        Image.open(tmp_path / "out" / "street.0001_overlay.png"),
        overlay(shown["image"], expected, PALETTE),
    )
    np.testing.assert_array_equal(
        Image.open(tmp_path / "out" / "street.0001_panel.png"),
        panel(shown["image"], expected, label=shown["label"], ignore_label=255, **STYLE),
    )


def test_raw_predictions_with_other_ids(tmp_path):
    """As Cityscapes' test server wants them."""
    shown = example("a.png")
    visualize_predictions(
        [shown],
        by_first_pixel,
        output_dir=tmp_path / "out",
        ignore_label=255,
        save_raw=True,
        raw_ids=range(7, 7 + len(NAMES)),
        **STYLE,
    )
    expected = by_first_pixel(shown["image"]) + 7
    with Image.open(tmp_path / "out/raw_segmentation_results/a.png") as written:
        np.testing.assert_array_equal(written, expected)


def test_names_stay_apart_and_inside_the_folder(tmp_path):
    names = ["a/1.jpg", b"b/1.jpg", "a/1.png", "a/1_2", "../../up.png", "/abs/x.jpg", "v1.5", ""]
    output_dir = tmp_path / "deep" / "out"
    summary = visualize_predictions(
        map(example, names), by_first_pixel, output_dir=output_dir, ignore_label=255, **STYLE
    )
    stems = ["a/1", "a/1_2", "a/1_2_2", "b/1", "image", "up", "v1.5", "x"]
    kinds = ["overlay", "panel", "prediction"]
    expected = sorted(f"{stem}_{kind}.png" for stem in stems for kind in kinds)
    assert files_below(output_dir) == expected
    assert files_below(tmp_path) == [f"deep/out/{name}" for name in expected]
    assert summary.count == len(names)


def test_examples_are_taken_one_at_a_time(tmp_path):
    def examples():
        for i in range(3):
            assert len(files_below(tmp_path)) == 3 * i
            yield example(f"{i}", seed=i)

    summary = visualize_predictions(
        examples(), by_first_pixel, output_dir=tmp_path, ignore_label=255, total=3, **STYLE
    )
    expected = sum(
        np.bincount(by_first_pixel(example("", seed=i)["image"]).ravel(), minlength=4)
        for i in range(3)
    )
    assert summary.pixels == tuple(expected)


def test_examples_without_label_and_of_many_sizes(tmp_path):
    sizes = [(20, 30), (33, 17), (1, 5)]
    examples = [{"filename": f"{s}", "image": example("", size=s)["image"]} for s in sizes]
    summary = visualize_predictions(
        examples, by_first_pixel, output_dir=tmp_path, ignore_label=None, **STYLE
    )
    assert summary.count == 3
    assert sum(summary.pixels) == sum(height * width for height, width in sizes)


def test_a_used_folder_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(FileExistsError, match="not empty"):
        visualize_predictions(
            [example("a")], by_first_pixel, output_dir=tmp_path, ignore_label=255, **STYLE
        )
    assert files_below(tmp_path) == ["mine.txt"]


def test_an_error_names_the_example(tmp_path):
    with pytest.raises(ValueError, match=r"^a/bad\.jpg: The prediction is"):
        visualize_predictions(
            [example("a/bad.jpg")],
            lambda image: by_first_pixel(image)[1:],
            output_dir=tmp_path,
            ignore_label=255,
            **STYLE,
        )
    assert files_below(tmp_path) == []


def test_summary_warns_of_a_single_class(tmp_path):
    summaries = [
        visualize_predictions(
            [example("a"), example("b")], predict, output_dir=tmp_path / name, ignore_label=255,
            **STYLE,
        )
        for name, predict in [
            ("good", lambda image: scene(20, 30)[1]),
            ("bad", lambda image: np.full((20, 30), 1)),
        ]
    ]  # fmt: skip
    good, bad = map(str, summaries)
    assert good.splitlines() == [
        "2 images, 3 of 4 classes predicted:",
        "   50.00%  sky",
        "   25.00%  road",
        "   25.00%  car",
    ]
    assert 'WARNING: every pixel is "road". Likely causes:' in bad
