"""Training and evaluation of the default model. Nothing here is needed to draft reports."""
