"""Messages into train, dev and test, so that no text, nor a near-copy of it, is on two sides."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from scipy.sparse import triu
from sklearn.feature_extraction.text import CountVectorizer

from xalign_dist.pipeline.quickstart_catalogs import Message, text_group

Part = Literal["train", "dev", "test"]

NEAR_COPY = 0.6
"""Jaccard similarity of the English texts' character trigrams from which they are one family.
At 0.6 "Please correct the error below" meets "... the errors below"; texts that only share
their beginning ("The file is ...") stay apart."""


def families(messages: Sequence[Message]) -> dict[str, str]:
    """Group -> its family, named by the family's first group.

    Groups are joined when their English texts are near-copies, or when any language
    translates them by the same text: two such groups may not be split.
    """
    groups = sorted({m.group for m in messages})
    links = [(groups[i], groups[j]) for i, j in _near_copies(groups)]
    by_translation: dict[str, str] = {}
    for m in messages:
        links.append((by_translation.setdefault(text_group(m.tgt), m.group), m.group))
    return _union(groups, links)


def split_families(
    messages: Sequence[Message], family_of: dict[str, str], test_share: float, dev_share: float, seed: int
) -> dict[str, Part]:
    """Group -> part. Families are drawn whole until each share of the groups is filled.

    A family larger than a hundredth of all groups always trains: it would make up too much
    of a test set that keeps only one of its members.
    """
    members: dict[str, list[str]] = defaultdict(list)
    for group in sorted({m.group for m in messages}):
        members[family_of[group]].append(group)
    total = len(family_of)
    names = sorted(members)
    order = np.random.default_rng(seed).permutation(len(names))
    parts: dict[str, Part] = {}
    filled = {"test": 0, "dev": 0}
    for name in (names[i] for i in order):
        size = len(members[name])
        part: Part = "train"
        if size <= max(1, total // 100):
            if filled["test"] < test_share * total:
                part = "test"
            elif filled["dev"] < dev_share * total:
                part = "dev"
        if part != "train":
            filled[part] += size
        parts.update(dict.fromkeys(members[name], part))
    return parts


def one_per_family(messages: Iterable[Message], family_of: dict[str, str]) -> list[Message]:
    """Of each family the group that most languages translate, one text per language.

    Retrieval needs one right answer: near-copies in the candidate set would make the truth
    a matter of taste.
    """
    by_family: dict[str, dict[str, dict[str, Message]]] = defaultdict(lambda: defaultdict(dict))
    for m in messages:
        by_family[family_of[m.group]][m.group].setdefault(m.lang, m)
    chosen = []
    for name in sorted(by_family):
        groups = by_family[name]
        best = min(groups, key=lambda g: (-len(groups[g]), g))
        src = min(m.src for m in groups[best].values())
        chosen += [Message(best, lang, src, m.tgt) for lang, m in groups[best].items()]
    return chosen


def _near_copies(texts: Sequence[str]) -> list[tuple[int, int]]:
    if not texts:
        return []
    grams = CountVectorizer(analyzer="char_wb", ngram_range=(3, 3), binary=True, dtype=np.int32)
    bag = grams.fit_transform(texts)
    sizes = np.asarray(bag.sum(axis=1)).ravel()
    shared = triu(bag @ bag.T, k=1).tocoo()
    union = sizes[shared.row] + sizes[shared.col] - shared.data
    near = shared.data >= NEAR_COPY * union
    return [(int(i), int(j)) for i, j in zip(shared.row[near], shared.col[near], strict=True)]


def _union(names: Sequence[str], links: Iterable[tuple[str, str]]) -> dict[str, str]:
    parent = {name: name for name in names}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for one, other in links:
        a, b = sorted((root(one), root(other)))
        parent[b] = a
    return {name: root(name) for name in names}
