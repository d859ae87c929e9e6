"""The losses of tests/golden/losses.json come out again; see regenerate.py for the command."""

import json
from pathlib import Path

import pytest
from regenerate import ARMS, FILE, losses


@pytest.mark.parametrize("arm", sorted(ARMS))
def test_losses_are_golden(tmp_path: Path, arm: str) -> None:
    golden = json.loads(FILE.read_text("utf-8"))[arm]
    seen = losses(arm, tmp_path)
    assert len(seen) == len(golden) == 8
    for step, (now, then) in enumerate(zip(seen, golden, strict=True), start=1):
        assert now == pytest.approx(then, rel=1e-5), f"step {step} of {arm}"
