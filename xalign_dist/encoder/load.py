"""Load an encoder by name.

Weights are read from safetensors only, and code that comes with a model is never run.
"""

from __future__ import annotations

import contextlib
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from xalign_dist.config.model import EncoderConfig
from xalign_dist.encoder.adapt import adapt, attention_setting
from xalign_dist.encoder.builtin import PREFIX, parse_builtin
from xalign_dist.encoder.head import build_head, constrain, fits
from xalign_dist.encoder.layers import is_causal, position_padding
from xalign_dist.encoder.layout import Layout, read_layout
from xalign_dist.encoder.model import Encoder
from xalign_dist.encoder.pooling import Pooling
from xalign_dist.encoder.sources import local_directory
from xalign_dist.errors import ConfigError, ModelError

_TOKENIZER_FILES = ("tokenizer.json", "vocab.*", "*.model", "*.tiktoken", "tekken.json")


def load_encoder(
    spec: str, config: EncoderConfig | None = None, device: str | torch.device | None = None
) -> Encoder:
    """Load the encoder named by ``spec``, in evaluation mode and float32.

    What the directory says (pooling, head, length limit, prompts) holds unless ``config`` says
    otherwise: a pooling other than auto, non-empty prefixes, a lower ``max_tokens``.

    Args:
        spec: ``builtin:e5-small[?layers=N]``, a local directory (transformers or sentence-transformers
            layout), a URI of one, or a hub id.
        config: ``config.model`` is not read. None: the defaults.
        device: None: the GPU if there is one.

    Raises:
        ModelError: no such model, weights missing or damaged, or of a kind that cannot be used.
        ConfigError: flash attention without a GPU; a prefix that leaves a text no room.
        DependencyError: a package that the model or a setting needs is missing.
    """
    config = config or EncoderConfig(model=spec)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    layers = parse_builtin(spec) if spec.startswith(PREFIX) else None
    layout = read_layout(local_directory(spec))
    _require_files(layout.transformer, spec)
    backbone, tokenizer = _load_transformers(
        layout.transformer, spec, layers, attention_setting(config, device)
    )
    limits = [config.max_tokens, layout.max_tokens, _positions(backbone), int(tokenizer.model_max_length)]
    encoder = Encoder(
        adapt(backbone, config),
        tokenizer,
        pooling=_pooling(config, layout, backbone, spec),
        head=_head(config, layout, int(backbone.config.hidden_size), spec),
        max_tokens=min(limit for limit in limits if limit is not None),
        query_prefix=config.query_prefix or layout.query_prefix,
        passage_prefix=config.passage_prefix or layout.passage_prefix,
        source=layout.transformer,
    )
    _check_prefixes(encoder)
    if encoder.causal and encoder.pooling == "last":
        tokenizer.padding_side = "left"  # for those who load the saved model with other tools
    encoder.to(device)
    return encoder.eval()


def require_encoder(spec: str) -> None:
    """Raise early what :func:`load_encoder` would about the files of ``spec``; nothing is loaded.

    Raises:
        ModelError: no such model; its weights, settings or tokenizer are missing.
    """
    if spec.startswith(PREFIX):
        parse_builtin(spec)
    _require_files(read_layout(local_directory(spec)).transformer, spec)


def vector_width(spec: str, config: EncoderConfig | None = None) -> int:
    """Width D of the vectors of :func:`load_encoder`, from the model's settings: no weights are read.

    Raises:
        ModelError: no such model, or settings that cannot be read.
        ConfigError: a projection that does not fit the model's.
    """
    config, layout = config or EncoderConfig(model=spec), read_layout(local_directory(spec))
    _require_files(layout.transformer, spec)
    try:
        settings = json.loads((layout.transformer / "config.json").read_text("utf-8"))
        # Read here where it has its usual name: importing transformers takes longer than to mine what
        # is embedded already.
        width = settings.get("text_config", settings).get("hidden_size") or _hidden_size(layout.transformer)
    except (OSError, ValueError, AttributeError) as err:
        raise ModelError(f"{spec}: its config.json names no hidden_size ({err})", "fetch it again") from err
    head = _head(config, layout, width, spec)
    return next((m.out_features for m in reversed(head or ()) if isinstance(m, nn.Linear)), width)


def _hidden_size(directory: Path) -> int:
    from transformers import AutoConfig

    with _quiet():
        settings = AutoConfig.from_pretrained(directory, trust_remote_code=False)
    return int(settings.get_text_config().hidden_size)


