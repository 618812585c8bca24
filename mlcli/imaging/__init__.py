"""Images: decoded from files with their colors managed, and encoded."""
