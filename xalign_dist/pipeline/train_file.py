"""`xalign train` on plain files: pairs in, an encoder out."""

from __future__ import annotations

from typing import Any

import pyarrow.compute as pc

from xalign_dist.config import RunConfig
from xalign_dist.errors import DataError
from xalign_dist.pairs.select import require_pairs, select_pairs
from xalign_dist.pipeline.console import Screen
from xalign_dist.pipeline.context import open_run
from xalign_dist.pipeline.files import scored_or_plain
from xalign_dist.pipeline.rounds import train_stage
from xalign_dist.pipeline.rundir import publish_model
from xalign_dist.pipeline.train import VOCABULARY_FILE, Slice, write_vocabulary
from xalign_dist.records import ORIGIN_MINED
from xalign_dist.runtime.vectors import EmbedJob, embed_corpus


def train_file(
    pairs: str, columns: dict[str, str], out: str, config: RunConfig, screen: Screen
) -> dict[str, Any]:
    """Train on the pairs of a file; the encoder lands in ``out``/model.

    Pairs with confidence at or below ``mining.min_confidence`` are left out when
    ``pairs.filter_parallel`` is on.
    """
    table = scored_or_plain(pairs, columns)
    mined = pc.equal(table["origin"], ORIGIN_MINED)
    parallel, found = table.filter(pc.invert(mined)), table.filter(mined)
    groups = {tuple(g.values()) for g in parallel.select(["src_lang", "tgt_lang", "source"]).to_pylist()}
    limits = {(g[0], g[1], g[2]): config.mining.min_confidence for g in groups}
    chosen = require_pairs(select_pairs(parallel, found, limits, config.pairs, config.mining.min_confidence))
    _check_size(chosen.num_rows, config.training.batch_pairs)
    texts = chosen["src"].to_pylist() + chosen["tgt"].to_pylist()
    with open_run(config, out, screen) as context:
        write_vocabulary(texts, context.run.corpus / VOCABULARY_FILE)
        reference = None
        if config.objective.regulariser.enabled:
            job = EmbedJob(config.scoring.reference, config.encoder, config.runtime.embed_batch)
            with screen.stage("embed with the reference encoder", len(set(texts)), "texts") as advance:
                reference = embed_corpus(
                    texts, job, str(context.run.vectors), config.runtime, context.resources, advance
                )
        part = Slice("adaptive", 1, 0, config.training.steps)
        counts = train_stage(context, part, chosen, config, reference, None, "train")
        publish_model(context.run.arm(part.arm, 1) / "model", context.run.model)
        return counts


def _check_size(pairs: int, batch_pairs: int) -> None:
    # The plan of batches looks closer, at distinct texts; but only once everything has been embedded.
    if pairs < batch_pairs:
        raise DataError(
            f"the batch is larger than the data: training.batch_pairs is {batch_pairs}, but only {pairs} "
            "pairs are left to train on",
            f"lower training.batch_pairs to {max(pairs, 2)} or less, or add data",
        )
