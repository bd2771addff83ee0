"""The manifest that decides whether a study is drafted anew: the films that a model may see, the patient and the order.

What else is filed in a study (a report as PDF, a structured report, a segmentation, a secondary capture) changes
nothing of a draft and is counted in the completeness alone. A key object that rejects images (PS3.3 C.17.6, PS3.16
CID 7011) or a presentation state (PS3.3 C.11.10) does change it.
"""

import hashlib
from dataclasses import dataclass

from pipeline.accepts import FILMS_ALONE, StudyReader
from pipeline.images.admission import accepting
from pipeline.images.choose import Candidate
from pipeline.images.context import study_context
from pipeline.images.headers import text
from pipeline.images.orientation import PRESENTATION_STATE
from pipeline.images.prepare import StudyHeaders
from pipeline.images.rejection import rejection_of
from pipeline.images.selection import judge_all
from pipeline.images.trust import HEADERS_ALONE, SiteTrust
from pipeline.study import FetchedStudy, digest_lines


@dataclass(frozen=True, slots=True)
class FilmManifest:
    """How many instances of a study a model may see, and a SHA-256 (hex) over all that a draft can rest on."""

    films: int
    digest: str


def film_manifest(
    study: FetchedStudy,
    read: StudyHeaders,
    reader: StudyReader = FILMS_ALONE,
    *,
    trust: SiteTrust = HEADERS_ALONE,
) -> FilmManifest:
    """The manifest of ``study`` by its headers: its films, and what else ``reader`` accepts.

    Raises FailStudy("mixed-patients").

    A file that cannot be read counts, since it may be a film; so does a gap, which the report states.
    """
    _ = read.remarks  # whose study it is
    hashes = {held.ref.sop_instance_uid: held.sha256 for held in study.held}
    films, lines = 0, [f"missing {uid}" for uid in study.missing]
    lines += [f"unusable {one.sop_instance_uid} {one.code}" for one in read.left_out]
    for header, verdict in judge_all(read.headers, laterals=reader.laterals, trust=trust):
        uid = text(header.dataset, "SOPInstanceUID")
        if isinstance(verdict, Candidate):
            films += 1
            lines.append(f"film {uid} {hashes.get(uid, '')}")
        elif accepting(header.dataset, reader.accepts):
            lines.append(f"shown {uid} {hashes.get(uid, '')}")
        elif rejection_of(header):
            lines.append(f"rejects {uid} {hashes.get(uid, '')}")
        elif text(header.dataset, "SOPClassUID") == PRESENTATION_STATE:
            lines.append(f"presents {uid} {hashes.get(uid, '')}")
    context = study_context(study.study_instance_uid, list(read.headers))
    told = (context.patient, context.accession_number, context.accession_issuer, context.indication,
            context.procedure_codes)  # fmt: skip
    lines.append(f"told {hashlib.sha256(repr(told).encode('utf-8', 'surrogatepass')).hexdigest()}")
    return FilmManifest(films, digest_lines(lines))
