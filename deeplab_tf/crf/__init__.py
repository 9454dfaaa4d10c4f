"""The dense CRF: on the CPU with numba, here, or as a TensorFlow graph (`deeplab_tf.crf.graph`).

    refined = crf.dense_crf(image, probabilities, crf.CRF_V2)

Numba is an extra, pip install 'deeplab-tf[crf]', and needed when the CRF runs, not to import this.
"""

from deeplab_tf.config import CRF_V1, CRF_V2, CRFParams
from deeplab_tf.crf.dense import DenseCRF, compile_kernels, dense_crf, refine

__all__ = ["CRF_V1", "CRF_V2", "CRFParams", "DenseCRF", "compile_kernels", "dense_crf", "refine"]
