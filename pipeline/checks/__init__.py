"""Checks every draft passes before it is stored (docs/design.md#checks).

Hard problems (failed) keep the draft from being stored as a report; soft ones (warned) are stored and shown.

    check          failed                                              warned
    sections       a section is empty, wordless or absurdly long       no impression was written (a model of
                                                                       findings only)
    truncated      the model was cut off                               the impression ends without a full stop
    repetition     a sentence three times, a looping phrase            a sentence twice
    language       other language or script than asked for             a few letters of another script
    residue        prompt markers, links, refusals, odd characters     -
    contradiction  stated and denied; "normal" with an acute finding   impression finding not in findings, or of
                                                                       another zone or size
    laterality     sides differ; the region is on the other side       one of two sides dropped; a side or structure
                                                                       that findings do not name; region mostly
                                                                       across, or on an image of unknown view
    comparison     an earlier study is compared with, none was given   words of change over time
    measurement    a length without pixel spacing or beyond the image; a length of zero
                   CT numbers on a projection
    body-part      another body part or modality, a view not shown     -
    region         a box outside its image or on an unseen image       -
    demographics   age or sex against the header                       age or sex the header does not carry
    classifier     -                                                   sure of the opposite (see support.py)
    images         -                                                   an image of the study could not be read
    supported      -                                                   a present finding resting on no image or
                                                                       given text
    segmented      -                                                   a structure that a segmentation beside the
                                                                       draft did not find is described
    leak           the model was given a report of this very study     it was given a text in the form of a report

Advice ("CT is advised") is no claim: such sentences are read for earlier studies and lengths only.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from pipeline.checks import comparison, consistency, form, support
from pipeline.checks.evidence import Check, Evidence, read_evidence
from pipeline.checks.segmented import segmented
from pipeline.errors import FailStudy
from pipeline.report import CheckOutcome, DraftReport, Verdict
from pipeline.study import ImageSet
from pipeline.study_context import StudyContext

CHECKS: Final[tuple[tuple[str, Check], ...]] = (
    ("sections", form.sections),
    ("truncated", form.truncated),
    ("repetition", form.repetition),
    ("language", form.language),
    ("residue", form.residue),
    ("contradiction", consistency.contradiction),
    ("laterality", consistency.laterality),
    ("comparison", comparison.comparison),
    ("measurement", support.measurement),
    ("body-part", support.body_part),
    ("region", support.region),
    ("demographics", support.demographics),
    ("classifier", support.classifier),
    ("images", support.images),
    ("supported", support.supported),
    ("leak", support.leak),
)
"""Every check by name, in the order in which they are run and shown."""
MEASURED_ON_FILMS: Final = frozenset({"contradiction", "laterality", "body-part"})
"""Checks by words and views of the chest: of other kinds of images the report says that they were not made."""

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
_SEVERITY = {Verdict.PASSED: 0, Verdict.WARNED: 1, Verdict.FAILED: 2}


def run_checks(
    draft: DraftReport,
    image_set: ImageSet,
    context: StudyContext,
    *,
    has_prior: bool = False,
    given: Mapping[str, str] = _NOTHING,
    unseen: Sequence[str] = (),
) -> tuple[CheckOutcome, ...]:
    """Run every check on ``draft``; one outcome each, in the order of ``CHECKS``, then ``segmented`` where it applies.

    ``has_prior`` says that the model was given an earlier study, ``given`` are the texts that it was given, by name,
    and ``unseen`` those that it may not have seen: reports of this study. Messages are made of our own words: they
    hold no report text and no identifiers. Never raises, whatever the text.
    """
    evidence = read_evidence(draft, image_set, context, has_prior, given, unseen)
    made = tuple(
        _outcome(name, check, evidence)
        if image_set.chest or name not in MEASURED_ON_FILMS
        else CheckOutcome(name, Verdict.WARNED, "not checked for this kind of image")
        for name, check in CHECKS
    )
    return made + segmented(draft)


def refuse_if_failed(outcomes: Iterable[CheckOutcome]) -> None:
    """Raise FailStudy("check-failed") naming the hard checks that failed; give nothing when none did."""
    names = [outcome.check for outcome in outcomes if outcome.verdict is Verdict.FAILED]
    if names:
        raise FailStudy(
            "check-failed", f"the draft failed {', '.join(names)}; a person has to report this study"
        )


def _outcome(name: str, check: Check, evidence: Evidence) -> CheckOutcome:
    problems = list(dict.fromkeys(check(evidence)))
    worst = max((problem.verdict for problem in problems), key=_SEVERITY.__getitem__, default=Verdict.PASSED)
    return CheckOutcome(name, worst, "; ".join(problem.message for problem in problems))
