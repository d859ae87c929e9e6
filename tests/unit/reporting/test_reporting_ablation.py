"""What each part is worth, on the console and in the report."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console
from synthetic_run import write_json

from xalign_dist.reporting.ablation import ablation_html, ablation_table
from xalign_dist.reporting.differences import Difference
from xalign_dist.reporting.report import write_report


def arm(name, gain, p, metric="accuracy", lang="all"):
    fields = {"task": "retrieval", "metric": metric, "lang": lang, "ours": "full", "baseline": name}
    return Difference(**fields, difference=gain, low=gain - 0.01, high=gain + 0.01, p=p / 2, p_holm=p, n=500)


ROWS = [
    arm("without filter", 0.03, 0.0002),
    arm("without [red]hardness", -0.02, 0.01),
    arm("without adversary", 0.002, 0.8),
    arm("without filter", -0.03, 0.0002, "xsim"),
]


def test_the_console_table_marks_parts_that_help_and_hurt():
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system="standard")
    console.print(ablation_table(ROWS))
    lines = console.file.getvalue().splitlines()
    helps = next(x for x in lines if "without filter" in x and "+3.0" in x)
    assert "\x1b[32m" in helps
    assert "<0.001" in helps
    assert "+2.0 to +4.0" in helps
    hurts = next(x for x in lines if "without [red]hardness" in x)
    assert "\x1b[31m" in hurts
    assert not any("\x1b[3" in x for x in lines if "without adversary" in x)
    xsim = lines[next(i for i, x in enumerate(lines) if "xsim" in x)]
    assert "+3.0" in xsim, "fewer errors with the part: it helps"


def test_the_fragment_has_a_table_per_figure():
    html = ablation_html([*ROWS, arm("<i>x", 0.1, 0.5)])
    assert html.count("<table") == 2
    assert html.count("v-better") == 2
    assert "<i>" not in html
    assert "Retrieval accuracy, All languages" in html


def test_single_language_pairs_are_folded_away():
    html = ablation_html([*ROWS, arm("without filter", 0.1, 0.5, lang="eng-deu")])
    before, _, after = html.partition("<details>")
    assert before.count("<table") == 2
    assert after.count("<table") == 1
    assert "German" in after
    assert "<details>" not in ablation_html(ROWS)


def test_a_run_with_an_ablation_has_its_section(run_dir):
    rows = [
        {
            "task": "retrieval",
            "metric": "accuracy",
            "lang": "all",
            "model": "full",
            "against": "without filter",
        }
    ]
    rows[0] |= {"ours": 0.8, "baseline": 0.7, "difference": 0.1, "p": 0.01, "p_holm": 0.02, "n": 4}
    assert 'id="ablation"' not in Path(write_report(str(run_dir))).read_text("utf-8")
    write_json(run_dir / "ablation.json", {"schema": 1, "comparisons": rows})
    html = Path(write_report(str(run_dir))).read_text("utf-8")
    assert 'id="ablation"' in html
    assert "without filter" in html
