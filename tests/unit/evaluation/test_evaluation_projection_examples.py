import numpy as np
import pytest
from evaluation_toy_world import toy_embed

from xalign_dist.errors import DataError
from xalign_dist.evaluation.examples import contrast_examples
from xalign_dist.evaluation.projection import PROJECTION, project
from xalign_dist.evaluation.tables import PairSet


def texts(n=20):
    return [f"{lang}:{i}" for lang in ("eng", "deu") for i in range(n)]


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_translations_lie_together_only_where_the_model_aligns_them(method):
    rows = texts()
    lang, group = ["eng"] * 20 + ["deu"] * 20, [*range(20), *range(20)]
    models = {"before": toy_embed(offset=4.0)(rows), "after": toy_embed(noise=0.05, dim=12)(rows)}
    table = project(models, lang, group, rows, method, seed=1)
    assert table.schema == PROJECTION
    assert table.num_rows == 80
    spread = {}
    for number, model in enumerate(models):
        part = table.slice(40 * number, 40)
        assert set(part["model"].to_pylist()) == {model}
        plane = np.stack([part["x"].to_numpy(), part["y"].to_numpy()], axis=1)
        apart = np.linalg.norm(plane[:20] - plane[20:], axis=1).mean()
        spread[model] = apart / plane.std()
    assert spread["after"] < 0.5 < spread["before"]
    assert table.equals(project(models, lang, group, rows, method, seed=1))


def test_one_dimension_and_bad_columns():
    table = project({"m": np.array([[1], [-1], [1]], np.float32)}, ["eng"] * 3, [0, 1, 2], ["a", "b", "c"])
    assert table["y"].to_pylist() == [0, 0, 0]
    assert table["x"].to_pylist() == pytest.approx([2 / 3, -4 / 3, 2 / 3])
    with pytest.raises(DataError, match="projection of 2 texts"):
        project({"m": np.ones((2, 2), np.float32)}, ["eng"] * 2, [0, 1], ["a", "b"])


def one_hot(order):
    """A model that puts text number i at axis order[i]."""
    return lambda names: np.eye(4, dtype=np.float32)[[order[n] for n in names]]


def test_gained_and_lost_are_told_apart():
    pair = PairSet("eng", "deu", ["one", "two", "three"], ["eins", "zwei", "drei"], ["1", "2", "3"])
    where = {"one": 0, "two": 1, "three": 2}
    ours = one_hot({**where, "eins": 0, "zwei": 1, "drei": 3})
    base = one_hot({**where, "eins": 1, "zwei": 0, "drei": 2})
    found = contrast_examples([pair], ours, base)
    summary = [(e.kind, e.query, e.expected, e.got_ours, e.got_baseline) for e in found]
    assert summary == [
        ("gained", "one", "eins", "eins", "zwei"),
        ("gained", "two", "zwei", "zwei", "eins"),
        ("lost", "three", "drei", "eins", "drei"),
    ]
    assert [e.margin for e in found] == [1.0, 1.0, 0.0]
    assert len(contrast_examples([pair], ours, base, per_language=1)) == 2
    assert contrast_examples([pair], ours, ours) == []
    with pytest.raises(DataError):
        contrast_examples([pair], ours, base, per_language=0)
