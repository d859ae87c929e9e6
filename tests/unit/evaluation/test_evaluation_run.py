import numpy as np
import pytest
from evaluation_toy_world import toy_embed, write, write_pairs

from xalign_dist.config.method import EvaluationConfig
from xalign_dist.errors import ConfigError, ModelError
from xalign_dist.evaluation.compare import compare, compare_seeds
from xalign_dist.evaluation.languages import language_lookup
from xalign_dist.evaluation.metrics import METRICS, base_task
from xalign_dist.evaluation.run import evaluate
from xalign_dist.evaluation.suite import parse_suite
from xalign_dist.evaluation.tasks_word import load_word_alignment
from xalign_dist.evaluation.word_alignment import aer, align_words, count_links, link_f1

CFG = EvaluationConfig(bootstrap=200, permutations=400)
MODELS = {"initial": toy_embed(noise=1.5, offset=1.0), "adaptive": toy_embed(noise=0.9)}


def pairs_suite(tmp_path, *tasks, n=40, **settings):
    path = write_pairs(tmp_path / "pairs.parquet", n=n)
    tasks = tasks or ("retrieval", "pooled_retrieval", "similarity")
    entries = [{"task": t, "data": path, **settings} for t in tasks]
    return parse_suite({"high": ["deu"], "low": ["gle"], "tasks": entries})


def value(result, model, task, metric, src, tgt):
    (row,) = [
        m
        for m in result.metrics
        if (m.model, m.task, m.metric, m.src_lang, m.tgt_lang) == (model, task, metric, src, tgt)
    ]
    return row


def test_every_row_has_an_interval_around_its_value_and_macro_rows_are_means(tmp_path):
    result = evaluate(MODELS, pairs_suite(tmp_path), CFG, seed=3, round_=2)
    assert {(m.round, m.seed) for m in result.metrics} == {(2, 3)}
    for m in result.metrics:
        assert m.metric in METRICS[base_task(m.task)]
        assert m.low is not None
        assert m.low - 1e-9 <= m.value <= m.high + 1e-9
    cells = [
        value(result, "adaptive", "retrieval", "accuracy", *p).value for p in (("eng", "gle"), ("gle", "eng"))
    ]
    assert value(result, "adaptive", "retrieval", "accuracy", "low", "low").value == pytest.approx(
        np.mean(cells)
    )
    assert value(result, "adaptive", "retrieval", "accuracy", "all", "all").n == 160
    keys = [(m.model, m.task, m.metric, m.src_lang, m.tgt_lang) for m in result.metrics]
    assert len(keys) == len(set(keys))


def test_a_figure_that_one_model_lacks_in_a_language_is_not_tested_and_says_so(tmp_path):
    result = evaluate(MODELS, pairs_suite(tmp_path), CFG, seed=0)
    gone = next(k for k in result.items if k[:3] == ("initial", "retrieval", "accuracy") and "gle" in k[3])
    del result.items[gone]
    rows = {(r.task, r.metric, r.lang): r for r in compare(result, "adaptive", ["initial"], CFG)}
    macro = rows["retrieval", "accuracy", "all"]
    assert macro.p is None
    assert macro.note == "not tested: undefined for one of the two on a language pair or an item"
    assert rows["pooled_retrieval", "accuracy", "all"].p is not None


def test_the_better_model_wins_significantly_and_bias_is_seen(tmp_path):
    result = evaluate(MODELS, pairs_suite(tmp_path), CFG, seed=0)
    rows = {(r.task, r.metric, r.lang): r for r in compare(result, "adaptive", ["initial"], CFG)}
    headline = rows["pooled_retrieval", "accuracy", "all"]
    assert headline.difference > 0.2
    assert headline.better
    assert headline.significant()
    assert headline.low <= headline.difference <= headline.high
    bias = rows["pooled_retrieval", "language_bias", "all"]
    assert bias.difference < 0
    assert bias.better
    assert all(r.p_holm >= r.p for r in rows.values())
    # 40 messages, whatever number of languages and directions they stand in.
    assert rows["retrieval", "accuracy", "all"].n == 40


def test_each_text_is_embedded_once_per_model(tmp_path):
    seen = []
    embed = toy_embed()

    def counting(texts):
        seen.extend(texts)
        return embed(texts)

    evaluate({"m": counting}, pairs_suite(tmp_path), CFG, seed=0)
    assert len(seen) == len(set(seen)) == 120


def test_identical_models_have_p_one(tmp_path):
    same = {"a": toy_embed(noise=1.0), "b": toy_embed(noise=1.0)}
    result = evaluate(same, pairs_suite(tmp_path), CFG, seed=0)
    for row in compare(result, "a", ["b"], CFG):
        assert (row.p, row.p_holm, row.difference, row.low, row.high) == (1.0, 1.0, 0.0, 0.0, 0.0)
        assert not row.better


