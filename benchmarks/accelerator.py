"""Measures training and inference on an accelerator, in bfloat16, against PyTorch's DeepLabs.

    KERAS_BACKEND=jax python -m benchmarks.accelerator [--results=accelerator.jsonl]

Our side is v3+ with Xception-65 and with ResNet-101, on Keras's JAX backend, at 513x513: inference
ends in labels at full size; training has the cross entropy of full-size float32 logits and momentum
updates. The peers do the same on the same card: segmentation-models-pytorch (smp) with the same
encoders at 512x512, because it refuses 513, eager and compiled, and torchvision's DeepLabv3, whose
output stride is 8. They use channels_last, bfloat16 autocast in training and bfloat16 weights in
inference. Our networks have smp's head: atrous separable convolutions in ASPP and decoder.

"share" is how much of the card's matrix rate the network's Multiply-Adds use, twice for inference
and six times for training; the rate is that of a product of two 8192x8192 bfloat16 matrices in the
same run, the better of both frameworks.

Every row is a process of its own, with a limit of time, so that one that fails costs its row only.
It needs jax, keras, torch, torchvision, segmentation-models-pytorch, and no TensorFlow.
"""

import argparse
import importlib
import json
import subprocess
import sys
import time
from typing import Any, NamedTuple


class Row(NamedTuple):
    """A network of one side."""

    side: str  # a module benchmarks.accelerator_<framework> and a way to run it
    network: str


ROWS = (
    Row("jax", "matmul"),
    Row("smp", "matmul"),
    Row("jax", "resnet101"),
    Row("smp", "resnet101"),
    Row("jax", "xception65"),
    Row("smp", "xception65"),
    Row("torchvision", "resnet101"),
    Row("smp compiled", "resnet101"),
    Row("smp compiled", "xception65"),
)
TASKS = ("inference", "training")


def worker(row: Row, options: argparse.Namespace) -> None:
    """Measures one row and prints a line of JSON for each task."""
    framework = "jax" if row.side == "jax" else "torch"
    side = importlib.import_module(f"benchmarks.accelerator_{framework}")
    if row.network == "matmul":
        report(row, {"matmul_flops": side.matmul_rate(options.matmul_size), "on": side.card()})
        return
    batches = {"inference": options.inference_batch, "training": options.training_batch}
    for task in TASKS:
        step, multiply_adds = side.prepare(row.side, row.network, task, options.size, batches[task])
        seconds = rate_of(step, side.wait, seconds=options.seconds)
        measured = {
            "task": task,
            "images_per_second": batches[task] / seconds,
            "multiply_adds": multiply_adds,
        }
        report(row, measured)


def rate_of(step: Any, wait: Any, *, seconds: float) -> float:
    """Seconds of a step, from as many in a row as take about `seconds`, after a warm-up."""
    for _ in range(3):
        wait(step())
    start = time.perf_counter()
    wait(step())
    count = max(5, int(seconds / (time.perf_counter() - start)))
    start = time.perf_counter()
    for _ in range(count):
        result = step()
    wait(result)
    return (time.perf_counter() - start) / count


def report(row: Row, measured: dict[str, Any]) -> None:
    """Prints what was measured."""
    print(json.dumps({**row._asdict(), **measured}), flush=True)


def run(row: Row, arguments: list[str], limit: float) -> list[dict[str, Any]]:
    """What a worker has measured when it ends or its time is over."""
    command = [sys.executable, "-m", "benchmarks.accelerator", *arguments, f"--row={','.join(row)}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
        output, trouble = done.stdout, done.stderr.strip().splitlines()[-3:]
        failed = done.returncode != 0
    except subprocess.TimeoutExpired as expired:
        output, trouble, failed = (expired.stdout or b"").decode(), [f"over {limit:.0f} s"], True
    if failed:
        print(f"{' '.join(row)}: {' '.join(trouble)}", flush=True)
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def print_table(results: list[dict[str, Any]]) -> None:
    """Prints images/s, the share of the matrix rate, and ours over each peer's."""
    flops = max(result["matmul_flops"] for result in results if "matmul_flops" in result)
    print(f"matrix product: {flops / 1e12:.0f} TFLOP/s")
    print(f"{'':30}{'task':>10}{'images/s':>10}{'GMAdds':>8}{'share':>7}{'ours is, times':>16}")
    measured = [result for result in results if "task" in result]
    for task in TASKS:
        rates = {
            (r["side"], r["network"]): r["images_per_second"] for r in measured if r["task"] == task
        }
        for result in measured:
            if result["task"] != task:
                continue
            side, network, rate = result["side"], result["network"], result["images_per_second"]
            operations = result["multiply_adds"] * (2 if task == "inference" else 6)
            ours = rates.get(("jax", network))
            times = f"{ours / rate:16.2f}" if ours else ""
            print(
                f"{side + ', ' + network:30}{task:>10}{rate:10.1f}"
                f"{result['multiply_adds'] / 1e9:8.1f}{rate * operations / flops:7.1%}{times}"
            )


def main() -> None:
    """Runs all rows, or one of them as a worker."""
    parser = argparse.ArgumentParser(description="Measures bfloat16 on an accelerator.")
    parser.add_argument("--size", type=int, default=513, help="Side of the images.")
    parser.add_argument("--inference_batch", type=int, default=32)
    parser.add_argument("--training_batch", type=int, default=16)
    parser.add_argument("--matmul_size", type=int, default=8192)
    parser.add_argument("--seconds", type=float, default=3, help="Measured, for each task.")
    parser.add_argument("--row_limit", type=float, default=150, help="Seconds of a row.")
    parser.add_argument("--total_limit", type=float, default=900, help="No row begins after it.")
    parser.add_argument("--results", help="File to add each row to, as lines of JSON.")
    parser.add_argument(
        "--rows",
        nargs="*",
        metavar="SIDE,NETWORK",
        help="Rows to measure in place of all; one of jax,matmul and smp,matmul among them.",
    )
    parser.add_argument("--row", help=argparse.SUPPRESS)  # what a worker measures
    options = parser.parse_args()
    if options.row:
        worker(Row(*options.row.split(",")), options)
        return
    start, results = time.perf_counter(), []
    rows = [Row(*row.split(",")) for row in options.rows or ()]
    for row in rows or ROWS:
        left = options.total_limit - (time.perf_counter() - start)
        if left < 20:
            print(f"{' '.join(row)}: no time left")
            continue
        found = run(row, sys.argv[1:], min(options.row_limit, left))
        print(f"{time.perf_counter() - start:5.0f} s  {' '.join(row)}", flush=True)
        results += found
        if options.results:
            with open(options.results, "a") as file:
                file.writelines(json.dumps(result) + "\n" for result in found)
    print_table(results)


if __name__ == "__main__":
    main()
