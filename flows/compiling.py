"""``firstread models compile``: the encoder's graph and a TensorRT engine with its manifest."""

import json
import sys
from dataclasses import asdict

from flows import show as display
from models.compiling import compile_encoder
from pipeline.settings import Settings


def compile_model(
    settings: Settings, model: str, product: str, capability: str, precision: str, *, as_json: bool
) -> None:
    """Compile, and print the manifest. Raises ConfigurationError for a product or device that cannot be had."""
    cache = settings.data_dir / "engines"
    weights = settings.model.weights
    manifest = compile_encoder(
        model, cache, weights_dir=weights, product=product, capability=capability, precision=precision
    )
    if as_json:
        sys.stdout.write(json.dumps(asdict(manifest)) + "\n")
    else:
        display.rows_table(("key", "value"), [(key, str(value)) for key, value in asdict(manifest).items()])
