"""Exact and near duplicates; the first one in corpus order stays."""

from __future__ import annotations

import unicodedata

import numpy as np
import pyarrow as pa
from datasketch import MinHash, MinHashLSH

from xalign_dist.config import CleaningConfig
from xalign_dist.records import PAIR, SENTENCE, Chunk, text_key, with_rejection

_SHINGLE = 5
_SEED = 1


class Deduplicator:
    """Remembers what it has let through. One object sees the whole stream, in order.

    Memory: 16 bytes a text for exact, about 2 kB a text for near duplicates.
    """

    def __init__(self, cfg: CleaningConfig) -> None:
        self.exact = "exact_duplicate" in cfg.filters
        self.near = "near_duplicate" in cfg.filters
        self.permutations = cfg.minhash_permutations
        self._seen: dict[int, str] = {}
        self._lsh = MinHashLSH(threshold=cfg.near_duplicate_jaccard, num_perm=self.permutations)
        self._minhashes: dict[str, MinHash] = {}
        self._threshold = cfg.near_duplicate_jaccard

    def apply(self, table: pa.Table) -> Chunk:
        """``table`` without rows that repeat an earlier one; the detail names that one's id."""
        pairs = "src" in table.column_names
        ids = table["src_id" if pairs else "id"].to_pylist()
        texts = _whole_texts(table, pairs)
        exact = self._exact(texts, ids) if self.exact else [None] * len(texts)
        fresh = [i for i, found in enumerate(exact) if found is None]
        near: list[str | None] = [None] * len(texts)
        if self.near:
            for i, found in zip(fresh, self._near([texts[i] for i in fresh], [ids[i] for i in fresh]), strict=True):
                near[i] = found
        rejects = [
            with_rejection(_rows(table, found), reason, [f"copy of {found[i]}" for i in _places(found)])
            for reason, found in (("exact_duplicate", exact), ("near_duplicate", near))
        ]
        kept = [i for i in fresh if near[i] is None]
        schema = PAIR if pairs else SENTENCE
        return Chunk(table.take(pa.array(kept, pa.int64())).cast(schema), pa.concat_tables(rejects))

    def _exact(self, texts: list[str], ids: list[str]) -> list[str | None]:
        out: list[str | None] = []
        for text, id_ in zip(texts, ids, strict=True):
            key = text_key(text)
            out.append(self._seen.get(key))
            self._seen.setdefault(key, id_)
        return out

    def _near(self, texts: list[str], ids: list[str]) -> list[str | None]:
        out: list[str | None] = []
        shingled = [_shingles(t) for t in texts]
        for number, minhash in enumerate(
            MinHash.bulk(shingled, num_perm=self.permutations, seed=_SEED) if texts else []
        ):
            twin = next(
                (k for k in sorted(self._lsh.query(minhash)) if self._minhashes[k].jaccard(minhash) >= self._threshold),
                None,
            )
            out.append(twin)
            name = f"{ids[number]}"
            if twin is None and name not in self._minhashes:
                self._lsh.insert(name, minhash)
                self._minhashes[name] = minhash
        return out


def _whole_texts(table: pa.Table, pairs: bool) -> list[str]:
    """What must be equal to be a copy: languages and texts, case and width folded."""
    names = ("src_lang", "src", "tgt_lang", "tgt") if pairs else ("lang", "text")
    columns = [table[n].to_pylist() for n in names]
    return [unicodedata.normalize("NFKC", "\x1f".join(row)).casefold() for row in zip(*columns, strict=True)]


def _shingles(text: str) -> list[bytes]:
    # Numbers are kept apart: "page 2" and "page 3" are different sentences, however alike.
    digits = [b"#" + d.encode() for d in "".join(c if c.isdigit() else " " for c in text).split()]
    grams = {text[i : i + _SHINGLE].encode("utf-8", "surrogatepass") for i in range(max(1, len(text) - 4))}
    return [*sorted(grams), *(d * (1 + i) for i, d in enumerate(digits))]


def _places(found: list[str | None]) -> list[int]:
    return [int(i) for i in np.flatnonzero([f is not None for f in found])]


def _rows(table: pa.Table, found: list[str | None]) -> pa.Table:
    return table.take(pa.array(_places(found), pa.int64()))
