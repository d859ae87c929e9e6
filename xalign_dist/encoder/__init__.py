"""Backbones, pooling, heads; load, trim, embed, save."""

from xalign_dist.encoder.embed import Embedder, embed_texts, embed_views
from xalign_dist.encoder.load import load_encoder, require_encoder
from xalign_dist.encoder.model import Encoder
from xalign_dist.encoder.save import save_encoder
from xalign_dist.encoder.vocabulary import restore_vocabulary, trim_vocabulary

__all__ = [
    "Embedder",
    "Encoder",
    "embed_texts",
    "embed_views",
    "load_encoder",
    "require_encoder",
    "restore_vocabulary",
    "save_encoder",
    "trim_vocabulary",
]
