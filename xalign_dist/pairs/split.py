"""Train, dev and test without leakage, and stable when data are added."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from xalign_dist.config import PairsConfig
from xalign_dist.records import Int64, text_keys

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")

# Common short texts ("OK", "Name") can tie a large part of a corpus together. Such a component would
# be a whole held-out set, or overflow it, by one draw of a hash: it trains instead.
_LARGE_ROWS = 100


def split_groups(keys: Sequence[Hashable], cfg: PairsConfig, seed: int) -> list[Split]:
    """The split of each row by a hash of (seed, key): equal keys share it, other rows do not matter.

    ``cfg.test_share`` and ``cfg.dev_share`` are shares of the groups, not of the rows. Keys must
    have a ``repr`` that is the same in every process: strings, numbers, tuples of them.
    """
    memo: dict[Hashable, Split] = {}
    for key in keys:
        if key not in memo:
            memo[key] = _split_of(key, cfg, seed)
    return [memo[key] for key in keys]


def split_pairs(table: pa.Table, cfg: PairsConfig, seed: int) -> dict[Split, pa.Table]:
    """Split a table with columns ``src`` and ``tgt`` so that no text is in two splits, on either side.

    Rows that share a text, directly or through other rows, form a component; its smallest text key
    is hashed as in :func:`split_groups`. Added rows move old ones only when they join their
    component or bring it a smaller key. A component of more than 100 rows and more than half of
    the dev share always trains. Row order is kept.
    """
    src_key_N = text_keys(table["src"].to_pylist())
    tgt_key_N = text_keys(table["tgt"].to_pylist())
    component_N, smallest_C = _components(src_key_N, tgt_key_N)
    split_C = np.array(split_groups(smallest_C.tolist(), cfg, seed), dtype=object)
    rows_C = np.bincount(component_N, minlength=len(smallest_C))
    split_C[rows_C > max(_LARGE_ROWS, cfg.dev_share * table.num_rows / 2)] = "train"
    split_N = split_C[component_N]
    return {name: table.filter(pa.array(split_N == name, pa.bool_())) for name in SPLITS}


def _split_of(key: Hashable, cfg: PairsConfig, seed: int) -> Split:
    digest = hashlib.blake2b(f"{seed}:{key!r}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    draw = int.from_bytes(digest, "little") / 2**64
    if draw < cfg.test_share:
        return "test"
    return "dev" if draw < cfg.test_share + cfg.dev_share else "train"


def _components(src_key_N: Int64, tgt_key_N: Int64) -> tuple[Int64, Int64]:
    """Component of each row (0..C-1), and each component's smallest text key."""
    keys_K, ids = np.unique(np.concatenate([src_key_N, tgt_key_N]), return_inverse=True)
    src_N, tgt_N = ids[: len(src_key_N)], ids[len(src_key_N) :]
    links = coo_array((np.ones(len(src_N), dtype=np.int8), (src_N, tgt_N)), shape=(len(keys_K),) * 2)
    count, component_K = connected_components(links, directed=False)
    # Keys are sorted, so the first key of a component is its smallest.
    _, first_C = np.unique(component_K, return_index=True)
    return component_K[src_N].astype(np.int64), keys_K[first_C] if count else keys_K
