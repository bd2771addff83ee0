"""The adapters, one for each kind of model, behind the port ``models.family``. ``registry`` finds and opens them."""
