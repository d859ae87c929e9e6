"""Tasks on words: lexicon induction, word alignment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xalign_dist.errors import ModelError
from xalign_dist.evaluation.context import TaskContext
from xalign_dist.evaluation.lexicon import induce_lexicon
from xalign_dist.evaluation.scores import ItemScores, Score
from xalign_dist.evaluation.suite import TaskSpec
from xalign_dist.evaluation.tables import PairSet, choose_languages, language_of, load_pairs, read_columns
from xalign_dist.evaluation.word_alignment import GoldLinks, align_words, count_links, parse_links
from xalign_dist.records import text_keys


def load_lexicon(task: TaskSpec) -> list[PairSet]:
    """Word pairs; ``limit`` counts distinct source words, whose valid answers stay complete."""
    out = []
    for pairs in load_pairs(task.model_copy(update={"limit": None})):
        words = set(list(dict.fromkeys(pairs.src))[: task.limit])
        rows = [i for i, word in enumerate(pairs.src) if word in words]
        src, tgt, group = ([c[i] for i in rows] for c in (pairs.src, pairs.tgt, pairs.group))
        out.append(PairSet(pairs.src_lang, pairs.tgt_lang, src, tgt, group))
    return out


def run_lexicon(sets: list[PairSet], ctx: TaskContext) -> list[Score]:
    """P@1, P@5 and MRR of every language pair, in both directions."""
    out = []
    for pair in sets:
        out += _induce(pair.src, pair.tgt, pair.src_lang, pair.tgt_lang, ctx)
        out += _induce(pair.tgt, pair.src, pair.tgt_lang, pair.src_lang, ctx)
    return out


def _induce(src: list[str], tgt: list[str], src_lang: str, tgt_lang: str, ctx: TaskContext) -> list[Score]:
    src_row = {word: i for i, word in enumerate(dict.fromkeys(src))}
    tgt_row = {word: i for i, word in enumerate(dict.fromkeys(tgt))}
    answers: list[set[int]] = [set() for _ in src_row]
    for a, b in zip(src, tgt, strict=True):
        answers[src_row[a]].add(tgt_row[b])
    scores = induce_lexicon(ctx.embed(list(src_row)), ctx.embed(list(tgt_row)), answers)
    clusters = text_keys(list(src_row))
    columns = {"p@1": scores.p1_N, "p@5": scores.p5_N, "mrr": scores.rr_N}
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
