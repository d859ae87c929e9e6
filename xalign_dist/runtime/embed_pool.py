"""A pool of encoder actors that answers as one EmbedFn; for stages that ask many times."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import ray
import torch

from xalign_dist.config import EncoderConfig, RuntimeConfig
from xalign_dist.encoder import Embedder, load_encoder
from xalign_dist.records import Float32
from xalign_dist.runtime.faults import for_workers, users_errors
from xalign_dist.runtime.resources import Resources
from xalign_dist.runtime.session import sliver

SLICE_TEXTS = 1024


# By name: else, inside a trial of Tune, it would be held to the trial's own reservation, which has no GPU.
# Retries without end: while a node that is gone is not yet known to be, calls fail; restarts bound the rest.
@ray.remote(num_cpus=0, max_restarts=3, max_task_retries=-1, scheduling_strategy="SPREAD")
class EncoderActor:
    """Holds one encoder. Without GPU it uses ``threads`` cores."""

    def __init__(self, model: str, encoder: dict[str, Any], batch: int, threads: int | None) -> None:
        self.model, self.settings, self.batch, self.threads = model, encoder, batch, threads
        self.embedder: Embedder | None = None

    def embed(self, texts: list[str]) -> Float32:
        """Unit vectors ``[N, D]`` of ``texts``. The encoder is loaded at the first call."""
        if self.embedder is None:
            if self.threads:
                torch.set_num_threads(self.threads)
            encoder = load_encoder(self.model, EncoderConfig.model_validate(self.settings))
            self.embedder = Embedder(encoder, self.batch)
        return self.embedder(texts)


class PoolEmbedder:
    """Spreads texts over the pool's actors; the order of the answer is that of the texts."""

    def __init__(self, actors: list[Any]) -> None:
        self.actors = actors

    def __call__(self, texts: Sequence[str]) -> Float32:
        """Embed ``texts`` into float32 ``[N, D]``; texts of like length travel together."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        slices = [order[i : i + SLICE_TEXTS] for i in range(0, len(order), SLICE_TEXTS)]
        pending = [
            self.actors[n % len(self.actors)].embed.remote([texts[i] for i in rows])
            for n, rows in enumerate(slices)
        ]
        with users_errors():
            answers = ray.get(pending)
        out = np.empty((len(texts), answers[0].shape[1] if answers else 0), dtype=np.float32)
        for rows, vectors_BD in zip(slices, answers, strict=True):
            out[rows] = vectors_BD
        return out


@contextlib.contextmanager
def embed_pool(
    model: str, encoder: EncoderConfig, runtime: RuntimeConfig, resources: Resources
) -> Iterator[PoolEmbedder]:
    """Start the pool for ``model``; its actors end with the block."""
    resources = resources.now()
    count = resources.embed_actors(runtime)
    options = {"num_cpus": sliver(), "num_gpus": resources.embed_gpus(runtime)}
    settings = encoder.model_dump(mode="json"), runtime.embed_batch, resources.threads(count)
    actors = [
        EncoderActor.options(**options).remote(for_workers(model), *settings)  # type: ignore[attr-defined]
        for _ in range(count)
    ]
    try:
        yield PoolEmbedder(actors)
    finally:
        for actor in actors:
            ray.kill(actor)
