"""Models by name: architectures, files of weights, graphs and layers."""
