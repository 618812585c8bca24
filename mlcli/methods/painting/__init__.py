"""Images painted by means of a network or of another image."""
