"""Command lines: the only package that knows flags. Each script is flags -> configs -> one call.

A flag that is not given means "as the preset says" in training and "as the model card says" after
it; where neither is there, its default holds, which is the reference's.
"""

import os
import sys
from collections.abc import Callable, Sequence

from absl import app, logging

from deeplab_tf.cli.commands.compare import compare
from deeplab_tf.cli.commands.crf_search import crf_search
from deeplab_tf.cli.commands.evaluate import evaluate
from deeplab_tf.cli.commands.export import export
from deeplab_tf.cli.commands.model_info import model_info
from deeplab_tf.cli.commands.predict import predict
from deeplab_tf.cli.commands.pretrain import pretrain
from deeplab_tf.cli.commands.train import train
from deeplab_tf.cli.commands.visualize import visualize
from deeplab_tf.cli.flag_table import define_flags, report_obsolete_flags
from deeplab_tf.data.records import READ_ERRORS, error_words

__all__ = [
    "compare",
    "crf_search",
    "evaluate",
    "export",
    "model_info",
    "predict",
    "pretrain",
    "run",
    "train",
    "visualize",
]


def run(main: Callable[..., None], script: str, *, paths: int = 0) -> None:
    """Runs a script: bad input ends it with one message and exit code 1, without a traceback.

    Args:
        main: Reads the flags and does the work; its arguments are the paths.
        script: Name of the script, whose flags are defined.
        paths: Number of paths that the script takes besides flags.
    """
    define_flags(script)

    def checked_main(argv: Sequence[str]) -> None:
        logging.set_verbosity(logging.WARNING)  # absl.app would let TensorFlow tell its life
        try:
            if not paths and len(argv) > 1:
                raise ValueError(f"Unknown arguments {argv[1:]}: expected --flag=value only.")
            if len(argv) - 1 != paths:
                raise ValueError(f"Found the arguments {argv[1:]}: expected {paths} paths.")
            report_obsolete_flags(script)
            main(*argv[1:])
        except KeyboardInterrupt:
            sys.exit(130)
        except (ValueError, OSError, FloatingPointError, ImportError, *READ_ERRORS) as error:
            sys.exit(f"{os.path.basename(argv[0])}: error: {error_words(error)}")

    app.run(checked_main)
