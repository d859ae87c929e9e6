"""Text files line by line, plain or compressed, from any file system."""

from __future__ import annotations

import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

import zstandard

from xalign_dist.corpora.places import reason_of
from xalign_dist.errors import DataError

MAX_LINE_BYTES = 1 << 20
"""A longer line is a fault; it is skipped without being held in memory."""

_READ_BYTES = 1 << 16
_BOM = b"\xef\xbb\xbf"


@contextmanager
def open_binary(path: str, filesystem: Any) -> Iterator[BinaryIO]:
    """The decompressed bytes of a file.

    Raises:
        DataError: missing, not readable, damaged or cut off.
    """
    try:
        with filesystem.open(path, "rb") as raw:
            yield _decompressed(path, raw)
    except FileNotFoundError as err:
        raise DataError(f"{path}: no such file", "check the path") from err
    except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError) as err:
        raise DataError(f"{path}: damaged or cut off ({err})", "copy or compress the file again") from err
    except OSError as err:
        raise DataError(
            f"{path}: cannot be read ({reason_of(err)})", "check the path and its rights"
        ) from err


def _decompressed(path: str, raw: Any) -> BinaryIO:
    if path.endswith(".gz"):
        return cast(BinaryIO, gzip.GzipFile(fileobj=raw))
    if path.endswith(".xz"):
        return cast(BinaryIO, lzma.LZMAFile(raw))
    if path.endswith(".zst"):
        return cast(BinaryIO, io.BufferedReader(_ZstdStream(raw), _READ_BYTES))
    return cast(BinaryIO, raw)


class _ZstdStream(io.RawIOBase):
    """Zstandard that notices a cut-off file; the library's own reader takes that for a normal end."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        self.frame = zstandard.ZstdDecompressor().decompressobj()
        self.pending = b""
        self.started = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self.pending:
            data = self.frame.unused_data if self.frame.eof else b""
            data = data or self.raw.read(_READ_BYTES)
            if not data:
                if self.started and not self.frame.eof:
                    raise EOFError("compressed file ended before its end marker")
                return 0
            if self.frame.eof:
                self.frame = zstandard.ZstdDecompressor().decompressobj()
            self.pending, self.started = self.frame.decompress(data), True
        count = min(len(buffer), len(self.pending))
        buffer[:count], self.pending = self.pending[:count], self.pending[count:]
        return count


def read_lines(path: str, filesystem: Any) -> Iterator[tuple[str | None, str | None]]:
    """(text, fault) of each line: the text without its end, or why it cannot be read.

    Only ``\\n`` ends a line (a ``\\r`` before it is dropped): other Unicode line ends occur
    inside sentences, and splitting at them would shift every later pair. A byte-order mark
    at the start of the file is no text.
    """
    with open_binary(path, filesystem) as handle:
        start = _BOM
        while line := handle.readline(MAX_LINE_BYTES + 1):
            if len(line) > MAX_LINE_BYTES:
                while line and not line.endswith(b"\n"):
                    line = handle.readline(MAX_LINE_BYTES)
                yield None, f"line is longer than {MAX_LINE_BYTES:,} bytes"
            else:
                yield _decoded(line.removeprefix(start))
            start = b""


def _decoded(line: bytes) -> tuple[str | None, str | None]:
    try:
        return line.decode("utf-8").removesuffix("\n").removesuffix("\r"), None
    except UnicodeDecodeError as err:
        return None, f"invalid UTF-8 at byte {err.start}"
