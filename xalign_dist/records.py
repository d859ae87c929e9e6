"""The vocabulary between stages: Arrow schemas, metrics, and the embedding protocol.

No torch and no Ray here: every layer may import this module.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

SENTENCE = pa.schema(
    [("id", pa.string()), ("lang", pa.string()), ("text", pa.string()), ("source", pa.string())]
)

PAIR = pa.schema(
    [
        ("src_id", pa.string()),
        ("tgt_id", pa.string()),
        ("src_lang", pa.string()),
        ("tgt_lang", pa.string()),
        ("src", pa.string()),
        ("tgt", pa.string()),
        ("source", pa.string()),
    ]
)

_SCORE_FIELDS = [
    pa.field("cosine", pa.float32()),
    pa.field("margin", pa.float32()),
    pa.field("confidence", pa.float32()),
    pa.field("origin", pa.string()),
    pa.field("round", pa.int32()),
    pa.field("stable_rounds", pa.int32()),
]
SCORED_PAIR = pa.schema([*PAIR, *_SCORE_FIELDS])

_REJECT_FIELDS = [pa.field("reason", pa.string()), pa.field("detail", pa.string())]
PAIR_REJECT = pa.schema([*PAIR, *_REJECT_FIELDS])
SENTENCE_REJECT = pa.schema([*SENTENCE, *_REJECT_FIELDS])

ORIGIN_PARALLEL = "parallel"
ORIGIN_MINED = "mined"

ENGLISH = "eng"


class Chunk(NamedTuple):
    """What a reader or a filter gives back: rows kept, and rows refused with their reason."""

    kept: pa.Table
    rejects: pa.Table


class EmbedFn(Protocol):
    """Texts in, unit vectors out. The one way the flow reaches an encoder.

    Implementations: an :class:`~xalign_dist.encoder.model.Encoder` in this process,
    or the embedding pool on Ray.
    """

    def __call__(self, texts: Sequence[str]) -> Float32:
        """Embed ``texts``.

        Returns:
            float32 array ``[N, D]``, one unit vector per text, in the order given.
        """
        ...


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of metrics.json.

    ``value`` is a share in [0, 1] unless the metric's own definition says otherwise;
    ``low`` and ``high`` bound its 95 % bootstrap interval (None: not computed);
    ``n`` counts the items behind it; ``round`` is the mining round (0: before any).
    """

    model: str
    round: int
    task: str
    metric: str
    src_lang: str
    tgt_lang: str
    value: float
    low: float | None
    high: float | None
    n: int
    seed: int

    def to_json(self) -> dict[str, Any]:
        """The row as plain JSON types."""
        return asdict(self)


def text_key(text: str) -> int:
    """A 63-bit key of a text, the same on every machine and in every process.

    Python's own ``hash`` is salted per process, so it cannot be used across workers.
    """
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def text_keys(texts: Sequence[str]) -> Int64:
    """:func:`text_key` of every text, int64 ``[N]``."""
    return np.fromiter((text_key(t) for t in texts), dtype=np.int64, count=len(texts))


def with_rejection(table: pa.Table, reason: str, detail: Sequence[str]) -> pa.Table:
    """``table`` with the columns ``reason`` (one for all rows) and ``detail`` (one each)."""
    return table.append_column(
        _REJECT_FIELDS[0], pa.array([reason] * table.num_rows, pa.string())
    ).append_column(_REJECT_FIELDS[1], pa.array(list(detail), pa.string()))
