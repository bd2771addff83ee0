"""A network's tower and projector: the module that is exported, its graph, and the runner that really runs."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.encoder import TOLERANCE, Arrays, EncoderSource, VisionEncoder, export_encoder, open_encoder
from models.engine import EngineEncoder, open_engine
from models.families.native.networks import ChatNetwork
from models.graph_cache import ENCODER_FILE, Exported, GraphFolder, ensure_graphs
from pipeline.errors import StopRun

MOST_GRAPH_BYTES = 1_900_000_000
"""An ONNX file is one protobuf message of at most 2 GB. A larger tower (InternViT-6B) runs in torch."""
_HERE = Path(__file__).parent
SOURCES = (_HERE / "seeing.py", _HERE / "internvl_chat.py", _HERE.parents[1] / "encoder.py")


def tower_source(loaded: ChatNetwork) -> EncoderSource:
    """Tower and projector as one module: pixels [n, 3, S, S] to features [n, tokens, width]."""
    import torch

    class Tower(torch.nn.Module):
        def __init__(self, network: Any) -> None:
            super().__init__()
            self.network = network

        def forward(self, pixels: Any) -> Any:
            given = pixels.to(self.network.device, self.network.dtype)
            if self.network.config.model_type == "llava":
                # its own method lists the images one by one, which would fix their number in the graph
                config, inner = self.network.config, self.network.model
                layers = inner.vision_tower(given, output_hidden_states=True, return_dict=True).hidden_states
                chosen = layers[config.vision_feature_layer]
                first = config.vision_feature_select_strategy == "default"
                return (inner.multi_modal_projector(chosen[:, 1:] if first else chosen).float(),)
            features = self.network.get_image_features(pixel_values=given, return_dict=True).pooler_output
            return (features.float(),)

    example = example_pixels(loaded)
    return EncoderSource(Tower(loaded.network).eval(), {"pixels": example}, ("features",))


def example_pixels(loaded: ChatNetwork) -> NDArray[np.float32]:
    """A batch of two images of noise, prepared."""
    from PIL import Image

    generator = np.random.default_rng(0)
    images = [Image.fromarray(generator.integers(0, 256, (64, 64, 3), np.uint8), "RGB") for _ in range(2)]
    return np.asarray(loaded.processor(images=images, return_tensors="np")["pixel_values"], np.float32)


def tower_bytes(loaded: ChatNetwork) -> int:
    """Bytes of the tower and projector in float32."""
    parts = (loaded.network.model.vision_tower, loaded.network.model.multi_modal_projector)
    return sum(4 * parameter.numel() for part in parts for parameter in part.parameters())


def open_tower(
    loaded: ChatNetwork, model_id: str, cache: Path, require_runner: str, threads: int
) -> tuple[VisionEncoder, dict[str, str]]:
    """The encoder of a loaded network and the digests of its graph. Raises as ``open_source``."""
    source = tower_source(loaded)
    return open_source(source, tower_bytes(loaded), loaded, model_id, cache, SOURCES, require_runner, threads)


def open_source(
    source: EncoderSource,
    size: int,
    loaded: ChatNetwork,
    model_id: str,
    cache: Path,
    shaping: tuple[Path, ...],
    require_runner: str,
    threads: int,
) -> tuple[VisionEncoder, dict[str, str]]:
    """The best runner of ``source``, of ``size`` bytes, and the digests of its graph; ``shaping`` as in ensure_graphs.

    Raises StopRun where the graph is not the network's, or where ``require_runner`` cannot be had.
    """
    if size > MOST_GRAPH_BYTES and require_runner not in ("", "torch"):
        message = (
            f"the encoder of {model_id} is too large for an ONNX file and runs in torch, not {require_runner}"
        )
        raise StopRun("runner", message)
    if size > MOST_GRAPH_BYTES or require_runner == "torch":
        return TowerEncoder(source), {}
    graphs = ensure_source_graph(source, loaded, model_id, cache, shaping)

    def engine() -> EngineEncoder | None:
        return open_engine(graphs.folder, graphs.manifest.weights, "tensorrt")

    encoder = open_encoder(graphs.encoder, require_runner=require_runner, threads=threads, engine=engine)
    parts = {f"graph/{name}": digest for name, digest in graphs.manifest.graphs.items()}
    if isinstance(encoder, EngineEncoder):
        parts |= {"engine": encoder.manifest.engine_sha256, "precision": encoder.manifest.precision}
    return encoder, parts


def ensure_source_graph(
    source: EncoderSource, loaded: ChatNetwork, model_id: str, cache: Path, shaping: tuple[Path, ...]
) -> GraphFolder:
    """The exported graph of ``source`` under ``cache``. Raises StopRun where it is not the network's."""

    def export(folder: Path) -> Exported:
        return Exported(export_encoder(source, folder / ENCODER_FILE), TOLERANCE, None, {})

    return ensure_graphs(cache, model_id, loaded.files, shaping, export)


class TowerEncoder:
    """The tower in torch, on the network's own device."""

    runner = "torch"

    def __init__(self, source: EncoderSource) -> None:
        """Run ``source.module``."""
        self._source = source

    def encode(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """See ``models.encoder.VisionEncoder``."""
        import torch

        given = [torch.from_numpy(np.ascontiguousarray(inputs[name])) for name in self._source.inputs]
        with torch.inference_mode():
            (features,) = self._source.module(*given)
        return {"features": features.cpu().numpy()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return
