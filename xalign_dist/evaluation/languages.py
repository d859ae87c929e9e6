"""Which language a text of a suite is in, for baselines that must know it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from xalign_dist.evaluation.suite import Suite
from xalign_dist.evaluation.tables import PairSet
from xalign_dist.evaluation.tasks import TASKS
from xalign_dist.evaluation.tasks_downstream import ClassificationData, ClirData, MiningData
from xalign_dist.evaluation.tasks_sentence import Pool
from xalign_dist.evaluation.tasks_word import Lexicon
from xalign_dist.records import ENGLISH


def language_lookup(suite: Suite) -> Callable[[Sequence[str]], list[str]]:
    """Texts -> ISO 639-3 codes, for every text that the suite embeds.

    A text that stands in several languages (names, copies) counts for the first; one that the
    suite does not hold for English.
    """
    known: dict[str, str] = {}
    for task in suite.tasks:
        data = TASKS[task.task].load(task)
        for lang, texts in _texts(data.pairs if isinstance(data, Lexicon) else data):
            for text in texts:
                known.setdefault(text, lang)
    return lambda texts: [known.get(text, ENGLISH) for text in texts]


def _texts(data: Any) -> Iterator[tuple[str, Sequence[str]]]:
    if isinstance(data, list):
        for part in data:
            yield from _texts(part)
    elif isinstance(data, PairSet):
        yield data.src_lang, data.src
        yield data.tgt_lang, data.tgt
    elif isinstance(data, Pool):
        for lang, text in zip(data.lang, data.text, strict=True):
            yield lang, [text]
    elif isinstance(data, ClassificationData):
        for (lang, _), part in data.parts.items():
            yield lang, part.text
    elif isinstance(data, ClirData):
        for lang, queries in data.queries.items():
            yield lang, [q[0] for q in queries]
        for lang, documents in data.documents.items():
            yield lang, list(documents.values())
    elif isinstance(data, MiningData):
        yield data.src_lang, list(data.src.values())
        yield data.tgt_lang, list(data.tgt.values())
