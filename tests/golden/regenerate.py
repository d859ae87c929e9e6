"""Golden losses: the tiny fp32 model's loss at every step, at full precision.

A refactor reproduces them; a change that moves them explains itself in its commit and regenerates:

    python -m tests.golden.regenerate

The figures depend on nothing but seeds and torch's CPU kernels; the test allows 1e-5 relative, because
another CPU or torch may add in another order.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from training_world import tiny_job

from xalign_dist.config import ObjectiveConfig
from xalign_dist.training import run_training

FILE = Path(__file__).parent / "losses.json"
ARMS = {
    "adaptive": ({}, {}),
    "infonce": ({"objective": ObjectiveConfig.infonce()}, {}),
    "adaptive_cached": ({}, {"chunk_pairs": 5}),
}


def losses(arm: str, home: Path) -> list[dict[str, float]]:
    """Loss, tau and gradient norm of 8 steps of one arm, trained in ``home``."""
    fields, training = ARMS[arm]
    job = tiny_job(home, work=str(home / arm), out=str(home / f"{arm}.out"), training=training, **fields)
    seen: list[dict[str, float]] = []
    run_training(
        job,
        report=lambda r: seen.append(
            {"loss": r.loss, "tau": r.trace["tau"], "gradient_norm": r.gradient_norm}
        ),
    )
    return seen


def main() -> None:
    """Write ``losses.json``."""
    with tempfile.TemporaryDirectory() as folder:
        golden = {arm: losses(arm, Path(folder)) for arm in ARMS}
    FILE.write_text(json.dumps(golden, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
