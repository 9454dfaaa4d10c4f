"""What each script does, a module each: flags -> configs -> one call of the library."""

from deeplab_tf.cli.commands.compare import compare
from deeplab_tf.cli.commands.crf_search import crf_search
from deeplab_tf.cli.commands.evaluate import evaluate
from deeplab_tf.cli.commands.export import export
from deeplab_tf.cli.commands.model_info import model_info
from deeplab_tf.cli.commands.predict import predict
from deeplab_tf.cli.commands.pretrain import pretrain
from deeplab_tf.cli.commands.train import train
from deeplab_tf.cli.commands.visualize import visualize

__all__ = [
    "compare",
    "crf_search",
    "evaluate",
    "export",
    "model_info",
    "predict",
    "pretrain",
    "train",
    "visualize",
]
