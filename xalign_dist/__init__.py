"""Cross-lingual semantic alignment at scale: from noisy multilingual text to an aligned encoder."""

__version__ = "0.1.0"
