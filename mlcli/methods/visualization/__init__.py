"""What a network has learned, made visible."""
