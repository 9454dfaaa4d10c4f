"""Pretraining of encoders by classification; `python -m deeplab_tf.pretrain`.

`run.pretrain` is the training, `classifier.build_classifier` the network.
"""
