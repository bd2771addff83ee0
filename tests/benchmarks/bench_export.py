"""Export and compile a tower that no single ONNX file can hold: Uni-Med's ViT-G with its connector, random weights.

    python -m tests.benchmarks.bench_export [--layers 39] [--no-engine]

39 layers are the published tower (1.0 billion parameters). Prints the seconds and the peak of resident memory after
each step, the sizes of the files and the relative error against torch. The engine takes nearly four times the weights'
bytes in memory.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

from models.families.uni_med.export import encoder_source
from models.networks.eva_vit import EvaConfig
from models.networks.uni_med import UniMedConfig, UniMedEncoder
from models.runners.encoder import APART_BYTES, export_encoder
from models.runners.engine_building import EngineOrder, build_engine
from models.runners.graph_cache import ENCODER_FILE


class _Steps:
    """Prints what a step took."""

    def __init__(self) -> None:
        self._started = time.perf_counter()

    def done(self, name: str) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(f"{name:<34}{time.perf_counter() - self._started:8.1f} s{peak:8.1f} GB peak", flush=True)
        self._started = time.perf_counter()


def main() -> None:
    """Run the steps."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, default=39)
    parser.add_argument("--no-engine", action="store_true", help="export alone")
    asked = parser.parse_args()
    steps = _Steps()
    source = encoder_source(UniMedEncoder(UniMedConfig(vision=EvaConfig(layers=asked.layers))).eval())
    steps.done(f"weights in memory ({source.size / 1e9:.2f} GB)")
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / ENCODER_FILE
        error = export_encoder(source, graph)
        steps.done(f"exported, error {error:.1e}")
        for path in sorted(graph.parent.iterdir()):
            print(f"  {path.name}: {path.stat().st_size / 1e9:.3f} GB")
        apart = "beside the graph" if source.size > APART_BYTES else "in the graph"
        print(f"  weights {apart}")
        if not asked.no_engine:
            order = EngineOrder("uni-med", "tensorrt_rtx", "8.9", graph_error=error, largest_batch=8)
            manifest = build_engine(graph, graph.parent / "engine", order, {})
            steps.done(f"engine by {manifest.product}")


if __name__ == "__main__":
    main()
