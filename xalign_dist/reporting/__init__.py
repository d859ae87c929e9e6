"""What a person gets to read: report, model card, console tables."""
