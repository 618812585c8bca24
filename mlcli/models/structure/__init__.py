"""The structure of a network: its graph, layers, units, stages and receptive fields."""
