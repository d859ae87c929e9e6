"""The encoder: tokenizer, backbone, pooling, head; texts in, unit vectors out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from xalign_dist.encoder.pooling import Pooling, pool

Side = Literal["query", "passage"]


class Encoder(nn.Module):
    """A transformers backbone with pooling and an optional head.

    Attributes:
        dim: width D of the vectors.
        rows: full-vocabulary id -> row of the embedding matrix, int64 ``[V]``; None: not trimmed.
        full_embedding: the untrimmed matrix, kept aside on the CPU (neither parameter nor
            buffer, so that it is neither trained nor saved); None: not trimmed.
    """

    def __init__(
        self,
        backbone: Any,
        tokenizer: Any,
        *,
        pooling: Pooling = "mean",
        head: nn.Sequential | None = None,
        max_tokens: int = 128,
        query_prefix: str = "",
        passage_prefix: str = "",
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.tokenizer = tokenizer
        self.pooling: Pooling = pooling
        self.max_tokens = max_tokens
        self.query_prefix, self.passage_prefix = query_prefix, passage_prefix
        self.rows: np.ndarray | None = None
        self.full_embedding: Tensor | None = None

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        if self.head is not None:
            return int(self.head[-1].weight.shape[0])  # type: ignore[union-attr,index]
        return int(self.backbone.config.hidden_size)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def tokenize(self, texts: Sequence[str], *, side: Side = "query") -> list[list[int]]:
        """Token ids of each text, cut at ``max_tokens``, special tokens included, none empty.

        Ids are rows of the (possibly trimmed) embedding matrix.
        """
        if not texts:
            return []
        prefix = self.query_prefix if side == "query" else self.passage_prefix
        batch = self.tokenizer(
            [prefix + t for t in texts] if prefix else list(texts),
            truncation=True,
            max_length=self.max_tokens,
            padding=False,
            return_attention_mask=False,
            return_token_type_ids=False,
        )
        ids: list[list[int]] = batch["input_ids"]
        # A decoder's tokenizer may add no special token: an empty text would have nothing to pool.
        blank = self.tokenizer.eos_token_id or 0
        ids = [i if i else [blank] for i in ids]
        return ids if self.rows is None else [self.rows[i].tolist() for i in ids]

    def collate(self, tokens: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Pad to the longest: ids and mask, int64 ``[B, T]``, on the encoder's device.

        Last-token pooling pads on the left, as decoders are trained.
        """
        longest = max(len(t) for t in tokens)
        pad = self.tokenizer.pad_token_id or 0
        pad = pad if self.rows is None else int(self.rows[pad])
        ids = np.full((len(tokens), longest), pad, dtype=np.int64)
        mask = np.zeros((len(tokens), longest), dtype=np.int64)
        for row, text in enumerate(tokens):
            where = slice(longest - len(text), None) if self.pooling == "last" else slice(0, len(text))
            ids[row, where] = text
            mask[row, where] = 1
        device = self.device
        return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)

    def forward(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """Unit vectors ``[B, D]``, float32."""
        states = self.backbone(input_ids=ids_BT, attention_mask=mask_BT).last_hidden_state
        return self._unit(states, mask_BT)

    def forward_views(self, ids_BT: Tensor, mask_BT: Tensor, view_layer: int) -> tuple[Tensor, Tensor]:
        """Unit vectors of the last layer and of layer ``view_layer`` (-1 is the last), both ``[B, D]``.

        One forward pass gives both. The head serves only the last layer it was trained for.
        """
        out = self.backbone(input_ids=ids_BT, attention_mask=mask_BT, output_hidden_states=True)
        view = pool(out.hidden_states[view_layer].float(), mask_BT, self.pooling)
        return self._unit(out.last_hidden_state, mask_BT), nn.functional.normalize(view, dim=-1)

    def token_states(self, ids_BT: Tensor, mask_BT: Tensor, layer: int = -1) -> Tensor:
        """Hidden states ``[B, T, D]`` of ``layer`` (-1: last, 0: embeddings), float32."""
        out = self.backbone(input_ids=ids_BT, attention_mask=mask_BT, output_hidden_states=True)
        states: Tensor = out.hidden_states[layer]
        return states.float()

    def _unit(self, states_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        # Pooling, head and norm in float32: bf16 has 8 bits, too few to rank neighbours.
        with torch.autocast(states_BTD.device.type, enabled=False):
            pooled = pool(states_BTD.float(), mask_BT, self.pooling)
            if self.head is not None:
                pooled = self.head(pooled.to(self.head[0].weight.dtype)).float()  # type: ignore[arg-type,union-attr]
            return nn.functional.normalize(pooled, dim=-1)
