"""Population based training over real runs: on from another run's state, which stays as it was."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import django
import pytest
import yaml

from tuning.objective import METRIC, located, prepare_shared
from tuning.space import Space
from tuning.stages import PipelineRounds
from tuning.sweep import Limits, Sweep
from xalign_dist.config import CorpusConfig, RuntimeConfig, parse_config
from xalign_dist.corpora.read import read_corpus
from xalign_dist.pipeline.console import Screen
from xalign_dist.pipeline.context import open_run
from xalign_dist.runtime.session import ray_session

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(900)]

LAYER = "builtin:e5-small?layers=1"
RATE = "training.learning_rate"


def _pairs(path: Path) -> None:
    book = Path(django.__file__).parent / "contrib" / "admin" / "locale" / "de" / "LC_MESSAGES" / "django.po"
    rows: dict[str, str] = {}
    for chunk in read_corpus(CorpusConfig(path=str(book), src_lang="en", tgt_lang="de")):
        for src, tgt in zip(chunk.kept["src"].to_pylist(), chunk.kept["tgt"].to_pylist(), strict=True):
            if "\n" not in src + tgt:
                rows.setdefault(src, tgt)
    lines = [{"src": s, "tgt": t, "src_lang": "en", "tgt_lang": "de"} for s, t in rows.items()]
    path.write_text("".join(json.dumps(r) + "\n" for r in lines), "utf-8")


def _digests(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in folder.rglob("*")
        if p.is_file()
    }


def test_a_population_of_runs_goes_on_from_the_best_and_leaves_it_as_it_was(tmp_path: Path) -> None:
    _pairs(tmp_path / "pairs.jsonl")
    settings = located(
        parse_config(
            {
                "corpora": [{"path": str(tmp_path / "pairs.jsonl"), "source": "tiny"}],
                "encoder": {"model": LAYER},
                "scoring": {"reference": LAYER},
                "mining": {"second_view": "none"},
                "training": {"steps": 4, "batch_pairs": 16},
                "rounds": {"count": 2},
                "runtime": {"train_workers": 0},
            },
            origin="test",
        )
    )
    base = settings.model_dump(mode="json", exclude={"runtime": {"address"}})
    space = Space.model_validate(
        {"scheduler": "pbt", "reports": 2, "parameters": {RATE: {"grid": [0.000001, 0.001]}}}
    )
    before: dict[str, dict[str, str]] = {}

    class Watched(PipelineRounds):
        """Knows what the donor's files were when they were taken: it is asked in this process."""

        def __reduce__(self):
            return PipelineRounds, (self.base, self.shared)

        def take_over(self, donor, folder, number, overrides, lineage):
            before[donor] = _digests(Path(donor))
            super().take_over(donor, folder, number, overrides, lineage)
            assert _digests(Path(donor)) == before[donor]

    with (
        ray_session(RuntimeConfig(), str(tmp_path / "ray.log")),
        open_run(settings, str(tmp_path / "base"), Screen(enabled=False)) as context,
    ):
        prepare_shared(context)
        shared = str(context.run.root)
        sweep = Sweep(
            space,
            lambda overrides, folder, report: {},
            str(tmp_path / "sweep"),
            limits=Limits(concurrent=1),
            stages=Watched(base, shared),
        )
        found = sweep.search()
    assert not any(t.error for t in found)
    assert [t.ended for t in sorted(found, key=lambda t: bool(t.replaced))] == [True, True, False]
    copy = next(t for t in found if t.schedule)
    home = Path(sweep.lane.folder(copy.name))
    donor = Path(sweep.lane.folder(copy.schedule[0]["trial"]))
    assert str(donor) in before
    # What the donor has done since is new; rewritten are its books, and telemetry is appended to.
    after, moving = _digests(donor), ("manifest.json", "config.yaml", "telemetry", "logs")
    changed = [n for n, d in before[str(donor)].items() if after.get(n) != d and not n.startswith(moving)]
    assert changed == []
    lineage = json.loads((home / "lineage.json").read_text())["lineage"]
    assert [(s["donor"], s["round"]) for s in lineage] == [(donor.name, 1)]
    assert yaml.safe_load((home / "config.yaml").read_text())["training"]["learning_rate"] == pytest.approx(
        copy.parameters[RATE]
    )
    stages = [json.loads((p / "manifest.json").read_text())["stages"] for p in (home, donor)]
    assert stages[0]["adaptive: round 1"] == stages[1]["adaptive: round 1"], "the donor's round ran again"
    model = "arms/adaptive/round=1/model/model.safetensors"
    if (donor / model).exists():
        assert (home / model).stat().st_ino == (donor / model).stat().st_ino
    steps = [json.loads(line)["step"] for line in (home / "telemetry" / "adaptive.jsonl").open()]
    assert sorted(steps) == steps
    assert len(steps) == 4
    assert all(METRIC in t.metrics for t in found)
