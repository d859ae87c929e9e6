"""Figures behind the report: lookups, verdict, scales and number formats."""

from __future__ import annotations

import pytest

from xalign_dist.errors import DataError
from xalign_dist.records import Metric
from xalign_dist.reporting.differences import Difference
from xalign_dist.reporting.names import language_key, language_name, language_tag, task_label
from xalign_dist.reporting.results import Results
from xalign_dist.reporting.run_data import RunData, language_groups
from xalign_dist.reporting.verdict import judge
from xalign_dist.reporting.view_corpus import audit_rows, ledger_rows, mining_rows
from xalign_dist.reporting.view_matrix import heat_maps
from xalign_dist.reporting.view_results import forests, summary_rows
from xalign_dist.reporting.view_run import cost
from xalign_dist.reporting.view_space import space


def metric(model, value, src="eng", tgt="deu", task="retrieval", name="accuracy", **more):
    fields = {"round": 1, "low": None, "high": None, "n": 100, "seed": 0} | more
    return Metric(model=model, task=task, metric=name, src_lang=src, tgt_lang=tgt, value=value, **fields)


def difference(baseline, gain, p, lang="all", task="pooled_retrieval", name="accuracy"):
    fields = {"task": task, "metric": name, "lang": lang, "ours": "adaptive", "baseline": baseline}
    return Difference(**fields, difference=gain, low=gain - 0.01, high=gain + 0.01, p=p, p_holm=p, n=500)


def test_directions_are_averaged_and_the_last_round_counts():
    rows = [
        metric("adaptive", 0.9, round=1),
        metric("adaptive", 0.5, low=0.4, high=0.6, round=2),
        metric("adaptive", 0.7, "deu", "eng", low=0.6, high=0.9, round=2),
        metric("initial", 0.3, round=0),
    ]
    results = Results(rows, {"deu": "high"})
    point = results.point("adaptive", "retrieval", "accuracy", "deu")
    assert (point.value, point.low, point.high, point.n) == pytest.approx((0.6, 0.5, 0.75, 200))
    assert results.gain("adaptive", "initial", "retrieval", "accuracy", "deu") == pytest.approx(0.3)
    assert results.models == ["initial", "adaptive"]


def test_seeds_give_the_mean_and_the_outermost_bounds():
    rows = [metric("adaptive", v, low=v - 0.1, high=v + 0.1, seed=s) for s, v in enumerate((0.5, 0.7))]
    point = Results(rows, {}).point("adaptive", "retrieval", "accuracy", "deu")
    assert (point.value, point.low, point.high, point.n) == pytest.approx((0.6, 0.4, 0.8, 100))


def test_a_value_without_interval_takes_the_interval_of_none():
    rows = [metric("adaptive", 0.5, low=0.4, high=0.6), metric("adaptive", 0.7, "deu", "eng")]
    point = Results(rows, {}).point("adaptive", "retrieval", "accuracy", "deu")
    assert (point.low, point.high) == (None, None)


def test_languages_come_by_group_then_name():
    rows = [metric("adaptive", 0.5, tgt=x) for x in ("tel", "gle", "fra", "deu", "cym")]
    results = Results(rows, {"fra": "high", "deu": "high", "gle": "low", "cym": "low"})
    assert results.languages("retrieval", "accuracy") == ["fra", "deu", "gle", "cym", "tel"]
    assert [results.group(x) for x in ("deu", "cym", "tel", "deu-gle")] == ["high", "low", None, "low"]


def test_names():
    assert language_key("eng", "deu") == language_key("deu", "eng") == "deu"
    assert language_key("wol", "fra") == "fra-wol"
    assert language_key("deu", "all") == "deu"
    assert language_name("fra-wol") == "French – Wolof"
    assert language_name("swh") == "Swahili"
    assert language_name("no such") == "no such"
    assert (language_tag("deu"), language_tag("zz9")) == ("de", "und")
    assert task_label("retrieval:ntrex", "f1") == "Retrieval F1 (ntrex)"


def test_groups_come_from_audits_and_config():
    data = RunData(
        "run",
        config={
            "corpora": [{"kind": "sentences", "src_lang": "isl"}, {"src_lang": "eng", "tgt_lang": "rus"}]
        },
        audits={
            1: [
                {"src_lang": "eng", "tgt_lang": "deu", "noise_estimated": 0.1},
                {"src_lang": "cym", "tgt_lang": "eng", "predicted_precision": 0.9},
                {"src_lang": "deu", "tgt_lang": "eng", "predicted_precision": 0.9},
            ]
        },
    )
    assert language_groups(data) == {"isl": "low", "rus": "high", "deu": "high", "cym": "low"}


