"""What the method is compared with: static vectors, fixed-temperature InfoNCE, the encoder as it came."""
