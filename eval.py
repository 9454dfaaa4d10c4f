"""Scores a trained network on a split of records."""

from deeplab_tf import cli

if __name__ == "__main__":
    cli.run(cli.evaluate, "eval.py")
