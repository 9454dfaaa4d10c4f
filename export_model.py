"""Exports a trained network as a SavedModel for serving."""

from deeplab_tf import cli

if __name__ == "__main__":
    cli.run(cli.export, "export_model.py")
