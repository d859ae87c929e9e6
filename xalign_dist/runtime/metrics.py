"""Figures for Prometheus: Ray's agent on every node offers them, under these names with ``ray_`` before."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray
from ray.util.metrics import Counter, Gauge

if TYPE_CHECKING:  # every worker imports this module, and scoring brings scikit-learn
    from xalign_dist.scoring import AuditEntry


@dataclass(frozen=True)
class Figure:
    """One metric: what it says, the tags that it has, and whether it only grows."""

    says: str
    tags: tuple[str, ...] = ()
    grows: bool = False


#: Of a step's record (:class:`~xalign_dist.training.loop.StepRecord`), by its key.
_OF_A_STEP = {
    "step": "xalign_step",
    "loss": "xalign_loss",
    "pairs_per_second": "xalign_pairs_per_second",
    "data_wait_share": "xalign_data_wait_share",
    "padding_share": "xalign_padding_share",
    "accuracy": "xalign_batch_accuracy",
    "tau": "xalign_tau",
}
FIGURES: Mapping[str, Figure] = {
    "xalign_rows": Figure("Rows that a stage has done.", ("stage",), grows=True),
    "xalign_noise_share": Figure("Estimated share of wrong pairs.", ("src_lang", "tgt_lang", "source")),
    "xalign_shard_rows": Figure("Vectors in an index shard.", ("shard",)),
    "xalign_step": Figure("Steps that the training has done."),
    "xalign_loss": Figure("Loss of the global batch."),
    "xalign_pairs_per_second": Figure("Pairs per second of all workers together, waiting included."),
    "xalign_data_wait_share": Figure("Share of the training's time that was spent waiting for data."),
    "xalign_padding_share": Figure("Share of encoded tokens that is padding."),
    "xalign_batch_accuracy": Figure("Share of a batch's sources whose nearest target is their own."),
    "xalign_tau": Figure("Temperature of the contrastive loss."),
}


@functools.cache
def _metric(name: str) -> Gauge | Counter:
    figure = FIGURES[name]
    return (Counter if figure.grows else Gauge)(name, figure.says, figure.tags)


def observe(name: str, value: float, **tags: str) -> None:
    """Set gauge ``name``, or add to it where it is one that grows. Without Ray nothing happens."""
    if not ray.is_initialized() or not math.isfinite(value):
        return
    metric = _metric(name)
    if isinstance(metric, Gauge):
        metric.set(value, tags)
    elif value > 0:
        metric.inc(value, tags)


def observe_step(record: Mapping[str, Any]) -> None:
    """The figures of one training step."""
    for key, name in _OF_A_STEP.items():
        if key in record:
            observe(name, float(record[key]))


def observe_noise(entries: Iterable[AuditEntry]) -> None:
    """The estimated noise of each group that has one."""
    for entry in entries:
        if entry.noise_estimated is not None:
            tags = {"src_lang": entry.src_lang, "tgt_lang": entry.tgt_lang, "source": entry.source}
            observe("xalign_noise_share", entry.noise_estimated, **tags)


def observe_shards(rows: Iterable[int]) -> None:
    """Vectors in each index shard."""
    for number, count in enumerate(rows):
        observe("xalign_shard_rows", float(count), shard=str(number))
