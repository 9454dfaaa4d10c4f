"""Measures the memory of a training step against its estimate, and what rematerialisation saves.

    python -m benchmarks.training_memory

Each case is a process of its own, whose largest resident size counts, less what it had before the
first step: TensorFlow, the network and its graph's constants. On a CPU.
"""

import argparse
import json
import resource
import subprocess
import sys

CASES = (
    ("deeplabv3plus_mobilenet_v2", 257, 4, False),
    ("deeplabv3plus_mobilenet_v2", 513, 4, False),
    ("deeplabv3plus_resnet50", 257, 4, False),
    ("deeplabv3plus_xception41", 257, 4, False),
    ("deeplabv3plus_xception41", 257, 4, True),
)


def measure(preset: str, side: int, images: int, rematerialize: bool) -> dict[str, float]:
    """Estimate and measurement of a case in this process, in GB."""
    import numpy as np

    from deeplab_tf import DataConfig, InferenceConfig, ModelConfig, TrainConfig, build_deeplab
    from deeplab_tf.data.known_datasets import KNOWN_DATASETS
    from deeplab_tf.model_card import ModelCard
    from deeplab_tf.model_info.memory import training_memory
    from deeplab_tf.training.optimizers import build_optimizer
    from deeplab_tf.training.step import TrainStep

    card = ModelCard(
        ModelConfig.from_preset(preset),
        DataConfig(crop_size=(side, side), batch_size=images),
        TrainConfig(),
        InferenceConfig(),
        KNOWN_DATASETS["pascal_voc_seg"],
    )
    model = build_deeplab(card.model)
    optimizer = build_optimizer(card.train, model.trainable_variables)
    step = TrainStep(model, optimizer, card, rematerialize=rematerialize)
    rng = np.random.default_rng(0)
    batch = (
        rng.integers(0, 256, (images, side, side, 3), np.uint8),
        rng.integers(0, 21, (images, side, side), np.uint8),
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(2):
        float(step([batch]).loss)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    estimate = training_memory(model, crop_size=(side, side), images=images)
    return {"estimated": estimate.total / 1e9, "measured": (after - before) * 1024 / 1e9}


def main() -> None:
    """Runs all cases, or prints the one it is told."""
    parser = argparse.ArgumentParser(description="Memory of a training step, and its estimate.")
    parser.add_argument("--case", type=int, help="Index of the only case, as JSON.")
    options = parser.parse_args()
    if options.case is not None:
        print(json.dumps(measure(*CASES[options.case])))
        return
    print(f"{'':30}{'side':>6}{'images':>8}{'estimated':>11}{'measured':>10}  GB")
    for index, (preset, side, images, rematerialize) in enumerate(CASES):
        command = [sys.executable, "-m", "benchmarks.training_memory", f"--case={index}"]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        estimated = "" if rematerialize else f"{found['estimated']:.2f}"
        name = f"{preset.removeprefix('deeplabv3plus_')}{', rematerialised' * rematerialize}"
        print(f"{name:30}{side:>6}{images:>8}{estimated:>11}{found['measured']:>10.2f}")


if __name__ == "__main__":
    main()
