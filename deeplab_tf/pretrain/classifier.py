"""An encoder as a classifier of whole images."""

import keras
from keras import initializers, layers

from deeplab_tf.config import ModelConfig
from deeplab_tf.deeplab import encoder_features


def build_classifier(config: ModelConfig, *, dropout_rate: float = 0.5) -> keras.Model:
    """The encoder of a config, the mean of its features, dropout, and a score for each class.

    Layers have the names that they have in the networks of `build_deeplab`, whatever the output
    stride there, and the scores those of slim's classifiers: `xception_65.logits`.

    Differs: slim's MobileNets have one more convolution, of 1280 channels, before the mean.

    Args:
        config: What the encoder is, at output stride 32 as a rule, and the number of classes; the
            head's fields are not read.
        dropout_rate: Share of the mean features that are dropped (arXiv 1610.02357, section 4.3).

    Returns:
        A functional `keras.Model` that maps images, float [b, h, w, 3], RGB in [0, 255], to
        scores before the softmax, float32 [b, num_classes].

    Raises:
        ValueError: The encoder does not exist or does not take an option that is set.
    """
    images = keras.Input((None, None, config.input_channels), name="images")
    features = encoder_features(images, config).final
    encoder = keras.Model(images, features)
    scope = encoder.weights[0].path.split("/")[0].split(".")[0]
    # float32 as the mean is of many values, whatever the features are.
    x = layers.GlobalAveragePooling2D(keepdims=True, dtype="float32", name=f"{scope}.pool")(
        features
    )
    x = layers.Dropout(dropout_rate, dtype="float32", name=f"{scope}.dropout")(x)
    x = layers.Conv2D(
        config.num_classes,
        1,
        kernel_initializer=initializers.TruncatedNormal(stddev=0.01),
        dtype="float32",
        name=f"{scope}.logits",
    )(x)
    logits = layers.Flatten(dtype="float32", name="logits")(x)
    return keras.Model(images, logits, name=f"classifier_{config.model_variant}")
