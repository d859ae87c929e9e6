"""Speed of mining: sharded search, the whole of `xalign mine`, and embedding, each against its peer.

    XALIGN_DATA=DIR python benchmarks/mining.py [--quick] [--json FILE] [--part search|whole|embed]

search: two shard actors and the merge against one FAISS call in this process, both with every core.
whole: text files and cached vectors (of both views) to audited pairs, in this process as `xalign mine`
does it on one machine, against the recipe of sentence-transformers, which knows one view and no
confidence; and with two shard actors, Ray's start included (--actors). embed: texts/s of
``embed_texts`` against ``SentenceTransformer.encode``, same weights, same ragged texts of 12 languages.
Vectors are those of real sentences; where more are needed, they are repeated with a little noise.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import common
import numpy as np
import pyarrow as pa
import ray
from common import Row, interleaved, medians
from mining_data import MODEL, ViewCache, mining_sets
from mining_recipe import one_call, recipe
from rich.console import Console

from xalign_dist.config import EncoderConfig, RunConfig, RuntimeConfig, parse_config
from xalign_dist.corpora.tables import write_table
from xalign_dist.encoder import embed_texts, load_encoder, save_encoder
from xalign_dist.pipeline.console import Screen
from xalign_dist.pipeline.files import mine_files
from xalign_dist.records import text_keys
from xalign_dist.runtime.session import ray_session
from xalign_dist.runtime.shards import shard_pool
from xalign_dist.runtime.vectors import BLOCK_TEXTS, EmbedJob

K = 16
NOISE = 0.3


def many(vectors_ND: np.ndarray, rows: int, seed: int) -> np.ndarray:
    """``rows`` unit vectors around those given: noise as long as 0.3 of a vector."""
    rng = np.random.default_rng(seed)
    found = vectors_ND[rng.permutation(rows) % len(vectors_ND)]
    found += rng.standard_normal(found.shape, np.float32) * np.float32(NOISE / np.sqrt(found.shape[1]))
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found


def timed(work: object, *args: object) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    work(*args)  # type: ignore[operator]
    return time.perf_counter() - start


def search(args: argparse.Namespace, vectors: np.ndarray) -> list[Row]:
    """Sharded search with merge against one call."""
    rows, queries = (50_000, 10_000) if args.quick else (200_000, args.queries)
    base, query = many(vectors, rows, 0), many(vectors, queries, 1)
    with (
        ray_session(RuntimeConfig()) as resources,
        tempfile.TemporaryDirectory() as folder,
        shard_pool(Path(folder), resources.shards(None)) as pool,
    ):
        pool(query[:64], base[:1000], K)  # Workers have started and imported faiss.
        arms = {
            "ours": lambda: timed(pool, query, base, K),
            "peer": lambda: timed(one_call, query, base, K),
        }
        seconds = medians(interleaved(arms, args.repeats))
        ours, peer = pool(query[:500], base, K), one_call(query[:500], base, K)
    same = float((ours[1] == peer[1]).mean())
    speed = {name: queries * rows / s / 1e6 for name, s in seconds.items()}
    name = f"sharded flat search with merge, {queries:,} x {rows:,} x {base.shape[1]}"
    unit = "million comparisons/s"
    return [
        Row(name, speed["ours"], speed["peer"], unit, args.repeats, "at least 0.90"),
        Row("the same neighbours in the same order", same, None, "share", 500),
    ]


def whole(args: argparse.Namespace, vectors: np.ndarray) -> list[Row]:
    """Text files to pairs, vectors cached."""
    rows = 10_000 if args.quick else args.sentences
    with tempfile.TemporaryDirectory() as name:
        home, texts, sides = Path(name), [], []
        for side, seed in (("a", 2), ("b", 3)):
            texts += [f"sentence {i} of side {side}" for i in range(rows)]
            (home / f"{side}.txt").write_text("\n".join(texts[-rows:]) + "\n", "utf-8")
            sides.append(many(vectors, rows, seed))
            np.save(home / f"{side}.npy", sides[-1])
        (home / "blocks").mkdir()
        both = np.concatenate(sides)
        for number, at in enumerate(range(0, len(texts), BLOCK_TEXTS)):
            rows_of = slice(at, at + BLOCK_TEXTS)
            block = _block(texts[rows_of], both[rows_of])
            write_table(block, str(home / "blocks" / f"block-{number:06d}.parquet"), compression="none")
        size, turn = 4 * sides[0].nbytes / 1e9, iter(range(1000))
        del sides, both
        files, saved = (home / "a.txt", home / "b.txt"), (home / "a.npy", home / "b.npy")

        def ours(shards: int | None = None) -> float:
            out, config = _embedded(home, next(turn)), parse_config({"mining": {"shards": shards}})
            screen = Screen(False, Console(file=io.StringIO()))
            return timed(mine_files, MODEL, *map(str, files), {}, str(out), config, screen, "en", "de")

        arms = {"ours": ours, "peer": lambda: timed(recipe, *files, saved, home / "pairs.tsv")}
        if args.actors:
            arms["actors"] = lambda: ours(2)
        seconds = medians(interleaved(arms, args.repeats))
        command = _command(files, _embedded(home, next(turn)))
    speed, name = {arm: 2 * rows / s for arm, s in seconds.items()}, f"2 x {rows:,} sentences"
    unit, n = "sentences/s", args.repeats
    found = [
        Row(f"text to pairs, {name}", speed["ours"], speed["peer"], unit, n, "at least 1"),
        Row(f"peak memory of the command ({size:.2f} GB of vectors)", command[1], None, "GB", 1),
        Row("seconds of the command, start of Python and imports included", command[0], None, "s", 1),
    ]
    if args.actors:
        found.append(Row("the same with 2 shard actors", speed["actors"], speed["peer"], unit, n))
    return found


def _embedded(home: Path, turn: int) -> Path:
    """A folder for results in which every text has its vectors already."""
    job = EmbedJob(MODEL, RunConfig().encoder.model_copy(update={"model": MODEL}), view_layer=-4)
    out = home / f"out{turn}"
    folder = out / "_work" / "vectors" / job.fingerprint()
    folder.mkdir(parents=True)
    for block in (home / "blocks").iterdir():
        (folder / block.name).hardlink_to(block)
    return out


def _command(files: tuple[Path, Path], out: Path) -> tuple[float, float]:
    """Seconds and peak GB of `xalign mine` in a process of its own."""
    words = ["mine", "--model", MODEL, "--source", str(files[0]), "--target", str(files[1])]
    words += ["--src-lang", "en", "--tgt-lang", "de", "--out", str(out)]
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-m", "xalign_dist", *words], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"xalign mine ended with {child.returncode}")
    return time.perf_counter() - start, usage.ru_maxrss * 1024 / 1e9


def _block(texts: list[str], vectors_ND: np.ndarray) -> pa.Table:
    """A block of the vector store; the second view is the first with its dimensions turned around."""
    columns = {"key": pa.array(text_keys(texts))}
    for name, found in (("main", vectors_ND), ("view", vectors_ND[:, ::-1])):
        flat = pa.array(np.ascontiguousarray(found).reshape(-1))
        columns[name] = pa.FixedSizeListArray.from_arrays(flat, found.shape[1])
    return pa.table(columns)


def embed(args: argparse.Namespace) -> list[Row]:
    """Texts/s on ragged real text, each library with its default batch and once with the other's."""
    from sentence_transformers import SentenceTransformer

    texts = [t for found in mining_sets() for t in found.source["text"].to_pylist()[: args.texts // 12]]
    texts = list(np.random.default_rng(0).permutation(texts))
    encoder = load_encoder(MODEL, EncoderConfig(model=MODEL))
    with tempfile.TemporaryDirectory() as folder:
        save_encoder(encoder, f"{folder}/model")
        peer = SentenceTransformer(f"{folder}/model", device="cpu")
        peer.max_seq_length = 128
        arms = {
            "ours": lambda: timed(embed_texts, encoder, texts),
            "peer": lambda: timed(peer.encode, texts),
            "peer 64": lambda: timed(lambda: peer.encode(texts, batch_size=64)),
            "ours fp32": lambda: timed(lambda: embed_texts(encoder, texts, precision="fp32")),
        }
        seconds = medians(interleaved(arms, args.repeats))
        ours, theirs = embed_texts(encoder, texts[:200]), peer.encode(texts[:200], normalize_embeddings=True)
    best = len(texts) / min(seconds["peer"], seconds["peer 64"])
    agree = float(np.einsum("nd,nd->n", ours, theirs).min())
    n = args.repeats
    return [
        Row("embedding", len(texts) / seconds["ours"], best, "texts/s", n, "at least 1.5"),
        Row("embedding in fp32", len(texts) / seconds["ours fp32"], best, "texts/s", n),
        Row("least cosine of both libraries' vectors", agree, None, "cosine", 200),
    ]


def main() -> None:
    """Command line."""
    parser = common.parser(__doc__)
    parser.add_argument("--part", choices=("search", "whole", "embed"), help="None: all three")
    parser.add_argument("--cache", type=Path, default=Path("runs/mining-vectors"), help="vectors by text")
    parser.add_argument("--queries", type=int, default=200_000, help="of the sharded search")
    parser.add_argument("--sentences", type=int, default=100_000, help="a side, of the whole")
    parser.add_argument("--actors", action="store_true", help="the whole with two shard actors, too")
    parser.add_argument("--texts", type=int, help="of the embedding; None: 2,400, quick 480")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    args.texts = args.texts or (480 if args.quick else 2_400)
    rows: list[Row] = []
    if args.part != "embed":
        cache = ViewCache(args.cache)
        names = ("de-en", "sw-en", "zh-en") if args.quick else None
        texts = [t for s in mining_sets(names) for t in s.source["text"].to_pylist()]
        vectors = cache(texts)[0]
    if args.part in (None, "search"):
        rows += search(args, vectors)
    if args.part in (None, "whole"):
        rows += whole(args, vectors)
    if args.part in (None, "embed"):
        rows += embed(args)
    ray.shutdown()
    common.finish("mining", rows, args.json)


if __name__ == "__main__":
    main()
