"""Suite files in: column mapping, filters, language codes; every fault names file and column."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from xalign_dist.corpora.languages import normalize_language
from xalign_dist.errors import DataError
from xalign_dist.evaluation.suite import Cell, TableSpec, TaskSpec
from xalign_dist.records import ENGLISH, Int64, text_keys

_LANGUAGE_COLUMNS = ("lang", "src_lang", "tgt_lang")

language_of = lru_cache(maxsize=1024)(normalize_language)


@dataclass(frozen=True, slots=True)
class PairSet:
    """Translations of one language pair, row by row."""

    src_lang: str
    tgt_lang: str
    src: list[str]
    tgt: list[str]
    group: list[str]

    @property
    def clusters_N(self) -> Int64:
        """One id per message: rows in several languages or directions share it."""
        return text_keys(self.group)


def read_columns(
    spec: TableSpec, required: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, list[str]]:
    """Columns of a table as strings, by our names; languages as ISO 639-3.

    Rows with a null in a required column are dropped.

    Raises:
        DataError: missing or unreadable file, missing column, nothing left after filtering.
        LanguageError: an unknown code.
    """
    table = _filtered(_read(spec.path), spec)
    out: dict[str, pa.ChunkedArray] = {}
    for name in (*required, *optional):
        column = _column(table, spec, name)
        if column is not None:
            out[name] = column
        elif name in required:
            raise DataError(
                f"{spec.path}: no column {spec.columns.get(name, name)!r}"
                f" (it has {', '.join(table.column_names)})",
                f"map it: columns: {{{name}: THE_FILES_COLUMN}}, or values: {{{name}: ...}}",
            )
    picked = pa.table(out)
    keep = pc.is_valid(picked[required[0]])
    for name in required[1:]:
        keep = pc.and_(keep, pc.is_valid(picked[name]))
    picked = picked.filter(keep)
    if not picked.num_rows:
        raise DataError(f"{spec.path}: no rows left after filter and exclude", "check their values")
    columns = {name: picked[name].to_pylist() for name in picked.column_names}
    for name in _LANGUAGE_COLUMNS:
        if name in columns:
            columns[name] = [language_of(v) for v in columns[name]]
    return columns


def has_columns(spec: TableSpec, names: Iterable[str]) -> bool:
    """Whether the file, through the mapping, has all of ``names``."""
    present = set(_open(spec.path).schema.names) | set(spec.values)
    return all(set(_as_list(spec.columns.get(n, n))) <= present for n in names)


def _open(path: str) -> ds.Dataset:
    try:
        return ds.dataset(path, format="parquet")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file", "check the path in the suite") from None
    except (OSError, pa.ArrowException) as err:
        raise DataError(f"{path}: not readable as Parquet ({err})", "write the file again") from None


def _read(path: str) -> pa.Table:
    try:
        return _open(path).to_table()
    except (OSError, pa.ArrowException) as err:
        raise DataError(f"{path}: not readable as Parquet ({err})", "write the file again") from None


def _filtered(table: pa.Table, spec: TableSpec) -> pa.Table:
    for wanted, rules in ((True, spec.filter), (False, spec.exclude)):
        for name, value in rules.items():
            if name not in table.column_names:
                raise DataError(
                    f"{spec.path}: filter on column {name!r}, which it does not have",
                    f"use one of: {', '.join(table.column_names)}",
                )
            allowed = pa.array([str(v) for v in _as_list(value)], pa.string())
            mask = pc.is_in(pc.cast(table[name], pa.string()), value_set=allowed)
            table = table.filter(mask if wanted else pc.invert(mask))
    return table


def _column(table: pa.Table, spec: TableSpec, name: str) -> pa.ChunkedArray | None:
    if name in spec.values:
        return pa.chunked_array([pa.array([spec.values[name]] * table.num_rows, pa.string())])
    sources = _as_list(spec.columns.get(name, name))
    if not all(s in table.column_names for s in sources):
        return None
    texts = [pc.cast(table[s], pa.string()) for s in sources]
    return texts[0] if len(texts) == 1 else pc.binary_join_element_wise(*texts, "\x1f")


def _as_list(value: str | Cell | Sequence[str] | Sequence[Cell]) -> list[str]:
    if isinstance(value, list | tuple):
        return [str(v) for v in value]
    return [str(value)]


def load_pairs(task: TaskSpec) -> list[PairSet]:
    """Language pairs of a task, from either form of file.

    Pair form: src_lang, tgt_lang, src, tgt[, group]. Sentence form: lang, text, group; each
    language is paired with the pivot through the group. Without a group the English text
    stands for it, else the pair itself.

    Raises:
        DataError: see :func:`read_columns`; also when a language asked for is not there.
    """
    spec = task.data["main"]
    if has_columns(spec, ("lang", "text", "group")) and not has_columns(spec, ("src", "tgt")):
        sets = _pairs_from_sentences(task, read_columns(spec, ("lang", "text", "group")))
    else:
        columns = read_columns(spec, ("src_lang", "tgt_lang", "src", "tgt"), ("group",))
        sets = _pairs_from_columns(columns)
    sets = _choose(sets, task)
    return [_limited(s, task.limit) for s in sets]


def _pairs_from_columns(columns: dict[str, list[str]]) -> list[PairSet]:
    sets: dict[tuple[str, str], PairSet] = {}
    n = len(columns["src"])
    groups = columns.get("group", [""] * n)
    for src_lang, tgt_lang, src, tgt, group in zip(
        columns["src_lang"], columns["tgt_lang"], columns["src"], columns["tgt"], groups, strict=True
    ):
        if "group" not in columns:
            group = (
                src
                if src_lang == ENGLISH
                else tgt
                if tgt_lang == ENGLISH
                else "\x1f".join(sorted((src, tgt)))
            )
        pair = sets.setdefault((src_lang, tgt_lang), PairSet(src_lang, tgt_lang, [], [], []))
        pair.src.append(src)
        pair.tgt.append(tgt)
        pair.group.append(group)
    return [sets[key] for key in sorted(sets)]


def _pairs_from_sentences(task: TaskSpec, columns: dict[str, list[str]]) -> list[PairSet]:
    pivot = language_of(task.pivot)
    by_lang: dict[str, dict[str, str]] = {}
    for lang, text, group in zip(columns["lang"], columns["text"], columns["group"], strict=True):
        by_lang.setdefault(lang, {}).setdefault(group, text)
    if pivot not in by_lang:
        raise DataError(
            f"{task.data['main'].path}: no rows in the pivot language {pivot}",
            f"set pivot to one of: {', '.join(sorted(by_lang))}",
        )
    sets = []
    for lang in sorted(set(by_lang) - {pivot}):
        shared = [g for g in by_lang[pivot] if g in by_lang[lang]]
        if shared:
            src = [by_lang[pivot][g] for g in shared]
            sets.append(PairSet(pivot, lang, src, [by_lang[lang][g] for g in shared], shared))
    return sets


def choose_languages(present: Iterable[str], task: TaskSpec) -> set[str]:
    """The languages of a task out of those in its file.

    Raises:
        DataError: one that is asked for is not there.
    """
    there = set(present)
    if task.languages is None:
        return there
    wanted = {language_of(lang) for lang in task.languages}
    missing = wanted - there
    if missing:
        raise DataError(
            f"task {task.key}: no rows for {', '.join(sorted(missing))}",
            f"use languages of the file: {', '.join(sorted(there))}",
        )
    return wanted


def _choose(sets: list[PairSet], task: TaskSpec) -> list[PairSet]:
    pivot = language_of(task.pivot)
    wanted = choose_languages({lang for s in sets for lang in (s.src_lang, s.tgt_lang)}, task) | {pivot}
    chosen = [s for s in sets if {s.src_lang, s.tgt_lang} <= wanted]
    if not chosen:
        raise DataError(f"task {task.key}: no language pair left", "check languages and pivot")
    return chosen


def _limited(pairs: PairSet, limit: int | None) -> PairSet:
    cut = slice(0, limit)
    return PairSet(pairs.src_lang, pairs.tgt_lang, pairs.src[cut], pairs.tgt[cut], pairs.group[cut])
