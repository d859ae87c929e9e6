"""Texts on which two models differ: what was gained, what was lost, by language."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xalign_dist.errors import DataError
from xalign_dist.evaluation.tables import PairSet
from xalign_dist.evaluation.vectors import topk, unit_rows
from xalign_dist.records import EmbedFn, Float32, Int64


@dataclass(frozen=True, slots=True)
class Example:
    """One query on which one model is right and the other is not.

    ``kind``: ``gained`` (only ours right) or ``lost`` (only the baseline right). ``margin``: how
    much closer our model holds the expected text than the best other one (cosine difference,
    negative where it is wrong).
    """

    kind: str
    src_lang: str
    tgt_lang: str
    query: str
    expected: str
    got_ours: str
    got_baseline: str
    margin: float


def contrast_examples(
    sets: list[PairSet], ours: EmbedFn, baseline: EmbedFn, *, per_language: int = 5, seed: int = 0
) -> list[Example]:
    """Queries gained and lost in retrieval, at most ``per_language`` of each kind and language pair.

    They are drawn at random among all, so that they show what is typical and not what is best.
    A candidate with the expected text is right.

    Args:
        sets: language pairs (``tables.load_pairs``).
        ours: our model.
        baseline: the other.
        per_language: examples of each kind.
        seed: of the draw.

    Raises:
        DataError: ``per_language`` under one.
    """
    if per_language < 1:
        raise DataError(f"per_language is {per_language}", "ask for at least one example")
    out = []
    for pair in sets:
        answer_a, margin = _answers(ours, pair)
        answer_b, _ = _answers(baseline, pair)
        target = np.asarray(pair.tgt, dtype=np.object_)
        right_a, right_b = target[answer_a] == target, target[answer_b] == target
        rng = np.random.default_rng(seed)
        for kind, mask in (("gained", right_a & ~right_b), ("lost", right_b & ~right_a)):
            for row in sorted(rng.permutation(np.flatnonzero(mask))[:per_language].tolist()):
                got_a, got_b = pair.tgt[int(answer_a[row])], pair.tgt[int(answer_b[row])]
                texts = (pair.src[row], pair.tgt[row], got_a, got_b)
                out.append(Example(kind, pair.src_lang, pair.tgt_lang, *texts, float(margin[row])))
    return out


def _answers(embed: EmbedFn, pair: PairSet) -> tuple[Int64, Float32]:
    src, tgt = unit_rows(embed(pair.src), "source side"), unit_rows(embed(pair.tgt), "target side")
    best, index = topk(src, tgt, 2)
    rows = np.arange(len(src))
    gold = np.einsum("nd,nd->n", src, tgt)
    rival = best[:, -1] if best.shape[1] > 1 else gold
    other = np.where(index[:, 0] == rows, rival, best[:, 0])
    return index[:, 0], np.asarray(gold - other, np.float32)