def _check_prefixes(encoder: Encoder) -> None:
    for name, prefix in (("query", encoder.query_prefix), ("passage", encoder.passage_prefix)):
        if prefix and len(encoder.tokenizer(prefix)["input_ids"]) >= encoder.max_tokens:
            raise ConfigError(
                f"encoder.{name}_prefix alone fills encoder.max_tokens={encoder.max_tokens}: all texts would "
                "be cut to nothing",
                "raise encoder.max_tokens or shorten the prefix",
            )


def _require_files(directory: Path, spec: str) -> None:
    if not (directory / "config.json").exists():
        raise ModelError(f"{spec}: no config.json in {directory}", "give a model directory")
    if not any(directory.glob("*.safetensors")):
        other = sorted(p.name for p in directory.glob("*.bin"))
        found = f"only {', '.join(other)}" if other else "no weights"
        raise ModelError(
            f"{spec}: {found} in {directory}; weights are read from safetensors only",
            "convert it: AutoModel.from_pretrained(path).save_pretrained(path)",
        )
    if not any(True for pattern in _TOKENIZER_FILES for _ in directory.glob(pattern)):
        # transformers would make up an empty one.
        raise ModelError(f"{spec}: no tokenizer in {directory}", "save the model's tokenizer there too")


def _load_transformers(
    directory: Path, spec: str, layers: int | None, attention: dict[str, str]
) -> tuple[Any, Any]:
    from transformers import MODEL_MAPPING, AutoConfig, AutoModel, AutoTokenizer

    try:
        with _quiet():
            settings = AutoConfig.from_pretrained(directory, trust_remote_code=False)
            if getattr(settings, "is_encoder_decoder", False):
                raise ModelError(
                    f"{spec}: {settings.model_type} is an encoder with a decoder", "use one of them alone"
                )
            if layers is not None:
                settings.num_hidden_layers = layers
            model, report = AutoModel.from_pretrained(
                directory,
                config=settings,
                use_safetensors=True,
                dtype=torch.float32,
                trust_remote_code=False,
                output_loading_info=True,
                **attention,
                **_without_pooler(MODEL_MAPPING.get(type(settings), None)),
            )
            tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as err:
        reason = (str(err).strip() or type(err).__name__).splitlines()[0]
        raise ModelError(f"{spec}: cannot be loaded ({reason})", "fetch or save the model again") from err
    _check(model, tokenizer, report, spec)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return model, tokenizer


def _check(model: Any, tokenizer: Any, report: dict[str, Any], spec: str) -> None:
    """Refuse what transformers only warns of: weights made up at random, ids without a row."""
    missing = sorted(name for name in report["missing_keys"] if not name.startswith("pooler."))
    if missing:
        raise ModelError(
            f"{spec}: {len(missing)} weights are missing from its files, first {missing[0]}",
            "fetch or save the model again",
        )
    rows = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        raise ModelError(
            f"{spec}: its tokenizer has {len(tokenizer)} ids, its embedding matrix {rows} rows",
            "use the tokenizer that belongs to the model",
        )


def _without_pooler(model_class: Any) -> dict[str, bool]:
    """BERT's pooler is not used here: left out where the class can do without it."""
    if model_class is None or isinstance(model_class, tuple):
        return {}
    known = inspect.signature(model_class.__init__).parameters
    return {"add_pooling_layer": False} if "add_pooling_layer" in known else {}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' load report, which lists layers left out on purpose, and progress bars."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _positions(backbone: Any) -> int | None:
    limit = getattr(backbone.config, "max_position_embeddings", None)
    padding = position_padding(backbone)
    return limit if limit is None or padding is None else int(limit) - padding - 1


def _pooling(config: EncoderConfig, layout: Layout, backbone: Any, spec: str) -> Pooling:
    if config.pooling != "auto":
        return config.pooling
    if layout.pooling is not None:
        return layout.pooling
    if layout.pooling_said:
        raise ModelError(
            f"{spec}: its pooling ({layout.pooling_said}) is not one of mean, cls, last",
            "set encoder.pooling to the nearest of them",
        )
    return "last" if is_causal(backbone) else "mean"


def _head(config: EncoderConfig, layout: Layout, width: int, spec: str) -> nn.Sequential | None:
    """The directory's own head if it has one, else a fresh one."""
    if layout.head is None:
        return build_head(config.projection, width, config.projection_dim, config.orthogonal)
    first = layout.head[0]
    if not isinstance(first, nn.Linear) or first.in_features != width:
        raise ModelError(f"{spec}: its Dense module does not fit width {width}", "save the model again")
    if not fits(layout.head, config.projection, config.projection_dim):
        raise ModelError(
            f"{spec}: has a projection of another kind or width already",
            "set encoder.projection=none to go on with it as it is",
        )
    return constrain(layout.head) if config.orthogonal else layout.head
