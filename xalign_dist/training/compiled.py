"""`torch.compile` of an encoder's layers, as an option."""

from __future__ import annotations

from torch import nn

from xalign_dist.encoder import Encoder
from xalign_dist.encoder.layers import layer_stack
from xalign_dist.errors import ModelError


def compile_layers(encoder: Encoder, module: nn.Module) -> None:
    """Compile each transformer layer of ``encoder`` in place, and try ``module`` around it once.

    Layer by layer, because all of them share one compiled code, and because embeddings and pooling stay
    what they are. Shapes are dynamic: chunks differ in texts and in length. Random numbers are drawn as
    without compiling, so that dropout is the same, and the same in both encodings of cached gradients.
    State keeps its names.

    Raises:
        ModelError: the encoder has no stack of layers, or the compiler fails (it needs a C++ compiler on
            CPUs and Triton on GPUs).
    """
    from torch._dynamo.exc import TorchDynamoException  # imports for seconds

    layers = layer_stack(encoder.backbone)
    if layers is None:
        raise ModelError(
            f"{type(encoder.backbone).__name__} has no stack of layers to compile",
            "set training.compile=false",
        )
    for layer in layers:
        layer.compile(dynamic=True, options={"fallback_random": True})
    sample = encoder.full_ids(["one", "two"])
    ids = sample if encoder.rows is None else [encoder.rows[text].tolist() for text in sample]
    try:
        module(*encoder.collate([[*text, *text] for text in ids]))
    except TorchDynamoException as err:
        reason = (str(err).strip() or type(err).__name__).splitlines()[0]
        raise ModelError(
            f"torch.compile of {type(encoder.backbone).__name__} failed ({reason})",
            "install a C++ compiler (CPU) or Triton (GPU), or set training.compile=false",
        ) from err
