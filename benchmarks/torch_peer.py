"""The other side of several benchmarks: segmentation-models-pytorch, in a process of its own.

It needs torch and segmentation_models_pytorch, and for one of its runs onnx and onnxruntime. Each
line that it reads says what is to be timed (see `RUNS`) and how often; each line that it prints is
the answer. See `benchmarks.peer`.
"""

import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch

IGNORE_LABEL = 255


def network(encoder: str, num_classes: int) -> torch.nn.Module:
    """DeepLabv3+ as smp has it, at output stride 16, without weights to download."""
    torch.manual_seed(0)
    model = smp.DeepLabV3Plus(
        encoder, encoder_weights=None, classes=num_classes, encoder_output_stride=16
    )
    return model.to(memory_format=torch.channels_last)


def multiply_adds(model: torch.nn.Module, size: int) -> float:
    """Multiplications of all convolutions for one image."""
    total = 0

    def count(module: torch.nn.Conv2d, _, output: torch.Tensor) -> None:
        nonlocal total
        total += output.numel() * module.weight[0].numel()

    hooks = [
        module.register_forward_hook(count)
        for module in model.modules()
        if isinstance(module, torch.nn.Conv2d)
    ]
    training = model.training
    with torch.inference_mode():
        model.eval()(torch.zeros(1, 3, size, size, device=next(model.parameters()).device))
    model.train(training)
    for hook in hooks:
        hook.remove()
    return total


def random_images(batch_size: int, size: int) -> torch.Tensor:
    """Float images in channels_last, which is torch's fast layout."""
    images = torch.rand(batch_size, 3, size, size)
    return images.to(memory_format=torch.channels_last)


class Labels(torch.nn.Module):
    """The most probable classes of a network."""

    def __init__(self, logits: torch.nn.Module) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits(images).argmax(dim=1)


def training(model: torch.nn.Module, size: int, batch_size: int) -> Callable[[], Any]:
    """SGD with momentum on one batch."""
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=4e-5)
    loss_of = torch.nn.CrossEntropyLoss(ignore_index=IGNORE_LABEL)
    images = random_images(batch_size, size)
    labels = torch.randint(0, model.segmentation_head[0].out_channels, (batch_size, size, size))
    labels[:, :8] = IGNORE_LABEL

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def eager(model: torch.nn.Module, size: int, batch_size: int) -> Callable[[], Any]:
    """Logits, by the network as it is."""
    model.eval()
    images = random_images(batch_size, size)

    @torch.inference_mode()
    def step() -> torch.Tensor:
        return model(images)

    return step


def onnx_runtime(model: torch.nn.Module, size: int, batch_size: int) -> Callable[[], Any]:
    """Labels, by ONNX Runtime."""
    import onnxruntime

    model = Labels(model).eval()
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "model.onnx"))
        torch.onnx.export(
            model,
            (random_images(batch_size, size).contiguous(),),
            path,
            input_names=["images"],
            opset_version=17,
            dynamo=False,
        )
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    images = random_images(batch_size, size).contiguous().numpy()
    return lambda: session.run(None, {"images": images})


RUNS = {"training": training, "eager": eager, "onnx": onnx_runtime}


def main() -> None:
    """Answers questions until there are no more."""
    steps: dict[str, Callable[[], Any]] = {}
    print(json.dumps({"torch": torch.__version__, "smp": smp.__version__}), flush=True)
    for line in sys.stdin:
        # Libraries' remarks are no answers.
        with contextlib.redirect_stdout(sys.stderr):
            question = json.loads(line)
            times = question.pop("times")
            key = json.dumps(question)
            answer: dict[str, Any] = {}
            if key not in steps:
                size, encoder = question["size"], question["encoder"]
                if encoder not in "".join(steps):  # another network takes the place of the last
                    steps.clear()
                model = network(encoder, question["num_classes"])
                answer["multiply_adds"] = multiply_adds(model, size)
                answer["parameters"] = sum(p.numel() for p in model.parameters())
                steps[key] = RUNS[question["run"]](model, size, question["batch_size"])
            answer["seconds"] = []
            for _ in range(times):
                start = time.perf_counter()
                steps[key]()
                answer["seconds"].append(time.perf_counter() - start)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
