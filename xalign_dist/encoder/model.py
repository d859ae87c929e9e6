"""The encoder: tokenizer, backbone, pooling, head; texts in, unit vectors out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from xalign_dist.encoder.layers import forward_options, is_causal, layer_state, resolve_layer
from xalign_dist.encoder.pooling import Pooling, pool
from xalign_dist.records import Int64

Bool = npt.NDArray[np.bool_]
Side = Literal["query", "passage"]


@dataclass(frozen=True)
class TrimmedVocabulary:
    """What a trimmed encoder knows of its full vocabulary.

    Attributes:
        kept_R: full id of each embedding row, ascending.
        rows_V: row of each full id; ids that were not kept share the unknown token's row.
        full_VD: the whole matrix as it was, on the CPU; mapped from the model's file where possible,
            and then it takes no memory until it is read.
    """

    kept_R: Int64
    rows_V: Int64
    full_VD: Tensor


class Encoder(nn.Module):
    """A transformers backbone with pooling and an optional head.

    Attributes:
        tokenizer: of transformers; its ids are those of the full vocabulary.
        backbone: the transformers model, or its LoRA wrapper.
        pooling: mean, cls or last.
        head: Linear layers and activations after pooling; None: the pooled state is the vector.
        max_tokens: longer texts are cut, special tokens included.
        query_prefix, passage_prefix: put before the texts of a side.
        causal: tokens see only what stands before them.
        trimmed: set while the vocabulary is trimmed. Neither parameter nor buffer: it is neither
            trained nor part of ``state_dict``.
        source: the directory that the weights came from; None: unknown.
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
        source: Path | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.tokenizer = tokenizer
        self.pooling: Pooling = pooling
        self.max_tokens = max_tokens
        self.query_prefix, self.passage_prefix = query_prefix, passage_prefix
        self.causal = is_causal(backbone)
        self.trimmed: TrimmedVocabulary | None = None
        self.source = source
        self._options = forward_options(backbone)

    @property
    def dim(self) -> int:
        """Width D of the vectors."""
        for part in reversed(self.head or ()):
            if isinstance(part, nn.Linear):
                return part.out_features
        return int(self.backbone.config.hidden_size)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def rows(self) -> Int64 | None:
        """Full-vocabulary id -> row of the embedding matrix, ``[V]``; None: not trimmed."""
        return None if self.trimmed is None else self.trimmed.rows_V

    def tokenize(self, texts: Sequence[str], *, side: Side = "query") -> list[list[int]]:
        """Token ids of each text, cut at ``max_tokens``, special tokens included, none empty.

        Ids are rows of the (possibly trimmed) embedding matrix.
        """
        ids = self.full_ids(texts, side=side)
        rows = self.rows
        return ids if rows is None else [rows[i].tolist() for i in ids]

    def full_ids(self, texts: Sequence[str], *, side: Side = "query") -> list[list[int]]:
        """As :meth:`tokenize`, in ids of the full vocabulary."""
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
        # A decoder's tokenizer may add no special token: an empty text would have nothing to pool.
        blank = [special_id(self.tokenizer, "eos", "bos", "pad", "unk")]
        return [ids or blank for ids in batch["input_ids"]]

    def says_nothing(self, ids: Sequence[Sequence[int]], *, side: Side = "query") -> Bool:
        """Which texts have no token of their own, bool ``[N]``: only special or unknown ones and the prefix.

        ``ids`` are of :meth:`full_ids`.
        """
        special = set(self.tokenizer.all_special_ids)

        def content(text: Sequence[int]) -> list[int]:
            return [i for i in text if i not in special]

        blank = content(self.full_ids([""], side=side)[0])
        return np.array([content(text) in ([], blank) for text in ids], dtype=bool)

    def collate(self, tokens: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Pad to the longest: ids and mask, int64 ``[B, T]``, on the encoder's device.

        Decoders with last-token pooling are padded on the left, as they are trained; others on
        the right.
        """
        longest = max(len(t) for t in tokens)
        pad = special_id(self.tokenizer, "pad")
        pad = pad if self.rows is None else int(self.rows[pad])
        ids = np.full((len(tokens), longest), pad, dtype=np.int64)
        mask = np.zeros((len(tokens), longest), dtype=np.int64)
        for row, text in enumerate(tokens):
            where = slice(longest - len(text), None) if self._pads_left else slice(0, len(text))
            ids[row, where] = text
            mask[row, where] = 1
        device = self.device
        return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)

    def forward(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """Unit vectors ``[B, D]``, float32."""
        states_BTH = self.backbone(**self._inputs(ids_BT, mask_BT)).last_hidden_state
        return self._unit(states_BTH, mask_BT)

    def forward_views(self, ids_BT: Tensor, mask_BT: Tensor, view_layer: int) -> tuple[Tensor, Tensor]:
        """Unit vectors ``[B, D]``, and those of the pooled states of an earlier layer ``[B, H]``.

        One pass gives both. ``view_layer`` counts from the last (-1) or from the embeddings (0). The
        head takes no part in the second view: it was trained for the last layer.

        Raises:
            ModelError: there is no such layer.
        """
        layer = resolve_layer(self.backbone, view_layer)
        last_BTH, view_BTH = layer_state(self.backbone, self._inputs(ids_BT, mask_BT), layer, stop=False)
        assert last_BTH is not None
        view_BH = pool(view_BTH.float(), mask_BT, self.pooling)
        return self._unit(last_BTH, mask_BT), nn.functional.normalize(view_BH, dim=-1)

    def token_states(self, ids_BT: Tensor, mask_BT: Tensor, layer: int = -1) -> Tensor:
        """Hidden states ``[B, T, H]`` after ``layer`` (-1: last, 0: embeddings), float32.

        Layers above it are not run.

        Raises:
            ModelError: there is no such layer.
        """
        index = resolve_layer(self.backbone, layer)
        return layer_state(self.backbone, self._inputs(ids_BT, mask_BT), index, stop=True)[1].float()

    @property
    def _pads_left(self) -> bool:
        return self.causal and self.pooling == "last"

    def _inputs(self, ids_BT: Tensor, mask_BT: Tensor) -> dict[str, Any]:
        inputs: dict[str, Any] = {"input_ids": ids_BT, "attention_mask": mask_BT}
        if "use_cache" in self._options:
            inputs["use_cache"] = False
        if self._pads_left and "position_ids" in self._options:
            # Else positions count the padding, and a text's vector moves with its neighbours' lengths.
            inputs["position_ids"] = (mask_BT.cumsum(1) - 1).clamp(min=0)
        return inputs

    def _unit(self, states_BTH: Tensor, mask_BT: Tensor) -> Tensor:
        # Pooling, head and norm in float32: bf16 has 8 bits, too few to rank neighbours.
        with torch.autocast(states_BTH.device.type, enabled=False):
            vectors = pool(states_BTH.float(), mask_BT, self.pooling)
            if self.head is not None:
                # An engine may hold all weights in bf16, the head's too.
                vectors = self.head(vectors.to(next(self.head.parameters()).dtype)).float()
            return nn.functional.normalize(vectors, dim=-1)


def special_id(tokenizer: Any, *names: str) -> int:
    """The first special token (bos, eos, pad, unk) of ``names`` that the tokenizer has; 0: it has none."""
    for name in names:
        token = getattr(tokenizer, f"{name}_token_id")
        if token is not None:
            return int(token)
    return 0
