"""Files: images decoded and encoded, atomic writes, locks, schemas."""
