"""Draws what a trained network predicts on records or on image files."""

from deeplab_tf import cli

if __name__ == "__main__":
    cli.run(cli.visualize, "vis.py")
