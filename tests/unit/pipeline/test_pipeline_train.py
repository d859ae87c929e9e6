"""What the trainee reads is what the corpus says, whatever becomes of its vocabulary."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from training_world import pairs, tiny_job

from xalign_dist.batches.batch import BatchStream
from xalign_dist.batches.plan import BatchPlan
from xalign_dist.encoder import embed_texts, load_encoder
from xalign_dist.errors import DataError
from xalign_dist.pairs.store import TrainingSet
from xalign_dist.pipeline.train import write_set
from xalign_dist.training.encode import plan_chunks
from xalign_dist.training.run import load_trainee


def test_a_trimmed_trainee_encodes_the_texts_of_the_set(tmp_path: Path) -> None:
    job = replace(tiny_job(tmp_path, dropout=0.0), training_set=str(tmp_path / "written"))
    # The last rows only, so that the rows that stay are not those of the whole vocabulary.
    table = pairs().slice(90)
    texts = table["src"].to_pylist() + table["tgt"].to_pylist()
    Path(str(job.vocabulary_texts)).write_text("\n".join(texts))
    write_set(job, table, None)

    trainee = load_trainee(job, torch.device("cpu"))
    assert trainee.trimmed is not None
    assert trainee.trimmed.kept_R[-1] >= len(trainee.trimmed.kept_R)
    written = TrainingSet.open(job.training_set)
    plan = BatchPlan(written.group_N, written.src_key_N, written.tgt_key_N, 12, seed=0)
    with BatchStream(written, plan, 0, 1, 0, 1) as stream:
        batch = next(iter(stream))
    chunks = plan_chunks(batch, trainee.eval(), job.training, torch.device("cpu"))
    with torch.no_grad():
        seen = chunks.restore([trainee(c.ids, c.mask) for c in chunks.chunks]).numpy()

    rows = table.take(batch.rows_B)
    wanted = rows["src"].to_pylist() + rows["tgt"].to_pylist()
    untouched = load_encoder(job.model, job.encoder, torch.device("cpu"))
    assert np.abs(seen - embed_texts(untouched, wanted, precision="fp32")).max() < 1e-5


def test_pairs_that_tokenise_to_nothing_are_counted_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = replace(tiny_job(tmp_path), training_set=str(tmp_path / "written"))
    rows = pairs().slice(0, 20).to_pylist()
    rows[3]["src"], rows[7]["tgt"] = "\u043d\u0435\u0442", "  "
    table = pa.Table.from_pylist(rows, schema=pairs().schema)
    assert write_set(job, table, None) == 2
    assert "2 of 20 pairs have a side that tokenises to nothing" in caplog.text
    assert "first 's3'" in caplog.text
    written = TrainingSet.open(job.training_set)
    assert len(written.group_N) == 18
    encoder = load_encoder(job.model, job.encoder, torch.device("cpu"))
    kept = [r["src"] for n, r in enumerate(rows) if n not in (3, 7)]
    assert written.src_tokens(np.arange(18)) == encoder.full_ids(kept)
    with pytest.raises(DataError, match="1 of 1 pairs have a side that tokenises to nothing"):
        write_set(job, table.slice(3, 1), None)