def test_models_of_different_width_are_compared(tmp_path):
    models = {"wide": toy_embed(dim=48), "narrow": toy_embed(dim=8, noise=2.0)}
    result = evaluate(models, pairs_suite(tmp_path, "retrieval"), CFG, seed=0)
    assert compare(result, "wide", ["narrow"], CFG)[0].difference > 0


def test_too_few_items_are_reported_as_not_tested(tmp_path):
    result = evaluate(MODELS, pairs_suite(tmp_path, "retrieval", n=6), CFG, seed=0)
    for row in compare(result, "adaptive", ["initial"], CFG):
        assert row.p is None
        assert row.p_holm is None
        assert row.note == "not tested: 6 items, 10 are needed"
        assert not row.significant()


def test_metrics_without_items_are_reported_as_not_tested(tmp_path):
    # 11 pairs have a hubness, but nothing is left to compare when one of them is left out.
    result = evaluate(MODELS, pairs_suite(tmp_path, "geometry", n=11, metrics=["hubness"]), CFG, seed=0)
    assert {m.metric for m in result.metrics} == {"hubness"}
    assert {r.note for r in compare(result, "adaptive", ["initial"], CFG)} == {
        "not tested: the metric is not made of items"
    }


def test_nan_and_ragged_models_are_named(tmp_path):
    suite = pairs_suite(tmp_path, "retrieval")

    def nan(texts):
        return np.full((len(texts), 4), np.nan, np.float32)

    with pytest.raises(ModelError, match=r"model broken: .* NaN"):
        evaluate({"broken": nan}, suite, CFG, seed=0)
    with pytest.raises(ModelError, match="1 vectors for"):
        evaluate({"broken": lambda texts: np.ones((1, 4), np.float32)}, suite, CFG, seed=0)


def test_what_a_suite_needs_and_is_not_given_is_named(tmp_path):
    suite = pairs_suite(tmp_path, "retrieval")
    with pytest.raises(ConfigError, match="no model"):
        evaluate({}, suite, CFG, seed=0)
    result = evaluate(MODELS, suite, CFG, seed=0)
    with pytest.raises(ConfigError, match="static, which was not evaluated"):
        compare(result, "adaptive", ["static"], CFG)


def test_only_the_claims_named_are_tested_and_corrected_for(tmp_path):
    result = evaluate(MODELS, pairs_suite(tmp_path), CFG, seed=0)
    rows = compare(result, "adaptive", ["initial"], CFG, only={("retrieval", "accuracy")})
    assert {(r.task, r.metric) for r in rows} == {("retrieval", "accuracy")}
    assert len(rows) == 3 + 4


def test_seeds_that_disagree_take_the_significance_away(tmp_path):
    suite = pairs_suite(tmp_path, "retrieval")

    def runs(noises):
        return [
            evaluate(
                {"ours": toy_embed(noise=n, seed=i), "initial": toy_embed(noise=1.5, seed=9)},
                suite,
                CFG,
                seed=i,
            )
            for i, n in enumerate(noises)
        ]

    only = {("retrieval", "accuracy")}
    steady = compare_seeds(runs([0.8, 0.8, 0.8]), "ours", ["initial"], CFG, only=only)[0]
    erratic = compare_seeds(runs([0.2, 1.4, 2.5]), "ours", ["initial"], CFG, only=only)[0]
    assert steady.significant()
    assert steady.low > 0
    assert not erratic.significant()
    assert erratic.low < 0 < erratic.high


def other_files(tmp_path):
    concepts = range(30)
    labelled = [
        (lang, split, f"{lang}:{i}", "even" if i % 2 else "odd", str(i))
        for lang in ("eng", "deu")
        for split, part in (("train", range(20)), ("dev", range(20, 24)), ("test", range(16, 30)))
        for i in part
    ]
    lang, split, text, label, group = map(list, zip(*labelled, strict=True))
    both = [(x, i) for x in ("eng", "deu") for i in concepts]
    two = [x for x, _ in both]
    return {
        "classification": write(
            tmp_path / "c.parquet", lang=lang, split=split, text=text, label=label, group=group
        ),
        "queries": write(
            tmp_path / "q.parquet",
            lang=two,
            text=[f"{x}:{i}" for x, i in both],
            doc=[str(i) for _, i in both],
        ),
        "sentences": write(
            tmp_path / "s.parquet",
            lang=two,
            id=[f"{x}{i}" for x, i in both],
            text=[f"{x}:{i if i < 20 else x + str(i)}" for x, i in both],
        ),
        "gold": write(
            tmp_path / "g.parquet",
            src_id=[f"deu{i}" for i in range(20)],
            tgt_id=[f"eng{i}" for i in range(20)],
        ),
        "words": write(
            tmp_path / "w.parquet",
            src_lang=["eng"] * 12,
            tgt_lang=["deu"] * 12,
            src_tokens=[f"eng:{i} eng:{i + 50}" for i in range(12)],
            tgt_tokens=[f"deu:{i + 50} deu:{i}" for i in range(12)],
            alignment=["0-1 1-0"] * 12,
        ),
    }


