"""``firstread models compile``: the encoder's graph and a TensorRT engine with its manifest."""

import json
import sys
from dataclasses import asdict

from flows.commands import table as display
from flows.environment.site_models import chosen_model
from models.catalog import show
from models.compiling import CompileOptions, compile_encoder
from pipeline.settings import Settings


def compile_model(settings: Settings, model: str, order: CompileOptions, *, as_json: bool) -> None:
    """Compile, and print the manifest of each engine; ``model`` as ``chosen_model`` takes it.

    Raises ConfigurationError for a product or device that cannot be had, StopRun for unsound weights.
    """
    choice, cache = chosen_model(settings, model), settings.data_dir / "engines"
    manifests = [asdict(one) for one in compile_encoder(show(choice.id), choice, cache, order)]
    if as_json:
        sys.stdout.write(json.dumps({"engines": manifests}) + "\n")
        return
    for manifest in manifests:
        display.rows_table(("key", "value"), [(key, str(value)) for key, value in manifest.items()])
