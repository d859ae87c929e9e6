"""Tasks on words: lexicon induction, word alignment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from xalign_dist.errors import ModelError
from xalign_dist.evaluation.context import TaskContext
from xalign_dist.evaluation.lexicon import induce_lexicon
from xalign_dist.evaluation.scores import ItemScores, Score
from xalign_dist.evaluation.suite import SENTENCES, TaskSpec
from xalign_dist.evaluation.tables import PairSet, choose_languages, language_of, load_pairs, read_columns
from xalign_dist.evaluation.word_alignment import GoldLinks, align_words, count_links, parse_links
from xalign_dist.evaluation.word_contexts import word_vectors
from xalign_dist.records import Float32, text_keys


@dataclass(frozen=True, slots=True)
class Lexicon:
    """Word pairs, and by language the sentences in which words are looked for (``contexts``)."""

    pairs: list[PairSet]
    sentences: dict[str, list[str]] = field(default_factory=dict)


def load_lexicon(task: TaskSpec) -> Lexicon:
    """Word pairs; ``limit`` counts distinct source words, whose valid answers stay complete.

    With ``contexts`` also the table ``sentences``: lang, text.

    Raises:
        DataError: as ``read_columns``.
    """
    out = []
    for pairs in load_pairs(task.model_copy(update={"limit": None})):
        words = set(list(dict.fromkeys(pairs.src))[: task.limit])
        rows = [i for i, word in enumerate(pairs.src) if word in words]
        src, tgt, group = ([c[i] for i in rows] for c in (pairs.src, pairs.tgt, pairs.group))
        out.append(PairSet(pairs.src_lang, pairs.tgt_lang, src, tgt, group))
    found = Lexicon(out)
    if task.contexts is not None:
        columns = read_columns(task.data[SENTENCES], ("lang", "text"))
        for lang, text in zip(columns["lang"], columns["text"], strict=True):
            found.sentences.setdefault(lang, []).append(text)
    return found


def run_lexicon(data: Lexicon, ctx: TaskContext) -> list[Score]:
    """P@1, P@5 and MRR of every language pair, in both directions; with contexts the share covered."""
    vectors = _in_contexts(data, ctx) if ctx.task.contexts is not None else _Words(ctx.embed)
    out = []
    for pair in data.pairs:
        out += _induce(pair.src, pair.tgt, pair.src_lang, pair.tgt_lang, vectors)
        out += _induce(pair.tgt, pair.src, pair.tgt_lang, pair.src_lang, vectors)
    return out


class _Words:
    """Words embedded alone; with ``rows`` and ``met`` looked up, by language and word."""

    def __init__(self, embed: Callable[[list[str]], Float32]) -> None:
        self.embed = embed
        self.rows: dict[str, dict[str, Float32]] = {}
        self.met: dict[str, dict[str, bool]] = {}

    def vectors(self, words: list[str], lang: str) -> Float32:
        if not self.rows:
            return self.embed(words)
        return np.stack([self.rows[lang][word] for word in words])


def _in_contexts(data: Lexicon, ctx: TaskContext) -> _Words:
    """Every word of a language once, however many language pairs it is in."""
    if ctx.token_states is None or ctx.task.contexts is None:
        raise ModelError(f"model {ctx.embed.name} gives no states of single words", "leave contexts out")
    wanted: dict[str, dict[str, None]] = {}
    for pair in data.pairs:
        wanted.setdefault(pair.src_lang, {}).update(dict.fromkeys(pair.src))
        wanted.setdefault(pair.tgt_lang, {}).update(dict.fromkeys(pair.tgt))
    found = _Words(ctx.embed)
    for lang, words in wanted.items():
        names, sentences = list(words), data.sentences.get(lang, [])
        rows_ND, met_N = word_vectors(names, lang, sentences, ctx.token_states, ctx.task.contexts)
        found.rows[lang] = dict(zip(names, rows_ND, strict=True))
        found.met[lang] = dict(zip(names, met_N.tolist(), strict=True))
    return found


def _induce(src: list[str], tgt: list[str], src_lang: str, tgt_lang: str, words: _Words) -> list[Score]:
    src_row = {word: i for i, word in enumerate(dict.fromkeys(src))}
    tgt_row = {word: i for i, word in enumerate(dict.fromkeys(tgt))}
    answers: list[set[int]] = [set() for _ in src_row]
    for a, b in zip(src, tgt, strict=True):
        answers[src_row[a]].add(tgt_row[b])
    scores = induce_lexicon(
        words.vectors(list(src_row), src_lang), words.vectors(list(tgt_row), tgt_lang), answers
    )
    clusters = text_keys(list(src_row))
    columns = {"p@1": scores.p1_N, "p@5": scores.p5_N, "mrr": scores.rr_N}
    if words.met:
        columns["covered"] = np.array([words.met[src_lang][word] for word in src_row], np.float64)
    return [Score.of(k, src_lang, tgt_lang, ItemScores.mean(v, clusters)) for k, v in columns.items()]


@dataclass(frozen=True, slots=True)
class AlignedSentences:
    """Sentence pairs of one language pair, split into words, with gold links."""

    src_lang: str
    tgt_lang: str
    src: list[list[str]]
    tgt: list[list[str]]
    gold: list[GoldLinks]


def load_word_alignment(task: TaskSpec) -> list[AlignedSentences]:
    """Columns src_lang, tgt_lang, src_tokens, tgt_tokens (split at spaces), alignment (Pharaoh).

    Raises:
        DataError: as ``read_columns``; a malformed link or one outside its sentence.
    """
    names = ("src_lang", "tgt_lang", "src_tokens", "tgt_tokens", "alignment")
    columns = read_columns(task.data["main"], names)
    wanted = choose_languages({*columns["src_lang"], *columns["tgt_lang"]}, task) | {language_of(task.pivot)}
    sets: dict[tuple[str, str], AlignedSentences] = {}
    for src_lang, tgt_lang, src, tgt, links in zip(*(columns[n] for n in names), strict=True):
        if not {src_lang, tgt_lang} <= wanted:
            continue
        one = sets.setdefault((src_lang, tgt_lang), AlignedSentences(src_lang, tgt_lang, [], [], []))
        if task.limit is None or len(one.gold) < task.limit:
            one.src.append(src.split())
            one.tgt.append(tgt.split())
            one.gold.append(parse_links(links, len(one.src[-1]), len(one.tgt[-1])))
    return [sets[key] for key in sorted(sets)]


def run_word_alignment(sets: list[AlignedSentences], ctx: TaskContext) -> list[Score]:
    """F1 and AER over the links of each language pair (itermax).

    Raises:
        ModelError: the model gives no states of words, or not one per word.
    """
    if ctx.token_states is None:
        raise ModelError(
            f"model {ctx.embed.name} gives no states of single words",
            "leave word_alignment out of the suite, or give token_states",
        )
    out = []
    for one in sets:
        states = list(ctx.token_states([*one.src, *one.tgt]))
        if [len(s) for s in states] != [len(w) for w in [*one.src, *one.tgt]]:
            raise ModelError(
                f"model {ctx.embed.name}: not one state per word", "return [words, D] per sentence"
            )
        src, tgt = states[: len(one.src)], states[len(one.src) :]
        counts = np.array(
            [count_links(align_words(a, b), g) for a, b, g in zip(src, tgt, one.gold, strict=True)],
            np.float64,
        )
        answers, in_sure, in_possible, sure = counts.T
        clusters = text_keys([" ".join(words) for words in one.src])
        langs = (one.src_lang, one.tgt_lang)
        f1 = ItemScores.f1(in_possible, answers, in_sure, sure, clusters)
        wrong = ItemScores.mean(answers + sure - in_sure - in_possible, clusters, answers + sure)
        out += [Score.of("f1", *langs, f1), Score.of("aer", *langs, wrong)]
    return out
