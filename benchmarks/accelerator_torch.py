"""The peers' side of benchmarks.accelerator: DeepLabs of PyTorch, in bfloat16 and channels_last."""

import time
from collections.abc import Callable
from typing import Any

import segmentation_models_pytorch as smp
import torch
import torchvision

from benchmarks.torch_peer import multiply_adds

NUM_CLASSES = 21
ENCODERS = {"resnet101": "resnet101", "xception65": "tu-xception65"}
LEARNING_RATE, MOMENTUM = 1e-3, 0.9
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def card() -> str:
    """What it runs on, and with what."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    versions = f"PyTorch {torch.__version__}, torchvision {torchvision.__version__}"
    return f"{name}, {versions}, smp {smp.__version__}"


def wait(result: Any) -> None:
    """Returns when all is computed."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def matmul_rate(size: int) -> float:
    """Operations per second of a bfloat16 matrix product."""
    a, b = (torch.randn(size, size, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    wait(a @ b)
    start, count = time.perf_counter(), 30
    for _ in range(count):
        result = a @ b
    wait(result)
    return 2 * size**3 * count / (time.perf_counter() - start)


def prepare(
    side: str, network: str, task: str, size: int, batch_size: int
) -> tuple[Callable[[], Any], int]:
    """A step of a task, on a batch in the card's memory, and the network's Multiply-Adds."""
    torch.backends.cudnn.benchmark = True
    if side == "torchvision":
        model: Any = _Logits(
            torchvision.models.segmentation.deeplabv3_resnet101(
                weights=None, weights_backbone=None, num_classes=NUM_CLASSES
            )
        )
    else:
        size = size // 16 * 16
        model = smp.DeepLabV3Plus(
            ENCODERS[network],
            encoder_weights=None,
            classes=NUM_CLASSES,
            encoder_output_stride=16,
        )
    model = model.to(DEVICE, memory_format=torch.channels_last)
    counted = multiply_adds(model, size)
    images = torch.randint(0, 256, (batch_size, 3, size, size), device=DEVICE, dtype=torch.uint8)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, NUM_CLASSES, (batch_size, size, size), device=DEVICE)
    make = _inference if task == "inference" else _training
    return make(model, images, labels, compiled=side.endswith("compiled")), counted


class _Logits(torch.nn.Module):
    """torchvision's network without its dictionary."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images)["out"]


def _inference(
    model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, *, compiled: bool
) -> Callable[[], Any]:
    model = model.eval().to(torch.bfloat16)

    def predict(images: torch.Tensor) -> torch.Tensor:
        return model(images.to(torch.bfloat16) / 127.5 - 1).argmax(dim=1)

    run = torch.compile(predict) if compiled else predict

    @torch.inference_mode()
    def step() -> torch.Tensor:
        return run(images)

    return step


def _training(
    model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, *, compiled: bool
) -> Callable[[], Any]:
    model = model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)

    def loss_of(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        with torch.autocast(DEVICE.type, torch.bfloat16):
            logits = model(images.to(torch.float32) / 127.5 - 1)
        return torch.nn.functional.cross_entropy(logits.float(), labels)

    run = torch.compile(loss_of) if compiled else loss_of

    def step() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = run(images, labels)
        loss.backward()
        optimizer.step()
        return loss

    return step
