"""Trains a DeepLab network on a folder of records."""

from deeplab_tf import cli

if __name__ == "__main__":
    cli.run(cli.train, "train.py")
