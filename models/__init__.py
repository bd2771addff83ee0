"""Neural models: networks, the simulator they learn from, training, families and weights."""
