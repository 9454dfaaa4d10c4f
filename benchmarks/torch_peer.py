"""The other side of benchmarks.training_step: segmentation-models-pytorch, in a process of its own.

It needs torch and segmentation_models_pytorch only. Each line it reads names a network and what is
to be timed; each line it prints is the answer. See `benchmarks.peer`.
"""

import contextlib
import json
import sys
import time

import segmentation_models_pytorch as smp
import torch

IGNORE_LABEL = 255


class Training:
    """SGD with momentum on one batch, in channels_last, which is torch's fast layout."""

    def __init__(self, *, encoder: str, num_classes: int, size: int, batch_size: int) -> None:
        torch.manual_seed(0)
        self.model = network(encoder, num_classes).train()
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=1e-3, momentum=0.9, weight_decay=4e-5
        )
        self.loss = torch.nn.CrossEntropyLoss(ignore_index=IGNORE_LABEL)
        images = torch.rand(batch_size, 3, size, size)
        self.images = images.to(memory_format=torch.channels_last)
        self.labels = torch.randint(0, num_classes, (batch_size, size, size))
        self.labels[:, :8] = IGNORE_LABEL

    def step(self) -> None:
        """Takes a step and waits for its loss."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(self.model(self.images), self.labels)
        loss.backward()
        self.optimizer.step()
        loss.item()


def network(encoder: str, num_classes: int) -> torch.nn.Module:
    """DeepLabv3+ as smp has it, at output stride 16, without weights to download."""
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


def main() -> None:
    """Answers questions until there are no more."""
    trainings: dict[str, Training] = {}
    versions = {"torch": torch.__version__, "smp": smp.__version__}
    print(json.dumps(versions), flush=True)
    for line in sys.stdin:
        # Libraries' remarks are no answers.
        with contextlib.redirect_stdout(sys.stderr):
            question = json.loads(line)
            steps = question.pop("steps")
            key = json.dumps(question)
            if key not in trainings:
                trainings.clear()
                trainings[key] = Training(**question)
            training = trainings[key]
            times = []
            for _ in range(steps):
                start = time.perf_counter()
                training.step()
                times.append(time.perf_counter() - start)
            answer = {
                "seconds": times,
                "multiply_adds": multiply_adds(training.model, question["size"]),
                "parameters": sum(p.numel() for p in training.model.parameters()),
            }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
