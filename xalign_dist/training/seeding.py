"""Random numbers of a step as a pure function of (seed, step, rank, chunk): nothing to save or restore."""

from __future__ import annotations

import hashlib

import torch


def seed_dropout(seed: int, step: int, rank: int, chunk: int) -> None:
    """Set torch's generators so that this chunk's dropout masks depend on the four numbers alone.

    Called before each encoding of a chunk: the second encoding under cached gradients replays the
    first one's masks, and a resumed run those of the run that was killed.
    """
    digest = hashlib.blake2b(f"{seed}/{step}/{rank}/{chunk}".encode(), digest_size=8).digest()
    torch.manual_seed(int.from_bytes(digest, "little") >> 1)
