"""A checkpoint's variables by the reference's names, whoever wrote it, and what became of them."""

import dataclasses
import glob
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from deeplab_tf.weights.native import damage_reported, listed, weight_paths

_SLIM_NAMES = {
    "kernel": "weights",
    "bias": "biases",
    "depthwise_kernel": "depthwise_weights",
    "pointwise_kernel": "pointwise_weights",
}
_STEP = r"global_step|optimizer/.+\.\.iteration/\.ATTRIBUTES/VARIABLE_VALUE"
_OWN_STATE = r".+/\.ATTRIBUTES/VARIABLE_VALUE|_CHECKPOINTABLE_OBJECT_GRAPH"
# What checkpoints hold beside the weights of a network, by patterns of whole names.
_KINDS = {
    r"global_step": "global step",
    r"(.+/)?(Momentum|Adam(_1)?|RMSProp(_[12])?|beta[12]_power(_\d+)?)": "optimizer state",
    r".+_quant/(.+/)?(min|max)(/biased|/local_step)?": "quantisation range",
    r".+/(ExponentialMovingAverage|biased|local_step)": "moving average",
    _OWN_STATE: "state of train.py",
}


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What became of a network's weights and a checkpoint's variables, by the reference's names.

    `loaded` and `missing` are all weights of the network; `loaded`, `unused` and `skipped` are all
    variables of the checkpoint.

    Attributes:
        checkpoint: Prefix of the checkpoint.
        step: Training step it was written after, if it says so.
        loaded: Weights that were set.
        missing: Weights that kept the values they had.
        unused: Variables that the network has no weight for.
        skipped: Variables that are no weights, or were left out on purpose, and what they are.
        transferred: Classes whose channels of the logits were found by their names.
        inflated: Weights that were made of those for RGB images.
    """

    checkpoint: str
    step: int | None
    loaded: list[str]
    missing: list[str]
    unused: list[str]
    skipped: dict[str, str]
    transferred: list[str]
    inflated: list[str]

    def __str__(self) -> str:
        step = "" if self.step is None else f", step {self.step}"
        kinds = Counter(self.skipped.values())
        details = {
            "logits taken over by name for": self.transferred,
            "for RGB, inflated to the channels of the images": self.inflated,
            "not loaded, left as they were": self.missing,
            "only in the checkpoint": self.unused,
            "skipped": [f"{number} of {kind}" for kind, number in kinds.items()],
        }
        lines = (f"\n  {what}: {listed(names)}" for what, names in details.items() if names)
        return f"{len(self.loaded)} weights loaded from {self.checkpoint}{step}{''.join(lines)}"


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What there is in a checkpoint, read when it is asked for.

    Attributes:
        path: Prefix.
        step: Training step it was written after, if it says so.
        shapes: Shapes of the variables that may be a network's weights, by the reference's names.
        keys: The names that they have inside of the file.
        skipped: The other variables, and what they are.
    """

    path: str
    step: int | None
    shapes: dict[str, tuple[int, ...]]
    keys: dict[str, str]
    skipped: dict[str, str]

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Checkpoint":
        """Opens a checkpoint of TF1 in either format, or one of train.py.

        Raises:
            FileNotFoundError: There is no checkpoint.
            ValueError: It is damaged.
        """
        prefix = os.fspath(path)
        _check_exists(prefix)
        with damage_reported(prefix):
            reader = tf.train.load_checkpoint(prefix)
            shapes = reader.get_variable_to_shape_map()
            steps = [int(reader.get_tensor(key)) for key in shapes if re.fullmatch(_STEP, key)]
        paths = weight_paths(shapes)
        kinds = {key: None if key in paths else _kind(key) for key in shapes}
        keys = {
            _slim_name(paths[key]) if key in paths else key: key
            for key in shapes
            if kinds[key] is None
        }
        return cls(
            path=prefix,
            step=steps[0] if steps else None,
            shapes={name: tuple(shapes[key]) for name, key in keys.items()},
            keys=keys,
            skipped={key: kind for key, kind in kinds.items() if kind},
        )

    def without(self, kinds: Mapping[str, str]) -> "Checkpoint":
        """This checkpoint with some more variables skipped, given by name with what they are."""
        return dataclasses.replace(
            self,
            shapes={name: shape for name, shape in self.shapes.items() if name not in kinds},
            skipped=self.skipped
            | {name: kind for name, kind in kinds.items() if name in self.shapes},
        )

    def read(self, names: Iterable[str]) -> dict[str, np.ndarray]:
        """The values of variables.

        Raises:
            ValueError: One of them is not finite, or damaged.
        """
        with damage_reported(self.path):
            reader = tf.train.load_checkpoint(self.path)
            values = {name: reader.get_tensor(self.keys[name]) for name in names}
        broken = sorted(name for name, value in values.items() if not np.isfinite(value).all())
        if broken:
            raise ValueError(
                f"{self.path} holds values that are not finite, in {listed(broken)}: the training "
                "that wrote it had diverged; take an earlier checkpoint."
            )
        return values

    def report(
        self,
        weights: Collection[str],
        *,
        loaded: Collection[str],
        transferred: Sequence[str] = (),
        inflated: Collection[str] = (),
    ) -> LoadReport:
        """The report on a network with these weights, some of which were loaded."""
        return LoadReport(
            checkpoint=self.path,
            step=self.step,
            loaded=sorted(loaded),
            missing=sorted(set(weights) - set(loaded)),
            unused=sorted(set(self.shapes) - set(loaded)),
            skipped=dict(sorted(self.skipped.items())),
            transferred=list(transferred),
            inflated=sorted(inflated),
        )


def reference_name(weight: keras.Variable) -> str:
    """The reference's name of a weight: "." of a layer's name is its "/", a kernel is `weights`."""
    return _slim_name(weight.path.replace("/", "."))


def is_of_a_run(prefix: str) -> bool:
    """Whether train.py wrote a checkpoint, which then holds more than the reference's do."""
    with damage_reported(prefix):
        keys = tf.train.load_checkpoint(prefix).get_variable_to_shape_map()
    return any(re.fullmatch(_OWN_STATE, key) for key in keys)


def _slim_name(path: str) -> str:
    scope, _, kind = path.rpartition(".")
    if kind == "kernel" and scope.endswith("depthwise"):
        kind = "depthwise_kernel"
    return f"{scope.replace('.', '/')}/{_SLIM_NAMES.get(kind, kind)}"


def _kind(key: str) -> str | None:
    return next((kind for pattern, kind in _KINDS.items() if re.fullmatch(pattern, key)), None)


def _check_exists(prefix: str) -> None:
    """A prefix has an index file; in TF1's oldest format it is the name of the only file."""
    part = re.search(r"\.(index|meta|data-\d+-of-\d+)$", prefix)
    if os.path.isfile(f"{prefix}.index") or (os.path.isfile(prefix) and not part):
        return
    found = [os.path.basename(file) for file in sorted(glob.glob(f"{glob.escape(prefix)}*"))]
    raise FileNotFoundError(
        f"There is no checkpoint at {prefix}: expected a prefix such as DIR/model.ckpt, of files "
        f"such as model.ckpt.index and model.ckpt.data-00000-of-00001; found {listed(found)}."
    )
