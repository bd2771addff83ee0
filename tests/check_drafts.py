"""One film and drafts about it, for the unit tests of the checks."""

from dataclasses import replace
from datetime import UTC, date, datetime

import numpy as np

from pipeline.checks import CHECKS, run_checks
from pipeline.report import DraftReport, Language, Provenance, Verdict
from pipeline.study import ImageSet, InstanceRef, StudyImage
from pipeline.study_context import PatientIdentity, StudyContext

REF = InstanceRef("1.2.3", "1.2.3.4", "1.2.3.4.5")
WHEN = datetime(2026, 3, 4, 5, 6, tzinfo=UTC)
CONTEXT = StudyContext("1.2.3", PatientIdentity("P1", "", ("DOE^JANE",), date(1960, 1, 1), "F"), started=WHEN)
NOTHING = "No acute cardiopulmonary abnormality."


def film(view: str = "PA", spacing: tuple[float, float] | None = (0.2, 0.2)) -> StudyImage:
    """A frontal film of 2000 rows and 1600 columns: 400 by 320 mm at the default spacing."""
    return StudyImage(
        REF, 0, np.zeros((4, 4), np.float32), 2000, 1600, spacing, "DX", "CHEST", view, "MONOCHROME2"
    )


def draft(findings: str, impression: str, /, **changes: object) -> DraftReport:
    """A draft of the two sections, with nothing else in it."""
    made = DraftReport(
        study_instance_uid="1.2.3",
        language=Language.ENGLISH,
        findings_text=findings,
        impression_text=impression,
        findings=(),
        probabilities={},
        images=(REF,),
        provenance=Provenance("m", "1", "r", "torch", WHEN, WHEN),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def spoken(findings: str, impression: str, /, **changes: object) -> DraftReport:
    """A draft in the language that its Findings are written in: Chinese where they hold a letter beyond ASCII."""
    language = Language.ENGLISH if findings.isascii() else Language.CHINESE
    return draft(findings, impression, language=language, **changes)


def verdicts(
    made: DraftReport, *, image: StudyImage | None = None, has_prior: bool = False
) -> dict[str, Verdict]:
    """Every check that did not pass, by name."""
    images = ImageSet("1.2.3", (image or film(),))
    outcomes = run_checks(made, images, CONTEXT, has_prior=has_prior)
    assert [outcome.check for outcome in outcomes] == [name for name, _ in CHECKS]
    return {outcome.check: outcome.verdict for outcome in outcomes if outcome.verdict is not Verdict.PASSED}