def other_tasks_suite(tmp_path):
    files = other_files(tmp_path)
    return parse_suite(
        {
            "tasks": [
                {"task": "classification", "data": files["classification"], "shots": [4]},
                {"task": "clir", "data": {"queries": files["queries"], "documents": files["queries"]}},
                {"task": "mining", "data": {"sentences": files["sentences"], "gold": files["gold"]}},
                {"task": "word_alignment", "data": files["words"]},
                {"task": "lexicon", "data": write_pairs(tmp_path / "lex.parquet", langs=("deu",))},
            ]
        }
    )


def mutual_best(src, tgt):
    sim = src @ tgt.T
    rows = np.flatnonzero(sim.argmax(axis=0)[sim.argmax(axis=1)] == np.arange(len(src)))
    columns = sim.argmax(axis=1)[rows]
    return rows, columns, np.clip(sim[rows, columns].astype(np.float64), 0, 1)


def word_states(embed):
    return lambda sentences: [embed(words) for words in sentences]


def test_a_model_that_knows_the_truth_is_right_in_every_task(tmp_path):
    suite = other_tasks_suite(tmp_path)
    models = {"adaptive": toy_embed(noise=0.05), "static": toy_embed(noise=3.0)}
    states = {"adaptive": word_states(models["adaptive"])}
    result = evaluate(models, suite, CFG, seed=0, token_states=states, mine=mutual_best)
    perfect = {
        ("clir", "mrr@10"): ("eng", "deu"),
        ("clir", "pooled_recall@10"): ("eng", "all"),
        ("clir", "pooled_ndcg@10"): ("deu", "all"),
        ("mining", "f1"): ("deu", "eng"),
        ("word_alignment", "f1"): ("eng", "deu"),
        ("lexicon", "p@1"): ("deu", "eng"),
    }
    for (task, metric), langs in perfect.items():
        assert value(result, "adaptive", task, metric, *langs).value == pytest.approx(1.0), task
    assert value(result, "adaptive", "word_alignment", "aer", "eng", "deu").value == 0
    assert 0.9 < value(result, "adaptive", "mining", "predicted_precision", "deu", "eng").value <= 1
    assert "word_alignment: static gives no states of single words; left out" in result.notes
    # Classes are arbitrary halves of the concepts: only what was trained on can be known.
    zero_shot = value(result, "adaptive", "classification", "accuracy", "eng", "deu").value
    assert zero_shot == value(result, "adaptive", "classification", "accuracy", "eng", "eng").value
    assert value(result, "adaptive", "classification", "accuracy", "all", "all").value == zero_shot
    shots = [m for m in result.metrics if m.metric == "accuracy@4" and m.model == "adaptive"]
    assert [(m.tgt_lang, m.n) for m in shots] == [("deu", 14), ("all", 14)]
    tested = compare(result, "adaptive", ["static"], CFG, only={("mining", "f1"), ("clir", "mrr@10")})
    assert all(r.difference > 0 for r in tested if r.task == "mining")
    assert language_lookup(suite)(["deu:3", "eng:3", "nobody wrote this"]) == ["deu", "eng", "eng"]


def test_word_alignment_reports_the_corpus_scores_of_its_links(tmp_path):
    (words,) = [t for t in other_tasks_suite(tmp_path).tasks if t.task == "word_alignment"]
    noisy = word_states(toy_embed(noise=2.0))
    suite = parse_suite({"tasks": [words.model_dump()]})
    result = evaluate({"m": toy_embed()}, suite, CFG, seed=0, token_states={"m": noisy})
    (data,) = load_word_alignment(words)
    links = [align_words(*noisy([a, b])) for a, b in zip(data.src, data.tgt, strict=True)]
    counts = [count_links(one, gold) for one, gold in zip(links, data.gold, strict=True)]
    assert 0.1 < aer(counts) < 0.9
    assert value(result, "m", "word_alignment", "aer", "eng", "deu").value == pytest.approx(aer(counts))
    assert value(result, "m", "word_alignment", "f1", "eng", "deu").value == pytest.approx(link_f1(counts))


def test_word_alignment_without_states_of_words_says_so(tmp_path):
    suite = other_tasks_suite(tmp_path)
    models = {"m": toy_embed()}
    with pytest.raises(ConfigError, match="word_alignment"):
        evaluate(models, suite, CFG, seed=0, mine=mutual_best)
    short = {"m": lambda sentences: [np.ones((1, 4), np.float32) for _ in sentences]}
    with pytest.raises(ModelError, match="not one state per word"):
        evaluate(models, suite, CFG, seed=0, token_states=short, mine=mutual_best)


def test_the_same_seed_gives_the_same_rows(tmp_path):
    suite = pairs_suite(tmp_path, "retrieval", "geometry")
    first, again = (evaluate(MODELS, suite, CFG, seed=5) for _ in range(2))
    assert first.metrics == again.metrics
    assert compare(first, "adaptive", ["initial"], CFG) == compare(again, "adaptive", ["initial"], CFG)
