"""The experiment's data: realistic noise of a known kind in parallel text, translations hidden in two piles.

    XALIGN_DATA=DIR python benchmarks/experiment_data.py --out DIR [--noise 0.4] [--oracle] [--seed 0]

Reads train_pairs.parquet under XALIGN_DATA and writes, into ``--out``: parallel.parquet (English with each
high-resource language), truth.parquet (which pairs were corrupted, and how), mono_*.parquet (two piles for
each low-resource language), mining_truth.parquet, dev.parquet (pairs of the high-resource languages for
choices inside a run), dev_low.parquet, dev_queries.parquet and dev_documents.parquet (for choices between
settings: experiment_dev.yaml) and run.yaml (benchmarks/experiment.yaml with these paths), which `xalign
ablate` and `xalign run` take. With --oracle the translations in the piles are given as parallel text
instead, which is what mining could find at best. Test sets are files that no choice has seen
(experiment_suite.yaml).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

HIGH = ("deu", "fra", "spa", "rus", "zho", "ara")
LOW = ("swh", "amh", "cym", "gla", "gle", "yor")
PAIRS, DEV, HIDDEN, UNPAIRED = 1500, 100, 600, 300
MIN_WORDS, MAX_WORDS = 4, 40
DOCUMENTS, DOCUMENT_LANGS, PASSAGE = "libreoffice_help", ("deu", "fra", "spa", "rus", "zho"), 4
Rows = list[dict[str, str]]


def corrupt(rows: Rows, share: float, rng: np.random.Generator) -> tuple[Rows, list[str]]:
    """``rows`` of one language with ``share`` of the targets corrupted, each kind as often; kind by row.

    The kinds are those of eval_filter_noise, that real corpora have: the next sentence's translation, a
    target cut off, two sentences in one, another language, an untranslated copy, words out of order.
    """
    kinds: dict[str, Callable[[int], str]] = {
        "shift1": lambda n: rows[(n + 1) % len(rows)]["tgt"],
        "truncated": lambda n: _part(rows[n]["tgt"]),
        "concat_next": lambda n: f"{rows[n]['tgt']} {rows[(n + 1) % len(rows)]['tgt']}",
        "wrong_lang": lambda n: rows[n]["other"],
        "copy_src": lambda n: rows[n]["src"],
        "shuffled": lambda n: _shuffled(rows[n]["tgt"], rng),
        "random": lambda n: rows[int(rng.integers(len(rows)))]["tgt"],
    }
    names = list(kinds)
    hit = rng.permutation(len(rows))[: round(share * len(rows))]
    kind_of = {int(n): names[i % len(names)] for i, n in enumerate(hit)}
    out, labels = [], []
    for n, row in enumerate(rows):
        kind = kind_of.get(n, "")
        out.append(row | {"tgt": kinds[kind](n) if kind else row["tgt"]})
        labels.append(kind)
    return out, labels


def _part(text: str) -> str:
    """The first half; by characters where a script has no spaces."""
    words = text.split()
    return " ".join(words[: len(words) // 2]) if len(words) > 3 else text[: max(1, len(text) // 2)]


def _shuffled(text: str, rng: np.random.Generator) -> str:
    units = text.split() if len(text.split()) > 3 else list(text)
    joined = " " if len(text.split()) > 3 else ""
    return joined.join(units[i] for i in rng.permutation(len(units)))


def choose(table: pa.Table, lang: str, count: int, rng: np.random.Generator) -> Rows:
    """``count`` random pairs of ``lang`` with 4 to 40 English words, every text once."""
    own = table.filter(pc.equal(table["tgt_lang"], lang)).select(["src", "tgt"]).to_pylist()
    found: Rows = []
    seen: set[str] = set()
    for n in rng.permutation(len(own)):
        row = own[int(n)]
        fits = MIN_WORDS <= len(row["src"].split()) <= MAX_WORDS and row["src"] != row["tgt"]
        if fits and not {row["src"], row["tgt"]} & seen:
            seen |= {row["src"], row["tgt"]}
            found.append(row)
            if len(found) == count:
                return found
    sys.exit(f"train_pairs.parquet: only {len(found)} usable pairs of {lang}, {count} are needed")


def parallel(table: pa.Table, noise: float, out: Path, rng: np.random.Generator) -> None:
    """parallel.parquet, truth.parquet and dev.parquet of the high-resource languages.

    The choice of pairs does not depend on ``noise``.
    """
    rows = {lang: choose(table, lang, PAIRS + DEV, rng) for lang in HIGH}
    pairs, truth, dev = [], [], []
    for i, lang in enumerate(HIGH):
        other = HIGH[(i + 1) % len(HIGH)]
        own = [r | {"other": rows[other][n]["tgt"]} for n, r in enumerate(rows[lang])]
        dev += [_pair(f"dev-{lang}-{n}", lang, r) for n, r in enumerate(own[PAIRS:])]
        dirty, kinds = corrupt(own[:PAIRS], noise, rng)
        for n, (row, kind) in enumerate(zip(dirty, kinds, strict=True)):
            pairs.append(_pair(f"{lang}-{n}", lang, row))
            truth.append({"src_id": f"{lang}-{n}", "lang": lang, "kind": kind})
    pq.write_table(pa.Table.from_pylist(pairs), out / "parallel.parquet")
    pq.write_table(pa.Table.from_pylist(truth), out / "truth.parquet")
    pq.write_table(pa.Table.from_pylist(dev), out / "dev.parquet")


def _pair(name: str, lang: str, row: dict[str, str]) -> dict[str, str]:
    return {
        "src_id": name,
        "tgt_id": name,
        "src_lang": "eng",
        "tgt_lang": lang,
        "src": row["src"],
        "tgt": row["tgt"],
    }


def piles(table: pa.Table, lang: str, out: Path, rng: np.random.Generator) -> Rows:
    """Two shuffled piles of ``lang`` and English with HIDDEN translations in them; the truth by id.

    Also oracle_LANG.parquet, those translations as pairs.
    """
    rows = choose(table, lang, HIDDEN + 2 * UNPAIRED + DEV, rng)
    dev = [_pair(f"dev-{lang}-{n}", lang, r) for n, r in enumerate(rows[HIDDEN + 2 * UNPAIRED :])]
    pq.write_table(pa.Table.from_pylist(dev), out / f"dev_low_{lang}.parquet")
    rows = rows[: HIDDEN + 2 * UNPAIRED]
    known = [_pair(f"oracle-{lang}-{n}", lang, r) for n, r in enumerate(rows[:HIDDEN])]
    pq.write_table(pa.Table.from_pylist(known), out / f"oracle_{lang}.parquet")
    sides = {"eng": rows[: HIDDEN + UNPAIRED], lang: rows[:HIDDEN] + rows[HIDDEN + UNPAIRED :]}
    place: dict[str, dict[str, str]] = {}
    for code, side in sides.items():
        text = "src" if code == "eng" else "tgt"
        order = rng.permutation(len(side))
        pile = [
            {"id": f"{code}-{lang}-{n}", "lang": code, "text": side[i][text]} for n, i in enumerate(order)
        ]
        place[code] = {row["text"]: row["id"] for row in pile}
        pq.write_table(pa.Table.from_pylist(pile), out / f"mono_{lang}_{code}.parquet")
    return [
        {"lang": lang, "src_id": place["eng"][r["src"]], "tgt_id": place[lang][r["tgt"]]}
        for r in rows[:HIDDEN]
    ]


def passages(table: pa.Table, used: set[str], out: Path, rng: np.random.Generator) -> None:
    """dev_queries.parquet and dev_documents.parquet: a sentence, and the passage that it was taken out of.

    The inverse cloze task (Lee et al. 2019) between languages, on documents that share no text with
    the training pairs.
    """
    queries, documents = [], []
    for lang in DOCUMENT_LANGS:
        own = table.filter(pc.and_(pc.equal(table["source"], DOCUMENTS), pc.equal(table["tgt_lang"], lang)))
        found: dict[str, dict[str, str]] = {}
        for row in own.select(["doc_id", "src", "tgt"]).to_pylist():
            if len(row["src"].split()) >= MIN_WORDS and not {row["src"], row["tgt"]} & used:
                found.setdefault(row["doc_id"], {})[row["src"]] = row["tgt"]
        whole = [doc for doc in sorted(found) if len(found[doc]) > PASSAGE]
        for doc in rng.permutation(whole)[:DEV]:
            pairs = list(found[str(doc)].items())
            chosen = [pairs[i] for i in sorted(rng.permutation(len(pairs))[: PASSAGE + 1])]
            asked = chosen.pop(int(rng.integers(len(chosen))))
            for side, code in enumerate(("eng", lang)):
                name = {"lang": code, "doc": f"{lang} {doc}"}
                queries.append(name | {"text": asked[side]})
                documents.append(name | {"text": " ".join(pair[side] for pair in chosen)})
    pq.write_table(pa.Table.from_pylist(queries), out / "dev_queries.parquet")
    pq.write_table(pa.Table.from_pylist(documents), out / "dev_documents.parquet")


def write_config(out: Path, seed: int, oracle: bool) -> None:
    """run.yaml: the settings of experiment.yaml and the files written here."""
    here = Path(__file__).parent
    config = yaml.safe_load((here / "experiment.yaml").read_text("utf-8"))
    corpora: list[dict[str, str]] = [{"path": str(out / "parallel.parquet"), "source": "train_pairs"}]
    for lang in LOW:
        if oracle:
            corpora.append({"path": str(out / f"oracle_{lang}.parquet"), "source": "oracle"})
            continue
        for code in ("eng", lang):
            path = out / f"mono_{lang}_{code}.parquet"
            corpora.append(
                {"path": str(path), "kind": "sentences", "source": path.stem, "mining_group": lang}
            )
    config |= {"seed": seed, "corpora": corpora}
    config["evaluation"] |= {
        "dev_pairs": str(out / "dev.parquet"),
        "suite": str((here / "experiment_suite.yaml").resolve()),
    }
    (out / "run.yaml").write_text(yaml.safe_dump(config, sort_keys=False), "utf-8")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--noise", type=float, default=0.4, help="share of corrupted pairs")
    parser.add_argument("--oracle", action="store_true", help="give the hidden translations as parallel text")
    parser.add_argument("--seed", type=int, default=0, help="of the choice and corruption of pairs")
    args = parser.parse_args()
    data = os.environ.get("XALIGN_DATA")
    if not data or not (Path(data) / "train_pairs.parquet").exists():
        sys.exit(
            "XALIGN_DATA must name the folder of the development data (train_pairs.parquet, eval_*.parquet)"
        )
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    table = pq.read_table(Path(data) / "train_pairs.parquet")
    # Generators of their own: the piles are the same whatever the noise.
    parallel(table, args.noise, out, np.random.default_rng(args.seed))
    rng = np.random.default_rng([args.seed, 1])
    truth = [row for lang in LOW for row in piles(table, lang, out, rng)]
    pq.write_table(pa.Table.from_pylist(truth), out / "mining_truth.parquet")
    low = [pq.read_table(out / f"dev_low_{lang}.parquet") for lang in LOW]
    pq.write_table(pa.concat_tables(low), out / "dev_low.parquet")
    pairs = pq.read_table(out / "parallel.parquet")
    used = {*pairs["src"].to_pylist(), *pairs["tgt"].to_pylist()}
    passages(table, used, out, np.random.default_rng([args.seed, 2]))
    write_config(out, args.seed, args.oracle)
    print(
        f"{out}/run.yaml: {len(HIGH)} languages with {PAIRS} pairs, {args.noise:.0%} corrupted; "
        f"{len(LOW)} languages with two piles of {HIDDEN + UNPAIRED}"
    )


if __name__ == "__main__":
    main()
