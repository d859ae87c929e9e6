"""What benchmarks/filtering.py reads: labelled pairs, mixtures of known noise, vectors kept on disk."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from xalign_dist.config import EncoderConfig
from xalign_dist.corpora.languages import normalize_language
from xalign_dist.encoder import embed_texts, load_encoder
from xalign_dist.records import PAIR, Float32, text_keys

MODEL = "builtin:e5-small"
MIX_KINDS = ("random", "wrong_lang")


class Labelled(NamedTuple):
    """Pairs and one label (or human score) each."""

    pairs: pa.Table
    label: np.ndarray


def data_folder() -> Path:
    """XALIGN_DATA, or the end of the program with what is missing."""
    data = os.environ.get("XALIGN_DATA")
    if not data or not (Path(data) / "eval_filter_noise.parquet").exists():
        sys.exit("XALIGN_DATA must name the folder with eval_filter_noise.parquet, eval_ntrex.parquet, ...")
    return Path(data)


def pair_table(
    src: Sequence[str], tgt: Sequence[str], tgt_lang: Sequence[str], source: str, src_lang: str = "eng"
) -> pa.Table:
    """Pairs with ids by row."""
    ids = [f"{source}-{i}" for i in range(len(src))]
    columns = [ids, ids, [src_lang] * len(src), list(tgt_lang), list(src), list(tgt), [source] * len(src)]
    return pa.table([pa.array(c, pa.string()) for c in columns], schema=PAIR)


def filter_noise(data: Path) -> Labelled:
    """eval_filter_noise: half clean, half one corruption each."""
    t = pq.read_table(data / "eval_filter_noise.parquet")
    langs = {code: normalize_language(code) for code in t["lang"].unique().to_pylist()}
    tgt_lang = [langs[code] for code in t["lang"].to_pylist()]
    pairs = pair_table(t["eng"].to_pylist(), t["text"].to_pylist(), tgt_lang, "filter_noise")
    return Labelled(pairs, np.array(t["label"].to_pylist()))


def refresd(data: Path) -> Labelled:
    """REFreSD: equivalent, partly divergent, unrelated; judged by people."""
    t = pq.read_table(data / "eval_refresd.parquet")
    pairs = pair_table(t["eng"].to_pylist(), t["fra"].to_pylist(), ["fra"] * len(t), "refresd")
    return Labelled(pairs, np.array(t["label"].to_pylist()))


def mlqe(data: Path) -> dict[str, Labelled]:
    """MLQE by language pair, with the human adequacy of each machine translation."""
    t = pq.read_table(data / "eval_mlqe.parquet")
    found = {}
    for src, tgt in (("en", "de"), ("en", "zh"), ("ru", "en")):
        own = t.filter(pc.and_(pc.equal(t["src_lang"], src), pc.equal(t["tgt_lang"], tgt)))
        codes = normalize_language(src), normalize_language(tgt)
        pairs = pair_table(
            own["src"].to_pylist(), own["mt"].to_pylist(), [codes[1]] * len(own), "mlqe", codes[0]
        )
        found[f"{src}-{tgt}"] = Labelled(pairs, own["da_mean"].to_numpy())
    return found


def mixture(
    clean: dict[str, list[tuple[str, str]]], lang: str, kind: str, share: float, seed: int
) -> Labelled:
    """One language's pairs with ``share`` of the targets replaced; the label is True for those.

    random: another pair's target. wrong_lang: a target of another language, of the same English
    where the domain has it (else of another).
    """
    rng = np.random.default_rng([seed, round(share * 100)])
    rows = clean[lang]
    bad = np.zeros(len(rows), bool)
    bad[rng.permutation(len(rows))[: round(share * len(rows))]] = True
    others = [c for c in clean if c != lang]
    targets = []
    for i, (_, tgt) in enumerate(rows):
        if not bad[i]:
            targets.append(tgt)
        elif kind == "random":
            targets.append(rows[(i + 1 + int(rng.integers(len(rows) - 1))) % len(rows)][1])
        else:
            other = clean[others[int(rng.integers(len(others)))]]
            targets.append(other[i % len(other)][1])
    return Labelled(pair_table([s for s, _ in rows], targets, [lang] * len(rows), kind), bad)


class CachedEmbedder:
    """Embeds with ``model``; vectors of texts seen before come from ``folder``."""

    def __init__(self, folder: Path, model: str = MODEL) -> None:
        self.model, self.config = model, EncoderConfig(model=model, max_tokens=128)
        name = hashlib.sha256(f"{model} {self.config.model_dump_json()}".encode()).hexdigest()[:12]
        self.folder = folder / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.known: dict[int, int] = {}
        self.vectors: list[Float32] = []
        for part in sorted(self.folder.glob("*.parquet")):
            self._add(pq.read_table(part))
        self.encoder = None

    def _add(self, table: pa.Table) -> None:
        matrix = table["vector"].combine_chunks().flatten().to_numpy().reshape(table.num_rows, -1)
        for key, row in zip(table["key"].to_pylist(), matrix, strict=True):
            self.known[key] = len(self.vectors)
            self.vectors.append(row)

    def __call__(self, texts: Sequence[str]) -> Float32:
        """Unit vectors ``[N, D]``."""
        missing = [
            t for t, key in zip(texts, text_keys(texts).tolist(), strict=True) if key not in self.known
        ]
        missing = sorted(dict.fromkeys(missing), key=len)
        for start in range(0, len(missing), 512):
            self._embed(missing[start : start + 512])
        return np.stack([self.vectors[self.known[key]] for key in text_keys(texts).tolist()])

    def _embed(self, texts: list[str]) -> None:
        self.encoder = self.encoder or load_encoder(self.model, self.config)
        found = embed_texts(self.encoder, texts, batch_size=64)
        flat = pa.FixedSizeListArray.from_arrays(pa.array(found.reshape(-1)), found.shape[1])
        table = pa.table({"key": pa.array(text_keys(texts)), "vector": flat})
        name = hashlib.sha256(table["key"].combine_chunks().to_numpy().tobytes()).hexdigest()[:16]
        aside = self.folder / f"{name}.{os.getpid()}.tmp"
        pq.write_table(table, aside)
        aside.replace(self.folder / f"{name}.parquet")
        self._add(table)
