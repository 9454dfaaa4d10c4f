"""What `python -m deeplab_tf.compare` does: two evaluations -> their difference."""

import json

from absl import flags

from deeplab_tf.data.output import write_file

FLAGS = flags.FLAGS


def compare(first: str, second: str) -> None:
    """Prints how much the second of two evaluations is better, and whether that is chance.

    Args:
        first: Its scores_<split>.json, which eval.py wrote.
        second: That of the other one.
    """
    from deeplab_tf.compare import compare_scores

    comparison = compare_scores(first, second)
    print(f"first:  {first}\nsecond: {second}\n\n{comparison}")
    if FLAGS.json:
        result = {"first_file": first, "second_file": second, **comparison.to_json()}
        write_file(FLAGS.json, json.dumps(result, indent=2).encode())
