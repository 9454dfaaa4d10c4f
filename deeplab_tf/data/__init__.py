"""Data: the description of a data set, TFRecords, the converters' library and the input pipeline.

Only the description is imported here: it is all that most callers need, and it is light.
"""

from deeplab_tf.data.dataset_info import DatasetInfo

__all__ = ["DatasetInfo"]
