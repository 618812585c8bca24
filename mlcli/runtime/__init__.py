"""Where and how to compute: device and precision, several processes, signals."""
