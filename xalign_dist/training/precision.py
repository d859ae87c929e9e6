"""The number format of training is the encoder's: one rule for both."""

from xalign_dist.encoder.precision import autocast_dtype

__all__ = ["autocast_dtype"]
