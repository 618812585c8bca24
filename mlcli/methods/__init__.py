"""One file per method of the literature: the mathematics and its step; never prints."""
