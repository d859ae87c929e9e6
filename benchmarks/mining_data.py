"""What the mining benchmarks read: two monolingual sides with hidden translations, vectors kept on disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import common
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from xalign_dist.config import EncoderConfig, MiningConfig
from xalign_dist.corpora.languages import normalize_language
from xalign_dist.encoder import Encoder, embed_views, load_encoder
from xalign_dist.mining import distinct
from xalign_dist.records import SENTENCE, Float32, text_keys

MODEL = "builtin:e5-small"
PART_TEXTS = 1024
Gold = set[tuple[str, str]]


class MiningSet(NamedTuple):
    """One language pair of eval_mining: both sides without repeated texts, and the (source, target) ids."""

    name: str
    lang: str
    source: pa.Table
    target: pa.Table
    gold: Gold


def mining_sets(names: Sequence[str] | None = None) -> list[MiningSet]:
    """The language pairs of eval_mining, by name; ``names`` None: all of them."""
    sentences = pq.read_table(common.data_file("eval_mining_sentences.parquet"))
    gold = pq.read_table(common.data_file("eval_mining_gold.parquet"))
    found = []
    for name in names or sorted(pc.unique(gold["pair"]).to_pylist()):
        own = sentences.filter(pc.equal(sentences["pair"], name))
        sides, keep = [], []
        for side, code in zip(("xx", "en"), name.split("-"), strict=True):
            rows = own.filter(pc.equal(own["side"], side))
            table, first = _side(rows, normalize_language(code))
            sides.append(table)
            keep.append(first)
        pairs = gold.filter(pc.equal(gold["pair"], name))
        both = zip(pairs["xx_id"].to_pylist(), pairs["en_id"].to_pylist(), strict=True)
        truth = {(keep[0][a], keep[1][b]) for a, b in both}
        found.append(MiningSet(name, sides[0]["lang"][0].as_py(), sides[0], sides[1], truth))
    return found


def _side(rows: pa.Table, lang: str) -> tuple[pa.Table, dict[str, str]]:
    """Distinct sentences, and for every id that of the first sentence with the same text."""
    ids, texts = rows["sent_id"].to_pylist(), rows["text"].to_pylist()
    table = pa.table([ids, [lang] * len(ids), texts, ["eval_mining"] * len(ids)], schema=SENTENCE)
    first: dict[str, str] = {}
    for i, text in zip(ids, texts, strict=True):
        first.setdefault(text, i)
    return distinct(table), {i: first[text] for i, text in zip(ids, texts, strict=True)}


class ViewCache:
    """Embeds as `xalign mine` does, in two views; texts seen before come from ``folder``.

    Args:
        folder: of the vectors; the model and its settings name a folder in it.
        model: as ``--model``.
    """

    def __init__(self, folder: Path, model: str = MODEL) -> None:
        self.model, self.config, self.layer = model, EncoderConfig(model=model), MiningConfig().view_layer
        used = f"{model} {self.config.max_tokens} {self.config.query_prefix} {self.layer}"
        self.folder = folder / hashlib.sha256(used.encode()).hexdigest()[:12]
        self.folder.mkdir(parents=True, exist_ok=True)
        self._encoder: Encoder | None = None
        self._row: dict[int, int] = {}
        self._views: list[list[Float32]] = [[], []]
        for part in sorted(self.folder.glob("*.npz")):
            self._add(part)

    def __call__(self, texts: Sequence[str]) -> tuple[Float32, Float32]:
        """Unit vectors of the last layer and of the second view, ``[N, D]`` each."""
        keys = text_keys(texts).tolist()
        new = {t: None for t, key in zip(texts, keys, strict=True) if key not in self._row}
        missing = sorted(new, key=len)
        for at in range(0, len(missing), PART_TEXTS):
            self._embed(missing[at : at + PART_TEXTS])
        rows = [self._row[key] for key in keys]
        main, view = (np.stack([v[r] for r in rows]) for v in self._views)
        return main, view

    def _embed(self, texts: list[str]) -> None:
        self._encoder = self._encoder or load_encoder(self.model, self.config)
        main, view = embed_views(self._encoder, texts, self.layer)
        keys = text_keys(texts)
        part = self.folder / f"{hashlib.sha256(keys.tobytes()).hexdigest()[:16]}.npz"
        aside = part.with_suffix(f".{os.getpid()}.writing")
        with aside.open("wb") as out:
            np.savez(out, keys=keys, main=main, view=view)
        aside.replace(part)
        self._add(part)

    def _add(self, part: Path) -> None:
        with np.load(part, allow_pickle=False) as found:
            for row, key in enumerate(found["keys"].tolist()):
                self._row[key] = len(self._views[0]) + row
            for own, name in zip(self._views, ("main", "view"), strict=True):
                own.extend(found[name])
