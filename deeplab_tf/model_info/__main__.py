"""`python -m deeplab_tf.model_info`: prints parameters and Multiply-Adds of a network."""

import sys

from deeplab_tf import cli

if __name__ == "__main__":
    sys.argv[0] = "model_info"  # what messages begin with, not __main__.py
    cli.run(cli.model_info, "model_info")
