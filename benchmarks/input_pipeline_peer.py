"""The other side of benchmarks.input_pipeline: a PyTorch DataLoader over image files, by OpenCV.

The benchmark starts it as a process of its own, because workers should not be forked from a process
that holds TensorFlow; it needs torch, cv2 and numpy only. It measures once for each line it reads.
"""

import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, RandomSampler, get_worker_info

WORKERS = 2
# ImageNet's, as torchvision's models want them.
MEAN = torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1)
DEVIATION = torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1)


def to_normalised(image: np.ndarray) -> torch.Tensor:
    """What torchvision's ToTensor and Normalize compute: float32 [3, h, w]."""
    channels_first = torch.from_numpy(image).permute(2, 0, 1).contiguous()
    return channels_first.to(torch.float32).div_(255).sub_(MEAN).div_(DEVIATION)


class Crops(Dataset):
    """Pairs of image and mask files, decoded, scaled, padded, cropped and flipped."""

    def __init__(self, folder: str, *, crop: int, ignore_label: int, form: str):
        self.images = sorted(Path(folder).glob("*.jpg"))
        self.crop = crop
        self.ignore_label = ignore_label
        self.form = form

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, np.ndarray, int, float]:
        path, crop = self.images[index], self.crop
        image = cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        if self.form == "float32 first":
            image = image.astype(np.float32)
        label = cv2.imread(str(path.with_suffix(".png")), cv2.IMREAD_GRAYSCALE)
        scale = random.choice((0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0))
        size = (int(label.shape[1] * scale), int(label.shape[0] * scale))
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        label = cv2.resize(label, size, interpolation=cv2.INTER_NEAREST)
        below, right = max(crop - size[1], 0), max(crop - size[0], 0)
        if below or right:
            border = (0, below, 0, right, cv2.BORDER_CONSTANT)
            image = cv2.copyMakeBorder(image, *border, value=(128, 128, 128))
            label = cv2.copyMakeBorder(label, *border, value=self.ignore_label)
        top = random.randint(0, label.shape[0] - crop)
        left = random.randint(0, label.shape[1] - crop)
        image = image[top : top + crop, left : left + crop]
        label = label[top : top + crop, left : left + crop]
        if random.random() < 0.5:
            image, label = cv2.flip(image, 1), cv2.flip(label, 1)
        image, label = np.ascontiguousarray(image), np.ascontiguousarray(label)
        if self.form != "uint8":
            image = to_normalised(image)
        return image, label, get_worker_info().id, time.process_time()


def measure(dataset: Crops, *, batch_size: int, warm_up: int, timed: int) -> tuple[float, float]:
    """Images per second and milliseconds of processor time, of all processes, per image."""
    loader = DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=RandomSampler(dataset, replacement=True, num_samples=batch_size * 10**6),
        num_workers=WORKERS,
        worker_init_fn=lambda _: cv2.setNumThreads(0),
    )
    batches = iter(loader)
    for _ in range(warm_up):
        next(batches)
    begun, ended, images = {}, {}, {}
    start, processor_start = time.perf_counter(), time.process_time()
    for _ in range(timed):
        _, _, workers, processor = next(batches)
        worker = int(workers[0])
        begun.setdefault(worker, float(processor[0]))
        ended[worker] = float(processor[-1])
        images[worker] = images.get(worker, -1) + batch_size
    seconds = time.perf_counter() - start
    in_workers = sum((ended[w] - begun[w]) / images[w] for w in images) / len(images)
    here = (time.process_time() - processor_start) / (timed * batch_size)
    return timed * batch_size / seconds, 1e3 * (here + in_workers)


def main() -> None:
    """Measures the form that each line of the standard input names, and prints a line of JSON."""
    folder, settings = sys.argv[1], json.loads(sys.argv[2])
    crops = {
        form: Crops(folder, crop=settings["crop"], ignore_label=settings["ignore_label"], form=form)
        for form in settings["forms"]
    }
    print(json.dumps({"torch": torch.__version__, "cv2": cv2.__version__}), flush=True)
    counts = {key: settings[key] for key in ("batch_size", "warm_up", "timed")}
    for line in sys.stdin:
        print(json.dumps(measure(crops[json.loads(line)], **counts)), flush=True)


if __name__ == "__main__":
    main()
