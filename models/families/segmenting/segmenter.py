"""A segmenter as a family: it is shown a whole volume, and answers with structures, their volumes and a mask.

As a drafting model it writes Findings of what it measured, in fixed words; no Impression.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import permutations
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.catalog import CatalogEntry
from models.families.segmenting.bundle import BundlePlan
from models.families.segmenting.bundle_windows import segment_bundle
from models.families.segmenting.folder import Fold, SegmenterFolder, load_network, read_folder
from models.families.segmenting.plans import Plan
from models.families.segmenting.resampling import Array
from models.families.segmenting.structures import structure
from models.families.segmenting.windows import Labels, Network, Running, segment
from models.families.towers import SHAPING, Tower, open_tower
from models.family import Answer, Features, Request, SeenImage, Task, Traits, unsupported
from models.model_choice import ModelChoice
from models.networks import dyn_unet, monai_layers, monai_nets, stu_net, unet
from models.runners.encoder import EncoderSource, VisionEncoder
from models.weight_loading.verified import fixed_pixels
from pipeline.errors import ConfigurationError, FailStudy, SkipStudy
from pipeline.report import Language, Segment
from pipeline.study import ImageSet, LeftOutReason, StudyVolume

INPUT, OUTPUT = "patch", "logits"
_HERE = Path(__file__)
_NETWORKS = (dyn_unet, monai_layers, monai_nets, stu_net, unet)
_SHAPING = (*(Path(str(one.__file__)) for one in _NETWORKS), *SHAPING)
_ANSWERING = tuple(
    _HERE.with_name(name)
    for name in ("bundle.py", "bundle_windows.py", "plans.py", "resampling.py", "segmenter.py", "windows.py")
)
_WORDS = {
    Language.ENGLISH: (
        "Automatic segmentation of one series. {found}.", "Nothing that the network knows was found",
        "{name} {volume} ml", "; ", " Not found: {absent}.", ", ",
    ),
    Language.CHINESE: (
        "对一个序列的自动分割。{found}。", "未发现该网络所识别的结构",
        "{name} {volume} ml", "；", "未发现：{absent}。", "、",
    ),
}  # fmt: skip


class SegmenterFamily:
    """nnU-Net's networks on the best runner of the machine; one volume at a time."""

    tasks = frozenset({Task.FINDINGS, Task.SEGMENT})
    languages = frozenset(Language)
    traits = Traits()

    def __init__(self, entry: CatalogEntry, told: SegmenterFolder, choice: ModelChoice, cache: Path) -> None:
        """Export what is not exported yet. Raises StopRun as ``open_tower``."""
        self.model_id, self.model_version = entry.id, entry.version
        self._plan, self._told = told.plan, told
        self._stack = ExitStack()
        parts: dict[str, str] = dict(told.shared)
        networks: list[Network] = []
        with ExitStack() as stack:
            for fold in told.folds:
                encoder, graphs = open_tower(
                    _tower(entry.id, told.plan, fold), cache, choice.require_runner, choice.threads
                )
                stack.enter_context(encoder)
                networks.append(_network(encoder))
                parts |= {
                    **fold.digests,
                    **{f"{fold.weights.parent.name}/{name}": one for name, one in graphs.items()},
                }
                self.runner = encoder.runner
            self._stack = stack.pop_all()
        self.parts = {
            **parts,
            "runner": self.runner,
            "orientation": told.orientation,
            **{f"source/{path.name}": _digest(path) for path in _ANSWERING},
        }
        self._running = Running(networks, told.mirrored, batch=2)

    def prepare(self, study: ImageSet) -> NDArray[np.float32]:
        """The volume as the network's windows are cut from it, [planes, rows, columns]. Raises as ``encode``."""
        volume = self._volume(study)
        return np.asarray(_turned(volume.values, volume.affine, self._told.orientation)[0], np.float32)

    def encode(self, studies: Sequence[ImageSet]) -> list[Features]:
        """Labels of each study's volume, on its own grid.

        Raises SkipStudy("not-accepted") for a study without a volume of the network's modality.
        """
        found = []
        for study in studies:
            volume = self._volume(study)
            labels = segment_volume(volume, self._told.orientation, self._plan, self._running)
            seen = tuple(
                SeenImage(one.ref, one.frame, one.original_rows, one.original_columns) for one in study.images
            )
            millilitres = abs(float(np.linalg.det(volume.affine[:3, :3]))) / 1000
            found.append(Features(seen, {"labels": labels, "millilitres": np.array([millilitres])}))
        return found

    def answer(self, features: Sequence[Features], requests: Sequence[Request]) -> list[Answer]:
        """See ``models.family.Family``: findings in words, or the segments and their mask."""
        return [self._answer(one, request) for one, request in zip(features, requests, strict=True)]

    def _answer(self, features: Features, request: Request) -> Answer:
        if request.task not in self.tasks:
            raise unsupported(self.model_id, request)
        labels, each = features.arrays["labels"], float(features.arrays["millilitres"][0])
        counts = np.bincount(labels.ravel(), minlength=max(self._plan.names) + 1)
        segments = tuple(
            _segment(number, name, int(counts[number]), each, request.language)
            for number, name in sorted(self._plan.names.items())
        )
        if request.target:
            segments = _only(segments, request.target)
            kept = np.zeros(len(counts), labels.dtype)
            kept[[one.number for one in segments]] = [one.number for one in segments]
            labels = kept[labels]
        text = findings_text(segments, request.language)
        if request.task is Task.FINDINGS:
            return Answer(text, truncated=False)
        return Answer(text, truncated=False, segments=segments, mask=labels)

    def _volume(self, study: ImageSet) -> StudyVolume:
        volume = study.volume
        if volume is None:
            raise SkipStudy(
                LeftOutReason.NOT_ACCEPTED, f"{self.model_id} segments a series of planes, and is shown none"
            )
        if volume.modality != self._plan.modality:
            raise SkipStudy(
                LeftOutReason.NOT_ACCEPTED,
                f"a series of {volume.modality}; this network was trained on {self._plan.modality}",
            )
        return volume

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def open_segmenter(entry: CatalogEntry, choice: ModelChoice, cache: Path) -> SegmenterFamily:
    """The family of a folder. Raises ConfigurationError for another kind of folder, StopRun for unsound weights."""
    if choice.precision not in ("auto", "fp32"):
        raise ConfigurationError("precision", f"{entry.id} runs in fp32: set model.precision to auto")
    return SegmenterFamily(entry, read_folder(choice.folder(entry)), choice, cache)


