from __future__ import annotations

import json
import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tuning.finals import DEFAULT, Contender, to_json
from tuning.knobs import bins, interactions, knobs
from tuning.report import write_sweep_report
from tuning.space import Space
from tuning.statement import headline, statement
from tuning.summary import Trial, write_summary
from tuning.sweep import Limits
from xalign_dist.errors import DataError

RATE, TAU = "training.learning_rate", "objective.temperature.start"
SPACE = Space.model_validate(
    {"parameters": {RATE: {"grid": [1e-4, 2e-4, 4e-4]}, TAU: {"grid": [0.05, 0.07]}}, "budget": "2cpuh"}
)
# The rate decides, the temperature does next to nothing.
TRIALS = [
    Trial({RATE: r, TAU: t}, 0.5 + 0.1 * i + 0.001 * j, {}, 10.0, name=f"{i}{j}")
    for (i, r), (j, t) in product(enumerate([1e-4, 2e-4, 4e-4]), enumerate([0.05, 0.07]))
]
ROW = {
    "task": "retrieval", "metric": "accuracy", "lang": "all", "model": "best", "against": "default",
    "ours": 0.712, "baseline": 0.698, "difference": 0.014, "low": 0.003, "high": 0.025, "p": 0.01,
    "p_holm": 0.012, "n": 400,
}  # fmt: skip


def _rows() -> list[dict[str, Any]]:
    return [{"parameters": t.parameters, "value": t.value} for t in TRIALS]


def test_the_setting_that_decides_comes_first_with_its_share() -> None:
    found = knobs(_rows(), [TAU, RATE], "max")
    assert [k.name for k in found] == [RATE, TAU]
    assert found[0].explained == pytest.approx(1.0, abs=0.001)
    assert found[1].explained == pytest.approx(0.0, abs=0.001)
    assert [k.best for k in found] == ["0.0004", "0.07"]
    assert [len(k.dots) for k in found] == [6, 6]
    assert [k.best for k in knobs(_rows(), [RATE], "min")] == ["0.0001"]


def test_interactions_hold_the_means_of_both() -> None:
    rows = [*_rows(), {"parameters": {RATE: 1e-4, TAU: 0.05}, "value": 0.7}]
    (heat,) = interactions(rows, [RATE, TAU])
    assert heat.columns == ["0.05", "0.07"]
    assert [label for label, _ in heat.rows] == ["0.0001", "0.0002", "0.0004"]
    assert heat.rows[0][1][0][0] == "0.600"  # (0.5 + 0.7) / 2
    assert heat.rows[2][1][1] == ("0.701", 10)


def test_many_values_fall_into_quarters() -> None:
    found = bins([float(n) for n in range(100)])
    assert [found.of.count(i) for i in range(4)] == [25, 25, 25, 25]
    assert found.labels[0] == "0 to 25"
    assert bins(["b", "a", None, True]).labels == ["None", "True", "a", "b"]


def _contenders() -> list[Contender]:
    return [Contender("21", TRIALS[-1].parameters, [0.7, 0.72]), Contender(DEFAULT, {}, [0.69, 0.69])]


def test_statement_says_how_much_better_with_interval() -> None:
    said = statement(SPACE, TRIALS, _contenders(), [ROW], "", Limits())
    assert "gain +1.4 points of Retrieval accuracy over the default" in said[0]
    assert "95 % interval +0.3 to +2.5, corrected p 0.012, 2 seeds" in said[0]
    assert "0.7100 ± 0.0141 against 0.6900 ± 0.0000" in said[1]


def test_statement_is_honest_about_less() -> None:
    worse = list(reversed(_contenders()))
    assert "no finalist beat the default" in statement(SPACE, TRIALS, worse, [], "", Limits())[0]
    alone = statement(SPACE, TRIALS, [], [], "budget", Limits())
    assert "one seed, not compared with the default" in alone[0]
    assert "The budget of 2cpuh ended the sweep; 0 of 6 trials did not end." in alone[1]
    unsure = {**ROW, "p_holm": 0.3}
    assert "chance may explain it" in statement(SPACE, TRIALS, _contenders(), [unsure], "", Limits())[0]


def test_the_row_over_all_languages_stands_for_the_test() -> None:
    assert headline([]) is None
    found = headline([{**ROW, "lang": "eng-deu"}, ROW])
    assert found is not None
    assert found.lang == "all"


def test_report_is_one_offline_file_with_every_part(tmp_path: Path) -> None:
    hostile = Trial({RATE: 1e-4, TAU: 0.05}, None, {}, 1.0, "<script>alert(1)</script>")
    more = {
        "finalists": to_json(_contenders()),
        "comparisons": [ROW],
        "statement": statement(SPACE, TRIALS, _contenders(), [ROW], "", Limits()),
        "budget": "2cpuh",
    }
    write_summary([*TRIALS, hostile], SPACE, None, tmp_path, winner={RATE: 4e-4, TAU: 0.07}, more=more)
    html = Path(write_sweep_report(str(tmp_path))).read_text("utf-8")
    assert "<script>alert" not in html
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", html)
    assert "+1.4 points on the test set" in html
    assert html.count("<circle") == 12
    assert html.count('<table class="heat">') == 1
    assert html.count("<tr>") >= 6 + 2 + 3
    assert "default-src 'none'" in html


def test_report_of_nothing_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"trials\.json: no such file\n.*xalign sweep"):
        write_sweep_report(str(tmp_path))
    (tmp_path / "trials.json").write_text(json.dumps({"trials": []}))
    with pytest.raises(DataError, match="run the sweep's command again"):
        write_sweep_report(str(tmp_path))
