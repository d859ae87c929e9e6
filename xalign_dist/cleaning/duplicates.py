"""Exact and near duplicates; the first one in corpus order stays."""

from __future__ import annotations

import re
import zlib
from typing import Any

import pyarrow as pa
from datasketch import MinHash, MinHashLSH

from xalign_dist.cleaning.normalise import fold
from xalign_dist.config import CleaningConfig
from xalign_dist.records import PAIR, SENTENCE, Chunk, text_key, with_rejection

_SHINGLE = 5
_SEED = 1
# Of a false candidate and a missed one: candidates are checked again by their MinHashes, misses are lost.
_LSH_WEIGHTS = (0.05, 0.95)
_SIDE = "\x1f"
_DIGITS = re.compile(r"\d+")


class Deduplicator:
    """Remembers what it has let through. One object sees the whole stream, in order.

    Two records are copies when their texts (of a pair: both) and languages are the same up to
    case and width; near copies when the character 5-grams of their texts have a MinHash
    similarity of ``near_duplicate_jaccard``. Near copies are looked for within one language
    (pair) only: a text left untranslated in two languages is for the language filter. Texts
    whose numbers differ are no near copies, however long: "page 2" is not "page 3".

    Memory: about 0.2 kB a record for exact, about 2 kB for near duplicates.
    """

    def __init__(self, cfg: CleaningConfig) -> None:
        self.exact = "exact_duplicate" in cfg.filters
        self.near = "near_duplicate" in cfg.filters
        self._seen: dict[int, str] = {}
        self._permutations, self._jaccard = cfg.minhash_permutations, cfg.near_duplicate_jaccard
        self._indices: dict[str, MinHashLSH] = {}
        self._kept: list[tuple[str, MinHash]] = []

    def apply(self, table: pa.Table) -> Chunk:
        """``table`` without rows that repeat an earlier one; the detail names that one's id."""
        pairs = "src" in table.column_names
        ids = table["src_id" if pairs else "id"].to_pylist()
        langs = _joined(table, ("src_lang", "tgt_lang") if pairs else ("lang",))
        texts = [fold(t) for t in _joined(table, ("src", "tgt") if pairs else ("text",))]
        rows = list(range(table.num_rows))
        copies = {i: twin for i in rows if (twin := self._copy_of(langs[i], texts[i], ids[i])) is not None}
        fresh = [i for i in rows if i not in copies]
        near = self._near_copies(fresh, langs, texts, ids)
        rejects = [
            with_rejection(_take(table, list(found)), reason, [f"copy of {twin}" for twin in found.values()])
            for reason, found in (("exact_duplicate", copies), ("near_duplicate", near))
        ]
        kept = _take(table, [i for i in fresh if i not in near])
        return Chunk(kept.cast(PAIR if pairs else SENTENCE), pa.concat_tables(rejects))

    def _copy_of(self, lang: str, text: str, id_: str) -> str | None:
        if not self.exact:
            return None
        key = text_key(f"{lang}{_SIDE}{text}")
        twin = self._seen.get(key)
        if twin is None:
            self._seen[key] = id_
        return twin

    def _near_copies(
        self, rows: list[int], langs: list[str], texts: list[str], ids: list[str]
    ) -> dict[int, str]:
        if not self.near or not rows:
            return {}
        minhashes = MinHash.bulk(
            [_shingles(texts[i]) for i in rows],
            num_perm=self._permutations,
            seed=_SEED,
            hashfunc=zlib.crc32,  # half of the time went into the default, SHA-1
        )
        found: dict[int, str] = {}
        for row, minhash in zip(rows, minhashes, strict=True):
            _salt(minhash, texts[row])
            index = self._index(langs[row])
            twins = (k for k in sorted(index.query(minhash)) if self._alike(k, minhash))
            twin = next(twins, None)
            if twin is None:
                index.insert(len(self._kept), minhash)
                self._kept.append((ids[row], minhash))
            else:
                found[row] = self._kept[twin][0]
        return found

    def _index(self, lang: str) -> Any:
        if lang not in self._indices:
            self._indices[lang] = MinHashLSH(
                threshold=self._jaccard, num_perm=self._permutations, weights=_LSH_WEIGHTS
            )
        return self._indices[lang]

    def _alike(self, number: int, minhash: MinHash) -> bool:
        return bool(self._kept[number][1].jaccard(minhash) >= self._jaccard)


def _joined(table: pa.Table, names: tuple[str, ...]) -> list[str]:
    return [_SIDE.join(row) for row in zip(*(table[n].to_pylist() for n in names), strict=True)]


def _salt(minhash: MinHash, text: str) -> None:
    # Other numbers, other values throughout: such texts meet in no band. Comparing the numbers of
    # candidates instead takes quadratic time on thousands of rows like "page 7 of 900".
    numbers = _DIGITS.findall(text)
    if numbers:
        minhash.hashvalues ^= minhash.hashvalues.dtype.type(zlib.crc32(_SIDE.join(numbers).encode()))


def _shingles(text: str) -> set[bytes]:
    grams = {text[i : i + _SHINGLE] for i in range(max(1, len(text) - _SHINGLE + 1))}
    return {g.encode("utf-8", "surrogatepass") for g in grams}


def _take(table: pa.Table, rows: list[int]) -> pa.Table:
    return table.take(pa.array(rows, pa.int64()))
