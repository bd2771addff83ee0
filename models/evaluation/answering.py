"""Asking a family every case of a data set, with a guard that the reference never reaches it."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict

import numpy as np
from PIL import Image

from models.batches import answer_each, encode_each
from models.drafting.tasks import NO_FEATURES, check_family
from models.evaluation.areas import ScoresOf
from models.evaluation.cases import Case
from models.evaluation.predictions import Prediction
from models.evaluation.report_labels import REPORTS
from models.family import TEXT_TASKS, Answer, Family, Features, Request, Task, traits_of
from pipeline.errors import ConfigurationError, FirstreadError
from pipeline.reference_leakage import EARLIER, holds_report
from pipeline.report import Region
from pipeline.study import ImageSet, InstanceRef, StudyImage

SHARING = frozenset({"text", EARLIER})
"""Given texts that are meant to share sentences with a reference: the findings to summarise, and an earlier report."""


def request_of(case: Case, context: Collection[str]) -> Request:
    """The request of a case, with the fields of its context named in ``context``.

    Raises ConfigurationError("reference-leak") where it holds the reference.
    """
    refuse_leak(case)
    region = None if case.region is None else Region(_ref(case, 0), 0, *case.region)
    return Request(
        task=case.task,
        language=case.language,
        question=case.question,
        region=region,
        labels=case.labels,
        options=case.options,
        target=case.target,
        text=case.text,
        schema=case.schema,
        context=case.context.only(context),
    )


def refuse_leak(case: Case) -> None:
    """Raise ConfigurationError if a text given to the model holds the reference (``pipeline.reference_leakage``).

    Whole or a section of it in any text; a long run of its words too, but in ``SHARING``.
    """
    given = {"question": case.question, "target": case.target, "text": case.text, **asdict(case.context)}
    for name, text in given.items():
        if holds_report(text, case.reference.text, parts=name not in SHARING):
            message = (
                f"case {case.id!r}: its {name} holds the reference, which the model would only have to copy; "
                "take it out of the data set"
            )
            raise ConfigurationError("reference-leak", message)


def predict(
    family: Family, cases: Sequence[Case], *, batch: int = 1, progress: Callable[[int], None] | None = None
) -> tuple[list[Prediction], dict[str, str]]:
    """An answer for each case, in order, and the code of the error of each that could not be asked.

    Up to ``batch`` cases are encoded and answered together; where that fails each is asked alone, so that one case
    takes no other down. A case that cannot be asked is scored as an empty answer. ``progress`` hears how many are
    done. The family is given the context that its wordings hold, as when it drafts.

    Raises ConfigurationError for a leak, and for a task or language that the family lacks, before any case is asked.
    """
    requests = [request_of(case, traits_of(family).context) for case in cases]
    for request in requests:
        check_family(family, request)
    predictions, failures = [], {}
    for start in range(0, len(cases), batch):
        part = cases[start : start + batch]
        answers = _answer(family, part, requests[start : start + batch])
        for case, answer in zip(part, answers, strict=True):
            if isinstance(answer, Answer):
                predictions.append(_prediction(case, answer))
            else:
                failures[case.id] = answer.code
                predictions.append(Prediction(case.id))
        if progress is not None:
            progress(len(predictions))
    return predictions, failures


def _answer(
    family: Family, cases: Sequence[Case], requests: Sequence[Request]
) -> list[Answer | FirstreadError]:
    encoded = _encode(family, cases)
    pairs = [(one, asked) for one, asked in zip(encoded, requests, strict=True) if isinstance(one, Features)]
    answers = iter(answer_each(family, [one for one, _ in pairs], [asked for _, asked in pairs]))
    return [next(answers) if isinstance(one, Features) else one for one in encoded]


def _encode(family: Family, cases: Sequence[Case]) -> list[Features | FirstreadError]:
    """Features of each case, or why there are none; those of a case of text alone are empty."""
    shown = [study_of(case) for case in cases if case.images]
    encoded = iter(encode_each(family, shown))
    return [next(encoded) if case.images else NO_FEATURES for case in cases]


def scores_of(family: Family) -> ScoresOf:
    """What the family's scores of labels hang on."""
    return ScoresOf.SET if traits_of(family).among_labels else ScoresOf.LABEL


def study_of(case: Case) -> ImageSet:
    """The images of a case at their own size, so that regions are in pixels of the files."""
    images = []
    for index, (path, view) in enumerate(zip(case.images, case.views, strict=True)):
        try:
            with Image.open(path, formats=("PNG", "JPEG")) as opened:
                wide = opened.mode.startswith("I")
                pixels = np.asarray(opened if wide else opened.convert("L"), np.float32)
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            message = f"case {case.id!r}: {path.name} is no PNG or JPEG that can be read; replace it"
            raise ConfigurationError("bad-data-set", message) from error
        pixels = np.ascontiguousarray(np.clip(pixels / (65535 if wide else 255), 0, 1))
        rows, columns = pixels.shape
        ref = _ref(case, index)
        images.append(StudyImage(ref, 0, pixels, rows, columns, None, "DX", "CHEST", view, "MONOCHROME2"))
    return ImageSet(images[0].ref.study_instance_uid, tuple(images))


def _prediction(case: Case, answer: Answer) -> Prediction:
    first = _ref(case, 0) if case.images else None
    regions = [p.region for p in answer.places if p.region is not None and p.region.ref == first]
    points = [p.point for p in answer.places if p.point is not None and p.point.ref == first]
    return Prediction(
        case.id,
        answer.structured or answer.text,
        tuple(label.name for label in answer.labels if label.chosen),
        tuple((box.x0, box.y0, box.x1, box.y1) for box in regions),
        tuple((point.x, point.y) for point in points),
        _scores(case, answer),
    )


def _scores(case: Case, answer: Answer) -> dict[str, float]:
    """The probabilities that the model gave with the answer: of the labels asked about, or of its own kinds."""
    if case.task is Task.CLASSIFY:
        return {one.name: one.probability for one in answer.labels if one.probability is not None}
    return dict(answer.probabilities) if case.task in REPORTS - TEXT_TASKS else {}


def _ref(case: Case, index: int) -> InstanceRef:
    return InstanceRef(f"case:{case.id}", f"case:{case.id}:1", f"case:{case.id}:1:{index + 1}")