POOLED = {"initial": 0.5, "infonce": 0.6, "adaptive": 0.7}


def pooled_results(values=POOLED, keys=("all", "low")):
    return Results([metric(m, v, k, k, "pooled_retrieval") for m, v in values.items() for k in keys], {})


@pytest.mark.parametrize(
    ("tests", "tone", "headline"),
    [
        (
            [("initial", 0.2, 0.001, "all"), ("infonce", 0.1, 0.001, "all")],
            "good",
            "Yes: adaptive training paid",
        ),
        (
            [("initial", 0.2, 0.001, "all"), ("infonce", 0.1, 0.4, "all")],
            "mixed",
            "Training paid; the adaptive part is not shown to add to it",
        ),
        (
            [("initial", 0.2, 0.001, "all"), ("infonce", 0.1, 0.4, "all"), ("infonce", 0.1, 0.01, "low")],
            "good",
            "Yes, for low-resource languages: adaptive training paid there",
        ),
        ([("initial", 0.2, 0.4, "all"), ("infonce", 0.1, 0.4, "all")], "mixed", "Not shown"),
        ([("initial", -0.2, 0.001, "all")], "bad", "No: training made the encoder worse"),
        (
            [("initial", 0.2, 0.001, "all"), ("infonce", -0.1, 0.001, "all")],
            "bad",
            "No: fixed InfoNCE is better overall",
        ),
        ([], "unknown", "Not tested"),
    ],
)
def test_the_verdict_follows_the_tests(tests, tone, headline):
    verdict = judge(pooled_results(), [difference(b, g, p, k) for b, g, p, k in tests])
    assert verdict.tone == tone
    assert verdict.headline.startswith(headline)
    assert "50.0\u00a0% before training to 70.0\u00a0%" in verdict.sentence


def test_without_a_baseline_nothing_is_claimed():
    assert judge(pooled_results({"adaptive": 0.9}), []).tone == "unknown"
    assert judge(Results([], {}), []).claims == []


def test_a_difference_reads_both_forms_and_turns_errors_round():
    row = {
        "task": "retrieval",
        "metric": "xsim",
        "lang": "all",
        "difference": -0.1,
        "low": -0.2,
        "high": -0.05,
    }
    row |= {"p": 0.01, "p_holm": 0.02, "n": 9}
    named = Difference.from_json(row | {"ours": "adaptive", "baseline": "infonce"}, "x")
    valued = Difference.from_json(
        row | {"model": "adaptive", "against": "infonce", "ours": 0.2, "baseline": 0.3}, "x"
    )
    assert (named.ours, named.baseline) == (valued.ours, valued.baseline) == ("adaptive", "infonce")
    assert valued.baseline_value == 0.3
    assert named.gain == 0.1
    assert named.gain_interval == (0.05, 0.2)
    assert named.verdict == "better"
    with pytest.raises(DataError, match="here: KeyError 'difference'"):
        Difference.from_json(
            {"ours": "a", "baseline": "b", "task": "t", "metric": "m", "lang": "all"}, "here"
        )


def test_forests_put_infonce_first_and_fall_back_to_languages():
    rows = [difference("initial", 0.2, 0.01), difference("infonce", 0.1, 0.2)]
    rows += [difference("infonce", 0.1, 0.2, "eng-deu")]
    found = forests(rows)
    assert [f.baseline for f in found] == ["Fixed InfoNCE", "Before training"]
    assert [r.group for r in found[0].rows] == ["All languages"]
    assert [r.verdict for f in found for r in f.rows] == ["same", "better"]
    assert [r.group for r in forests(rows[2:])[0].rows] == ["German"]


def test_a_heat_map_needs_three_languages_on_both_sides():
    langs = ["deu", "fra", "gle", "rus"]
    rows = [metric("adaptive", 0.5, a, b, "clir", "mrr@10") for a in langs for b in langs]
    rows[0] = metric("adaptive", 0.9, "deu", "deu", "clir", "mrr@10")
    heat = heat_maps(rows, Results(rows, {}))
    assert [h.title for h in heat] == ["Cross-lingual search MRR@10, Adaptive"]
    assert heat[0].rows[0] == ("deu", [("90", 10), ("50", 0), ("50", 0), ("50", 0)])
    star = [metric("adaptive", 0.5, "eng", x) for x in langs]
    assert heat_maps(star, Results(star, {})) == []


