"""Peak memory of one step with cached gradients: every tensor that is alive is counted."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from training_world import tiny_job
from transformers import BertConfig, BertModel

from xalign_dist.batches.batch import Batch
from xalign_dist.config import ObjectiveConfig
from xalign_dist.encoder import load_encoder
from xalign_dist.objective import DynamicObjective
from xalign_dist.training import TorchEngine
from xalign_dist.training.loop import Learner, batch_gradient
from xalign_dist.training.memory import block_rows

CHUNK, TOKENS, WIDTH = 256, 8, 64


class LiveBytes(TorchDispatchMode):
    """Bytes of the tensors made inside that are alive now, and the most there were."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, torch.Tensor):
                self._count(value.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen:
            return
        self._seen.add(key)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size


def _batch(pairs: int) -> Batch:
    rng = np.random.default_rng(0)
    tokens = [rng.integers(4, 180, size=TOKENS).tolist() for _ in range(2 * pairs)]
    ref = rng.normal(size=(2, pairs, 16)).astype(np.float32)
    ref /= np.linalg.norm(ref, axis=2, keepdims=True)
    rows = np.arange(pairs)
    return Batch(
        rows_B=rows,
        src_tokens=tokens[:pairs],
        tgt_tokens=tokens[pairs:],
        src_lang_B=np.zeros(pairs, np.int64),
        tgt_lang_B=np.ones(pairs, np.int64),
        weight_B=np.ones(pairs, np.float32),
        src_key_B=rows,
        tgt_key_B=rows + pairs,
        ref_src_BD=ref[0],
        ref_tgt_BD=ref[1],
        step=0,
        epoch=0,
    )


def peak(home: Path, pairs: int) -> int:
    """Bytes of one step at its peak, without weights, and without the texts' vectors and gradients."""
    training = {"batch_pairs": pairs, "chunk_pairs": CHUNK, "bucket_by_length": False}
    job = tiny_job(home, training=training)
    encoder = load_encoder(job.model, device="cpu")
    sizes = encoder.backbone.config.to_dict() | {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH}
    encoder.backbone = BertModel(BertConfig(**sizes), add_pooling_layer=False)
    objective = DynamicObjective(ObjectiveConfig.paper(), WIDTH, 3, 0, block_rows(pairs))
    learner = Learner(TorchEngine(encoder, job.training), objective, None)
    batch = _batch(pairs)
    with LiveBytes() as live:
        batch_gradient(learner, batch, job.training, 8, 0, lambda out, gradient: True)
    return live.most - 2 * 4 * WIDTH * 2 * pairs
