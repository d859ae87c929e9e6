"""Pieces of a corpus through a pool of encoder actors, as one Ray Data stream."""

from __future__ import annotations

import abc
import contextlib
import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from ray.util.annotations import RayDeprecationWarning

from xalign_dist.config import EncoderConfig
from xalign_dist.encoder import Encoder, load_encoder
from xalign_dist.errors import XalignError
from xalign_dist.runtime.faults import for_workers, pack_error, unpack_error, users_errors
from xalign_dist.runtime.lost_time import Begun, lost_pieces
from xalign_dist.runtime.resources import Pool


class PieceActor(abc.ABC):
    """One actor of the pool. The encoder is loaded at the first piece.

    An error in a constructor would reach the driver as a dead actor without its reason.
    """

    def __init__(self, job: Mapping[str, Any], threads: int | None, begun: Begun) -> None:
        """``job``: an EmbedJob as plain data; ``threads``: cores to use, None with a GPU."""
        self.job, self.threads, self.begun = job, threads, begun

    @functools.cached_property
    def encoder(self) -> Encoder:
        """Loaded once."""
        if self.threads:
            torch.set_num_threads(self.threads)
        return load_encoder(self.job["model"], EncoderConfig.model_validate(self.job["encoder"]))

    @abc.abstractmethod
    def work(self, piece: int, texts: list[str]) -> int:
        """Embed a piece and write it where it belongs; texts done. ``texts``: those sent with the piece."""

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What Ray Data calls."""
        rows, faults, lost = [], [], []
        pieces = batch["piece"].tolist()
        for piece, texts in zip(pieces, batch.get("texts", [None] * len(pieces)), strict=True):
            lost.append(self.begun.begin(piece))
            try:
                rows.append(self.work(piece, [] if texts is None else list(texts)))
                self.begun.end(piece)
                faults.append("")
            except XalignError as err:
                # Ray Data passes on only the text of an error in an actor, so it travels as data.
                rows.append(0)
                faults.append(pack_error(err))
        return {"rows": np.array(rows), "fault": np.array(faults), "lost": np.array(lost)}


def run_pieces(
    actor: type[PieceActor],
    arguments: tuple[Any, ...],
    job: Mapping[str, Any],
    items: Sequence[Mapping[str, Any]],
    pool: Pool,
    folder: Path,
    advance: Callable[[int], None] | None,
) -> None:
    """Hand every item (``piece``: its number, perhaps ``texts``) to an actor of ``pool``.

    Args:
        actor: constructed as ``actor(job, threads, begun, *arguments)``.
        arguments: of its own.
        job: an EmbedJob as plain data.
        items: what is to do.
        pool: how many actors, with what.
        folder: where the pieces under way are noted.
        advance: told of texts newly done, piece by piece.

    Raises:
        XalignError: what an actor raised.
    """
    # An item each from the start: a task of Data's own would find no CPU where every node is full of actors.
    ds = ray.data.from_items(list(items), override_num_blocks=len(items))
    begun, job = Begun(folder), {**job, "model": for_workers(job["model"])}
    with warnings.catch_warnings():
        # Of max_restarts: Ray Data has no named parameter for it yet (2.60).
        warnings.simplefilter("ignore", RayDeprecationWarning)
        done = ds.map_batches(
            actor,
            fn_constructor_args=(job, pool.threads, begun, *arguments),
            batch_size=1,
            # Those that have no node yet wait for one, while the others work.
            compute=ray.data.ActorPoolStrategy(size=pool.actors),
            num_cpus=pool.cpus,
            num_gpus=pool.gpus,
            # On one machine a crashed worker would crash again; on several, another node takes over.
            max_restarts=-1 if pool.moves else 0,
            **({"label_selector": dict(pool.labels)} if pool.labels else {}),
        )
    with contextlib.closing(begun), users_errors():
        for batch in done.iter_batches(batch_size=None):
            lost_pieces(batch["lost"])
            for fault in filter(None, batch["fault"]):
                raise unpack_error(str(fault))
            if advance is not None:
                advance(int(np.sum(batch["rows"])))
