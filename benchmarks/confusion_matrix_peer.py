"""The other side of benchmarks.confusion_matrix: torchmetrics, in the Python that has it.

It reads label maps and predictions from an .npz file, once, and measures once for each line of its
input. Both are int64 tensors beforehand, as torch's losses and argmax have them, and arguments are
not validated: what is measured is torchmetrics at its fastest.
"""

import json
import sys
import time

import numpy as np
import torch
import torchmetrics
from torchmetrics.classification import MulticlassJaccardIndex


def main() -> None:
    with np.load(sys.argv[1]) as arrays:
        labels, predictions = (
            torch.from_numpy(arrays[name].astype(np.int64)) for name in ("labels", "predictions")
        )
    classes, ignore = map(int, sys.argv[2:])
    metric = MulticlassJaccardIndex(classes, ignore_index=ignore, validate_args=False)
    print(json.dumps({"torch": torch.__version__, "torchmetrics": torchmetrics.__version__}))
    sys.stdout.flush()
    for _ in sys.stdin:
        start = time.perf_counter()
        metric.reset()
        for label, prediction in zip(labels, predictions, strict=True):
            metric.update(prediction, label)
        result = float(metric.compute())
        print(json.dumps([result, time.perf_counter() - start]), flush=True)


if __name__ == "__main__":
    main()