def test_figures_that_describe_get_no_mark_and_no_best():
    rows = [
        metric(m, v, "all", "all", "similarity", n) for n in ("nonpairs", "gap") for m, v in POOLED.items()
    ]
    tests = [difference("infonce", 0.1, 0.001, task="similarity", name=n) for n in ("nonpairs", "gap")]
    found = {r.label: r for r in summary_rows(Results(rows, {}), tests)}
    assert [c.best for c in found["Similarity nonpairs"].cells] == [False, False, False]
    assert [g[1] for g in found["Similarity nonpairs"].gains] == ["", ""]
    assert [c.best for c in found["Similarity gap"].cells] == [False, False, True]
    assert [g[1] for g in found["Similarity gap"].gains] == ["", "better"]


def test_cost_names_counts_within_counts():
    counts = {"pairs": {"read": 1200, "rejected": {"near_duplicate": 3}}, "notes": ["x"], "ok": True}
    stages = {"clean": {"seconds": 2.0, "counts": counts}, "score": {"seconds": 4, "counts": {"loss": 3.456}}}
    found = cost(RunData("run", manifest={"stages": stages}))
    assert [r.counts for r in found.rows] == ["pairs: 1,200 read; rejected: 3 near duplicate", "3.5 loss"]
    assert [(r.seconds, r.share) for r in found.rows] == [(2.0, 50.0), (4.0, 100.0)]
    assert found.total == 6.0


def entry(lang, pairs, noise=None, **more):
    return {
        "src_lang": "eng",
        "tgt_lang": lang,
        "pairs": pairs,
        "kept": pairs // 2,
        "noise_estimated": noise,
    } | more


def test_sources_of_a_language_pair_are_weighed_by_pairs():
    audits = {
        1: [entry("deu", 10, 0.9)],
        2: [entry("deu", 300, 0.1, source="a"), entry("deu", 100, 0.5, source="b", stable=False)],
    }
    known = [metric("adaptive", 0.25, task="audit", name="noise_true", round=2)]
    rows = audit_rows(audits, known)
    assert [(r.source, r.pairs, r.part) for r in rows] == [
        ("2 sources", 400, False),
        ("a", 300, True),
        ("b", 100, True),
    ]
    assert rows[0].estimated == pytest.approx(0.2)
    assert (rows[0].true, rows[1].true) == (0.25, None)
    assert [r.stable for r in rows] == [False, True, False]


def test_an_audit_known_from_metrics_alone():
    rows = audit_rows({}, [metric("adaptive", 0.3, task="audit", name="noise_estimated", low=0.2, high=0.4)])
    assert [(r.name, r.pairs, r.estimated, r.low, r.high) for r in rows] == [("German", 100, 0.3, 0.2, 0.4)]


def test_mining_rows_join_audits_and_truth():
    audits = {k: [entry("cym", 50 * k, predicted_precision=0.9), entry("deu", 9, 0.1)] for k in (1, 2)}
    known = [metric("adaptive", 0.8, tgt="cym", task="mining", name="precision", round=2)]
    known += [metric("adaptive", 0.7, "all", "all", task="mining", name="recall", round=2)]
    rows = mining_rows(audits, known)
    assert [(r.name, r.round, r.kept, r.predicted, r.precision, r.recall) for r in rows] == [
        ("Welsh", 1, 25, 0.9, None, None),
        ("Welsh", 2, 50, 0.9, 0.8, None),
        ("All languages", 2, 50, 0.9, None, 0.7),
    ]


def test_ledger_bars_share_a_scale():
    rows = ledger_rows(
        {
            1: {"enter": 40, "gain": 0, "stay": 0, "lose": 0, "leave": 0},
            2: dict.fromkeys(("enter", "gain", "stay", "lose", "leave"), 10),
        }
    )
    assert rows[0].bars[0] == ("enter", 40, 100.0)
    assert {share for _, _, share in rows[1].bars} == {25.0}


def test_the_space_joins_translations_and_keeps_proportions():
    rows = []
    for model in ("initial", "infonce", "adaptive"):
        for i, lang in enumerate(("deu", "eng")):
            rows.append(
                {
                    "model": model,
                    "method": "pca",
                    "lang": lang,
                    "group": "g",
                    "text": lang,
                    "x": 10.0 * i,
                    "y": i,
                }
            )
    found = space(rows, "adaptive")
    assert [p.label for p in found.panels] == ["Before training", "Adaptive"]
    assert found.languages == [("eng", "English"), ("deu", "German")]
    (_, _, x0, y0), (_, _, x1, y1) = found.panels[0].dots
    assert (x1 - x0) / (y0 - y1) == pytest.approx(10, rel=0.01)
    assert found.panels[0].lines == f"M{x1:g} {y1:g}L{x0:g} {y0:g}"
    assert space([], "adaptive") is None
