"""dataset.json and config.json: what they say, or an error that names the file."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplab_tf.data.dataset_info import DatasetInfo
from deeplab_tf.model_card import ModelCard
from tests import tiny_run
from tests.fuzz.inputs import both_sizes, counts, examples, mutate

VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.sampled_from([0, 1, 2, 255, 256, 33, 0.5, "", "max", "train", "abc"]),
        st.floats(),
        st.text(max_size=5),
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=5,
)


def places(value, path=()):
    """The paths of all values in a JSON document."""
    yield path
    if isinstance(value, (dict, list)):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(child, (*path, key))


def changed(document, path, value):
    """The document with another value, or none, at a path."""
    if not path:
        return value
    document = json.loads(json.dumps(document))
    parent = document
    for key in path[:-1]:
        parent = parent[key]
    if value is ...:
        del parent[path[-1]]
    else:
        parent[path[-1]] = value
    return document


@both_sizes(20, 300)
@pytest.mark.parametrize("kind", [DatasetInfo, ModelCard])
def test_loaders(count, kind, tmp_path):
    (tiny_run.INFO if kind is DatasetInfo else tiny_run.card()).save(tmp_path)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    document = json.loads(content)
    changes = st.builds(
        lambda place, value: json.dumps(changed(document, place, value)).encode(),
        st.sampled_from([place for place in places(document) if place]),
        st.one_of(VALUES, st.just(...)),
    )
    bytes_ = st.integers(0, 2**32).map(lambda seed: mutate(content, np.random.default_rng(seed)))

    @examples(count)
    @given(st.one_of(changes, bytes_, VALUES.map(lambda value: json.dumps(value).encode())))
    def check(data):
        counts[f"descriptions ({path.name})"] += 1
        path.write_bytes(data)
        try:
            loaded = kind.load(tmp_path)
        except (OSError, ValueError) as error:
            assert str(path) in str(error), repr(error)
            return
        # What was understood can be said again, and means the same.
        loaded.save(tmp_path / "again")
        assert kind.load(tmp_path / "again") == loaded
        if kind is DatasetInfo:
            assert all(isinstance(name, str) and name for name in loaded.class_names)
            assert np.array(loaded.palette, np.uint8).shape == (loaded.num_classes, 3)
            assert not isinstance(json.loads(data)["class_names"], str)

    check()