def segment_volume(
    volume: StudyVolume, orientation: str, plan: Plan | BundlePlan, running: Running
) -> Labels:
    """Labels on the grid of ``volume``, whichever way its planes lie."""
    turned, order, flips = _turned(volume.values, volume.affine, orientation)
    sides = np.linalg.norm(volume.affine[:3, :3], axis=0)
    spacing = [float(sides[axis]) for axis in order]
    if isinstance(plan, BundlePlan):
        found = segment_bundle(turned, spacing, plan, running)
    else:
        found = segment(turned, spacing, plan, running)
    back: Any = found[tuple(slice(None, None, step) for step in flips)].transpose(np.argsort(order))
    labels: Labels = np.ascontiguousarray(back)
    return labels


def findings_text(segments: Sequence[Segment], language: Language) -> str:
    """What was measured, in fixed words."""
    whole, nothing, one, between, absent, comma = _WORDS[language]
    there = [one.format(name=part.name, volume=f"{part.volume_ml:.0f}" if part.volume_ml >= 10 else
                        f"{part.volume_ml:.1f}") for part in segments if part.voxels]  # fmt: skip
    missing = [part.name for part in segments if not part.voxels]
    text = whole.format(found=between.join(there) or nothing)
    return text + (absent.format(absent=comma.join(missing)) if missing and there else "")


def _only(segments: Sequence[Segment], target: str) -> tuple[Segment, ...]:
    """The segments that are called ``target``. Raises FailStudy("no-such-structure") where none is."""
    wanted = target.strip().casefold()
    found = tuple(one for one in segments if wanted in (one.name.casefold(), one.label.casefold()))
    if not found:
        known = ", ".join(one.label for one in segments)
        raise FailStudy(
            "no-such-structure", f"this network does not segment {target!r} (it does: {known[:400]})"
        )
    return found


def _segment(number: int, name: str, voxels: int, each: float, language: Language) -> Segment:
    known = structure(name)
    return Segment(
        number, known.words[language], round(voxels * each, 3), voxels, name, known.code, known.side
    )


def _turned(
    values: NDArray[np.generic], affine: NDArray[np.float64], orientation: str
) -> tuple[NDArray[np.generic], tuple[int, ...], tuple[int, ...]]:
    """A view whose planes count to the head, rows and columns as ``orientation`` says; order of its axes, its steps.

    Each axis goes to another of the patient's, so that together they are nearest.
    """
    sides = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    # of the axes of the array, those that run along z, y and x of the patient
    order = max(
        permutations(range(3)), key=lambda axes: sum(abs(sides[2 - at, axis]) for at, axis in enumerate(axes))
    )
    wanted = (1, 1, 1) if orientation == "LPS" else (1, -1, -1)
    flips = tuple(1 if sides[2 - at, axis] * wanted[at] >= 0 else -1 for at, axis in enumerate(order))
    turned = values.transpose(order)[tuple(slice(None, None, step) for step in flips)]
    return turned, order, flips


def _tower(model_id: str, plan: Plan | BundlePlan, fold: Fold) -> Tower:
    def source() -> EncoderSource:
        pattern = fixed_pixels((2, 1, *plan.patch)) * np.float32(2) - np.float32(1)
        return EncoderSource(load_network(plan, fold), {INPUT: pattern}, (OUTPUT,))

    size = fold.weights.stat().st_size
    return Tower(model_id, _plain(fold.digests), _SHAPING, source, source, size, convolving=True)


def _plain(digests: Mapping[str, str]) -> dict[str, str]:
    """Digests by the name of the file alone: the same network in another fold has the same graph."""
    return {name.rpartition("/")[2]: digest for name, digest in digests.items()}


def _network(encoder: VisionEncoder) -> Network:
    def run(windows: Array) -> Array:
        logits: Array = encoder.encode({INPUT: windows})[OUTPUT]
        if not np.isfinite(logits).all():
            raise FailStudy("segmentation", "the network's answer is not finite; look at the model")
        return logits

    return run


def _digest(path: Path) -> str:
    from models.weight_loading.verified import file_digest

    return file_digest(path)
