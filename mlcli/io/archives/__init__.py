"""Archives of images, read in place: an index of the members of each, and their bytes on demand."""
