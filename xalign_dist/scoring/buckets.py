"""Vectors of distinct texts on disk, in buckets by text key: looked up from anywhere, held by nobody."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from xalign_dist.corpora.arrays import MappedRows, mapped_rows
from xalign_dist.errors import DataError, OutputError
from xalign_dist.records import EmbedFn, Float32, Int64, text_keys

BUCKET_TEXTS = 16_384
MOST_BUCKETS = 1024
EMBED_TEXTS = 4096


def buckets_for(texts: int) -> int:
    """How many buckets keep about :data:`BUCKET_TEXTS` texts each; at most :data:`MOST_BUCKETS`."""
    return min(MOST_BUCKETS, max(1, -(-texts // BUCKET_TEXTS)))


def bucket_of(key_N: Int64, count: int) -> Int64:
    """The bucket of each text key."""
    return np.asarray(key_N % count, np.int64)


class VectorBuckets:
    """The vectors in ``folder``: an :class:`~xalign_dist.records.EmbedFn` for the texts put there."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.count = folder, count

    def done(self, number: int) -> bool:
        """Whether bucket ``number`` is whole; its keys are written last."""
        return self._path(number, "keys").exists()

    def write(self, number: int, texts: Sequence[str], embed: EmbedFn) -> int:
        """Embed the distinct ``texts`` of bucket ``number``; how many there are.

        Raises:
            OutputError: not writable, or the disk is full.
        """
        # Of like length together: that is how encoders are fast.
        distinct = sorted(dict.fromkeys(texts), key=lambda t: (len(t), t))
        key_N = text_keys(distinct)
        place_N = np.empty(len(key_N), np.int64)
        place_N[np.argsort(key_N, kind="stable")] = np.arange(len(key_N))
        vectors: MappedRows | None = None
        aside = self._path(number, "vectors").with_suffix(f".{os.getpid()}.tmp")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for start in range(0, len(distinct), EMBED_TEXTS):
                found = embed(distinct[start : start + EMBED_TEXTS])
                if vectors is None:
                    vectors = mapped_rows(aside, len(distinct), found.shape[1])
                vectors[place_N[start : start + EMBED_TEXTS]] = found
            if vectors is not None:
                vectors.flush()
                aside.replace(self._path(number, "vectors"))
            self._save("keys", number, np.sort(key_N))
        except OSError as err:
            raise OutputError(
                f"{self.folder}: cannot be written ({err.strerror})",
                "free disk space, or choose another --out",
            ) from err
        finally:
            aside.unlink(missing_ok=True)
        return len(distinct)

    def save(self, key_N: Int64, vector_MD: Float32, row_N: Int64) -> None:
        """Put vectors that are there already into the one bucket of a store with ``count`` 1.

        Args:
            key_N: distinct.
            vector_MD: may be larger than memory; read some thousand rows at a time.
            row_N: the row of each key in ``vector_MD``.
        """
        order = np.argsort(key_N, kind="stable")
        aside = self._path(0, "vectors").with_suffix(f".{os.getpid()}.tmp")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            out = mapped_rows(aside, len(key_N), vector_MD.shape[1])
            for start in range(0, len(key_N), EMBED_TEXTS):
                out[start : start + EMBED_TEXTS] = vector_MD[row_N[order[start : start + EMBED_TEXTS]]]
            out.flush()
            aside.replace(self._path(0, "vectors"))
            self._save("keys", 0, key_N[order])
        except OSError as err:
            raise OutputError(
                f"{self.folder}: cannot be written ({err.strerror})",
                "free disk space, or choose another --out",
            ) from err
        finally:
            aside.unlink(missing_ok=True)

    def _save(self, what: str, number: int, array: np.ndarray) -> None:
        path = self._path(number, what)
        aside = path.with_suffix(f".{os.getpid()}.tmp")
        with aside.open("wb") as out:
            np.save(out, array, allow_pickle=False)
        aside.replace(path)

    def _path(self, number: int, what: str) -> Path:
        return self.folder / f"{number:06d}.{what}.npy"

    def __call__(self, texts: Sequence[str]) -> Float32:
        """Unit vectors ``[N, D]`` of ``texts``.

        Raises:
            DataError: a text is not there, or a bucket cannot be read.
        """
        key_N = text_keys(texts)
        bucket_N = bucket_of(key_N, self.count)
        found: Float32 | None = None
        for number in np.unique(bucket_N).tolist():
            at = np.flatnonzero(bucket_N == number)
            part = self._look_up(number, key_N[at], [texts[i] for i in at[:1]])
            if found is None:
                found = np.empty((len(texts), part.shape[1]), np.float32)
            found[at] = part
        return np.zeros((0, 0), np.float32) if found is None else found

    def _look_up(self, number: int, key_M: Int64, sample: list[str]) -> Float32:
        try:
            keys = np.load(self._path(number, "keys"), mmap_mode="r", allow_pickle=False)
            row_M = np.minimum(np.searchsorted(keys, key_M), max(0, len(keys) - 1))
            if not len(keys) or (keys[row_M] != key_M).any():
                raise DataError(
                    f"{self.folder}: texts without a vector, near {sample[0][:60]!r}",
                    "the corpus changed after it was embedded: use a new --out",
                )
            vectors = np.load(self._path(number, "vectors"), mmap_mode="r", allow_pickle=False)
            return np.asarray(vectors[row_M], np.float32)
        except (OSError, ValueError) as err:
            raise DataError(
                f"{self.folder}: vectors of bucket {number} cannot be read ({err})",
                "delete this folder and run the command again",
            ) from None
