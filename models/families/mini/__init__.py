"""firstread-mini, the model that ships: a small generalist for chest films."""
