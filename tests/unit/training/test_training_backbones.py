"""Every kind of backbone trains a few steps and is saved so that others read the same vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from encoder_world import write_tiny
from sentence_transformers import SentenceTransformer
from training_world import tiny_job

from xalign_dist.config import EncoderConfig, ObjectiveConfig
from xalign_dist.encoder import embed_texts, load_encoder
from xalign_dist.pairs.write import WEIGHTED_PAIR
from xalign_dist.pipeline.train import write_set
from xalign_dist.training import StepRecord, run_training
from xalign_dist.training.checkpoint import Checkpoints

# Adversary, hardness, masks and temperature are on; reference vectors are not needed for what is tested.
OBJECTIVE = ObjectiveConfig.model_validate({"regulariser": {"enabled": False}})
PROMPTS = {"query_prefix": "w58 ", "passage_prefix": "w59 w58 "}
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "bert, mean": ("bert", {}, {}),
    "xlmr, cls, recomputed": ("xlmr", {"pooling": "cls", "gradient_checkpointing": True}, {}),
    "xlmr, mlp head": ("xlmr", {"projection": "mlp", "projection_dim": 8}, {"chunk_pairs": 5}),
    "bert, orthogonal head": ("bert", {"projection": "linear", "orthogonal": True}, {"chunk_pairs": 5}),
    "qwen3, last, prompts": ("qwen3", PROMPTS, {"chunk_pairs": 5}),
    "qwen3, lora, recomputed": (
        "qwen3",
        {"lora_rank": 4, "lora_dropout": 0.1, "gradient_checkpointing": True, **PROMPTS},
        {"chunk_pairs": 5},
    ),
    "mistral, lora, linear head": (
        "mistral",
        {"lora_rank": 4, "lora_targets": ["q_proj", "v_proj"], "projection": "linear"},
        {},
    ),
    "mistral, last": ("mistral", {}, {"chunk_pairs": 5}),
}


def word_pairs(rows: int = 60) -> pa.Table:
    """Texts of w0..w24 and their translations, w25..w49."""
    rng = np.random.default_rng(0)
    fixed = {
        **{"src_lang": "eng", "tgt_lang": "fra", "source": "toy", "cosine": 0.9, "margin": 1.1},
        **{"confidence": 0.9, "origin": "parallel", "round": 0, "stable_rounds": 0, "weight": 1.0},
    }
    table = []
    for n in range(rows):
        numbers = rng.integers(0, 25, size=int(rng.integers(2, 7)))
        src, tgt = (" ".join(f"w{i + shift}" for i in numbers) for shift in (0, 25))
        table.append(fixed | {"src_id": f"s{n}", "tgt_id": f"t{n}", "src": src, "tgt": tgt})
    return pa.Table.from_pylist(table, schema=WEIGHTED_PAIR)


@pytest.mark.parametrize("case", CASES)
def test_it_learns_and_others_load_the_same_vectors(tmp_path: Path, case: str) -> None:
    kind, encoder, training = CASES[case]
    model = str(write_tiny(tmp_path, kind))
    table = word_pairs()
    texts = table["src"].to_pylist() + table["tgt"].to_pylist()
    job = tiny_job(
        tmp_path,
        model=model,
        encoder=EncoderConfig(model=model, **encoder),
        objective=OBJECTIVE,
        training_set=str(tmp_path / "words"),
        stop_step=30,
        total_steps=30,
        training={"learning_rate": 1e-2, "checkpoint_every": 15, **training},
    )
    Path(str(job.vocabulary_texts)).write_text("\n".join(texts))
    assert write_set(job, table, None) == 0
    records: list[StepRecord] = []
    run_training(job, report=records.append)
    assert np.mean([r.loss for r in records[-5:]]) < 0.8 * np.mean([r.loss for r in records[:5]]), case

    ours = load_encoder(job.out, device="cpu")
    theirs = SentenceTransformer(job.out, device="cpu")
    for side in ("query", "passage"):
        wanted = embed_texts(ours, texts, side=side, precision="fp32")  # type: ignore[arg-type]
        seen = theirs.encode(texts, prompt_name=side, normalize_embeddings=True)
        np.testing.assert_allclose(seen, wanted, atol=1e-5)
    if encoder.get("orthogonal"):
        weight = ours.head[0].weight.detach()  # type: ignore[index, union-attr]
        torch.testing.assert_close(weight @ weight.T, torch.eye(len(weight)), atol=1e-4, rtol=0)
        assert (weight - torch.eye(len(weight))).abs().max() > 1e-2
    newest = Checkpoints(f"{job.work}/checkpoints", keep=1).newest()
    assert newest is not None
    if "lora_rank" in encoder:
        assert all("lora_" in name or name.startswith("head") for name in newest.tensors["encoder"])
