"""`python -m deeplab_tf.pretrain`: trains an encoder to classify images."""

import sys

from deeplab_tf import cli

if __name__ == "__main__":
    sys.argv[0] = "pretrain"  # what messages begin with, not __main__.py
    cli.run(cli.pretrain, "pretrain")
