"""Files: atomic writes, locks, schemas, paths of outputs."""
