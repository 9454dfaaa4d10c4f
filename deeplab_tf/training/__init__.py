"""Training a network: what `train.py` does, and `python -m deeplab_tf.pretrain` shares."""
