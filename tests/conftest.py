"""Makes the helper modules of this folder (``training_world`` and others) importable from every test."""
