"""Pairs of known noise, and vectors that are a function of the text: a corpus of any size for nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from xalign_dist.records import PAIR, PAIR_REJECT, Chunk, text_key

DIM = 48


def vector(text: str) -> np.ndarray:
    """``"<side> m<meaning> ..."``: the meaning's vector, a little moved by the side."""
    side, meaning = text.split()[:2]
    base = np.random.default_rng(int(meaning[1:])).normal(size=DIM) + 1.0
    moved = base + 0.35 * np.random.default_rng(text_key(f"{side}{meaning}")).normal(size=DIM)
    return (moved / np.linalg.norm(moved)).astype(np.float32)


def embed(texts: Sequence[str]) -> np.ndarray:
    """An ``EmbedFn``."""
    return np.array([vector(t) for t in texts], np.float32).reshape(len(texts), DIM)


def pairs(start: int, count: int, noise: float, source: str = "toy", lang: str = "deu") -> pa.Table:
    """``count`` pairs from meaning ``start`` on; of a share ``noise`` the target has another meaning."""
    rng = np.random.default_rng([start, count])
    wrong = round(noise * count)
    meanings = np.arange(start, start + count)
    targets = meanings.copy()
    targets[:wrong] = np.roll(meanings[:wrong], 1) if wrong > 1 else meanings[:wrong] + 10**6
    order = rng.permutation(count)
    src = [f"en m{m} it is" for m in meanings[order]]
    tgt = [f"de m{m} es ist" for m in targets[order]]
    ids = [f"{source}-{m}" for m in meanings[order]]
    columns = [ids, ids, ["eng"] * count, [lang] * count, src, tgt, [source] * count]
    return pa.table(columns, schema=PAIR)


def chunks(table: pa.Table, rows: int) -> Iterator[Chunk]:
    """``table`` as readers give it."""
    for at in range(0, table.num_rows, rows):
        yield Chunk(table.slice(at, rows), PAIR_REJECT.empty_table())


def cheap_embed(texts: Sequence[str]) -> np.ndarray:
    """As :func:`embed`, 384 wide and thousands at a time, of texts ``"<side> <meaning> ..."``."""
    meaning = np.array([int(t.split()[1]) for t in texts], np.uint64)
    side = np.array([t.startswith("de") for t in texts], np.uint64)
    wide = np.arange(1, 385, dtype=np.uint64)
    base = _noise(meaning[:, None] * np.uint64(1_000_003) + wide)
    moved = base + 0.35 * _noise((meaning * 2 + side)[:, None] * np.uint64(7_368_787) + wide) + 0.5
    return (moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float32)


def _noise(seed: np.ndarray) -> np.ndarray:
    """Uniform in [-1, 1), a function of ``seed``."""
    mixed = (seed ^ (seed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (mixed >> np.uint64(40)).astype(np.float64) / 2**23 - 1


def cheap_pairs(rows: int) -> Iterator[Chunk]:
    """``rows`` pairs as readers give them, made as they are asked for; every fifth target is another's."""
    for start in range(0, rows, 10_000):
        meaning = np.arange(start, min(start + 10_000, rows))
        target = np.where(meaning % 5 == 0, (meaning + 5) % rows, meaning)
        ids = [str(m) for m in meaning]
        src, tgt = [f"en {m} it is" for m in meaning], [f"de {m} es ist" for m in target]
        count = len(meaning)
        columns = [ids, ids, ["und"] * count, ["und"] * count, src, tgt, ["web"] * count]
        yield Chunk(pa.table(columns, schema=PAIR), PAIR_REJECT.empty_table())
