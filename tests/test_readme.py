"""The README's commands, run as they stand: on a small folder of images, and for fewer steps."""

import re
import runpy
import shlex
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.test_cli import run

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

# A reader's training takes minutes to hours; the commands are otherwise the README's.
SHORTER = {
    "--training_number_of_steps=3000": "--training_number_of_steps=2",
    "--train_crop_size=257,257": "--train_crop_size=33,33 --train_batch_size=2",
}


def test_the_commands_for_your_own_images(tmp_path, monkeypatch):
    """From a folder of images and masks to a SavedModel, one script after the other.

    All in this process: importing TensorFlow would take most of the time.
    """
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / "my" / folder).mkdir(parents=True)
    for i in range(10):
        labels = np.zeros((40, 50), np.uint8)
        labels[:, : 10 + i] = 1
        image = np.where(labels[..., None] == 1, 200, 50) + rng.integers(0, 50, (40, 50, 3))
        Image.fromarray(image.astype(np.uint8)).save(tmp_path / f"my/images/{i}.jpg")
        Image.fromarray(labels).save(tmp_path / f"my/masks/{i}.png")

    commands = "\n".join(_blocks("bash")).replace("\\\n", " ")
    for full, shorter in SHORTER.items():
        assert full in commands
        commands = commands.replace(full, shorter)
    monkeypatch.chdir(tmp_path)
    for command in filter(None, commands.splitlines()):
        python, *arguments = shlex.split(command)
        assert python == "python"
        if arguments[0] == "-m":
            _, script, *arguments = arguments
            start = partial(runpy.run_module, script, run_name="__main__")
        else:
            script, *arguments = arguments
            start = partial(runpy.run_path, str(ROOT / script), run_name="__main__")
        done = run(script, *arguments, call=start)
        assert done.code == 0, f"{command}\n{done.err[-2000:]}"
    assert (tmp_path / "my/model/saved_model.pb").is_file()
    assert len(list((tmp_path / "my/predictions/mask").glob("*.png"))) == 10


def test_the_library_examples(tmp_path, capsys):
    from deeplab_tf import ModelConfig, build_deeplab, weights

    first, second, third = _blocks("python")
    names = {"images": np.zeros((1, 33, 49, 3), np.float32)}
    exec(first, names)
    assert names["logits"].shape == (1, 33, 49, 21)
    assert names["coarse"].shape[-1] == 21
    assert names["finer"].atrous_rates == (12, 24, 36)

    model = build_deeplab(ModelConfig())
    names["checkpoint"] = weights.save_tf1_checkpoint(model, tmp_path / "model.ckpt")
    exec(second, names)
    assert names["report"].missing == names["report"].unused == []
    np.testing.assert_allclose(np.asarray(names["probabilities"]).sum(-1), 1, atol=1e-5)
    assert "41,258,213" in capsys.readouterr().out

    names["image"] = names["images"][0].astype(np.uint8)
    exec(third, names)
    np.testing.assert_allclose(names["refined"].sum(-1), 1, atol=1e-5)


def test_the_table_of_presets_is_complete():
    from deeplab_tf.presets import PRESETS

    for preset in PRESETS.values():
        assert f"{preset.parameters:,}" in README


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(((?!http)[^)]+)\)", README))))
def test_what_the_readme_links_to_exists(path):
    assert (ROOT / path).exists()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)
