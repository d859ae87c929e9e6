"""`xalign evaluate`: any models side by side on a suite."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from xalign_dist.config import EncoderConfig, MiningConfig, RunConfig
from xalign_dist.encoder import Encoder, load_encoder
from xalign_dist.errors import ConfigError
from xalign_dist.evaluation.compare import compare
from xalign_dist.evaluation.context import MineFn, TokenStatesFn
from xalign_dist.evaluation.metrics import write_metrics
from xalign_dist.evaluation.run import evaluate
from xalign_dist.evaluation.suite import load_suite
from xalign_dist.evaluation.scores import Float64
from xalign_dist.mining import exact_knn, mine
from xalign_dist.pipeline.console import Screen
from xalign_dist.pipeline.rundir import write_json
from xalign_dist.records import SENTENCE, Float32, Int64
from xalign_dist.reporting.console import summary_tables
from xalign_dist.runtime.embed_pool import embed_pool
from xalign_dist.runtime.session import ray_session

ALIGNMENT_LAYER = -4
"""Middle layers align words better than the last (Dou & Neubig 2021)."""


def evaluate_file(models: list[str], suite_path: str, out: str, config: RunConfig, screen: Screen) -> None:
    """Write ``out`` (metrics.json) and comparisons.json beside it; the first model is tested against the rest.

    Raises:
        ConfigError: the same model twice, or a fault in the suite.
    """
    if len(set(models)) < len(models):
        raise ConfigError("--model names the same model twice", "name each once")
    suite = load_suite(suite_path)
    needs_words = any(t.task == "word_alignment" for t in suite.tasks)
    with ray_session(config.runtime) as resources, contextlib.ExitStack() as stack:
        pools = {
            m: stack.enter_context(embed_pool(m, EncoderConfig(model=m), config.runtime, resources))
            for m in models
        }
        states = {m: token_states(m) for m in models} if needs_words else None
        with screen.stage(f"evaluate {len(models)} models on {len(suite.tasks)} tasks"):
            result = evaluate(
                pools, suite, config.evaluation, config.seed, token_states=states, mine=miner(config.mining, config.seed)
            )
    write_metrics(result.metrics, out)
    rows = compare(result, models[0], models[1:], config.evaluation, config.seed) if models[1:] else []
    beside = Path(out).resolve().parent / "comparisons.json"
    write_json(beside, {"schema": 1, "comparisons": [r.to_json() for r in rows]})
    screen.say(*summary_tables(result.metrics), *(f"note: {n}" for n in result.notes), f"metrics: {out}")


def token_states(model: str) -> TokenStatesFn:
    """States of the words of ``model``, mean over each word's pieces, from a middle layer."""
    encoder = load_encoder(model)

    def states(sentences: Sequence[Sequence[str]]) -> list[Float32]:
        return [word_states(encoder, words) for words in sentences]

    return states


def word_states(encoder: Encoder, words: Sequence[str]) -> Float32:
    """float32 ``[words, D]``; a word whose pieces were all cut off stays zero."""
    batch = encoder.tokenizer(
        list(words),
        is_split_into_words=True,
        truncation=True,
        max_length=encoder.max_tokens,
        return_tensors="pt",
    )
    layers = encoder.backbone.config.num_hidden_layers
    with torch.inference_mode():
        states = encoder.token_states(
            batch["input_ids"].to(encoder.device),
            batch["attention_mask"].to(encoder.device),
            max(ALIGNMENT_LAYER, -layers),
        )[0]
    out = np.zeros((len(words), states.shape[1]), np.float32)
    owners = np.array([-1 if w is None else w for w in batch.word_ids(0)])
    for word in range(len(words)):
        pieces = np.flatnonzero(owners == word)
        if len(pieces):
            out[word] = states[torch.from_numpy(pieces)].mean(0).cpu().numpy()
    return out


def miner(config: MiningConfig, seed: int) -> MineFn:
    """Mining as the evaluation needs it: vectors in, row pairs and confidences out, in this process."""

    def mine_vectors(source_ND: Float32, target_MD: Float32) -> tuple[Int64, Int64, Float64]:
        source, target = _numbered("src", len(source_ND)), _numbered("tgt", len(target_MD))
        pairs = mine(source, target, exact_knn, [(source_ND, target_MD)], config, 0, seed).pairs
        rows = (pairs[c].cast(pa.int64()).to_numpy() for c in ("src_id", "tgt_id"))
        return (*rows, pairs["confidence"].to_numpy().astype(np.float64))

    return mine_vectors


def _numbered(lang: str, count: int) -> pa.Table:
    """A side whose ids and texts are its row numbers: mining itself looks at vectors only."""
    numbers = [str(i) for i in range(count)]
    columns = {"id": numbers, "lang": [lang] * count, "text": numbers, "source": [""] * count}
    return pa.table(columns, schema=SENTENCE)
