"""Predicts image files, folders of them, videos or a camera, and writes masks and pictures."""

from deeplab_tf import cli

if __name__ == "__main__":
    cli.run(cli.predict, "predict.py")
