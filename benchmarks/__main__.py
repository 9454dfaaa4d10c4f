"""All that has a limit, in one table: our time, a peer's in the same run, the ratio, its limit.

    make bench PEER_PYTHON=/path/to/python KERAS_HUB_PYTHON=/path/to/python

The Pythons have what is measured against: torch, segmentation-models-pytorch, onnx, onnxruntime and
torchmetrics; keras_hub. A peer that is not there costs its rows. It takes about 10 minutes, on a
machine that has nothing else to do.
"""

import argparse
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from benchmarks import confusion_matrix, inference, predict, training_step
from benchmarks.comparison import Comparison, print_table
from benchmarks.peer import start


def main() -> None:
    """Measures one thing after the other, and prints the table in the end."""
    parser = argparse.ArgumentParser(description="Measures all that has a limit.")
    parser.add_argument("--peer_python", default=sys.executable, help="Python with torch, smp, ...")
    parser.add_argument("--keras_hub_python", default=sys.executable, help="Python with keras_hub.")
    options = parser.parse_args()
    smp = start(options.peer_python, "torch_peer.py")
    keras_hub = start(options.keras_hub_python, "keras_hub_peer.py", str(inference.PEER_SIZE))
    rows: list[Comparison] = []
    rows += inference.comparisons(inference.NETWORKS, smp, keras_hub, turns=8)
    if smp is not None:
        rows += training_step.comparisons(smp, turns=4)
    for peer in filter(None, (smp, keras_hub)):
        peer.close()
    rows += confusion_matrix.comparisons(options.peer_python)
    rows += predict.comparisons()
    print_table(rows)


if __name__ == "__main__":
    main()
