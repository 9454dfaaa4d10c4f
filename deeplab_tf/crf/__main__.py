"""`python -m deeplab_tf.crf`: searches parameters of the CRF on some images of a split."""

import sys

from deeplab_tf import cli

if __name__ == "__main__":
    sys.argv[0] = "crf"  # what messages begin with, not __main__.py
    cli.run(cli.crf_search, "crf")
