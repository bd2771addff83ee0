"""C-FIND (PS3.4 C.4.1): rows of one query over one association, in whichever information model the archive offers."""

import time
from collections.abc import Mapping, MutableMapping
from types import TracebackType
from typing import Self

from pipeline.archive.dimse import statuses
from pipeline.archive.dimse.association import Association
from pipeline.archive.dimse.command import C_FIND_RQ, Command, decode_identifier, encode_identifier
from pipeline.archive.dimse.information_model import FIND, LEVEL, PATIENT, STUDY, chosen, needs_patient
from pipeline.archive.dimse.proposals import associate, plain_contexts
from pipeline.archive.passed_over import PassedOver
from pipeline.archive.study_answers import decode_texts
from pipeline.archive.uids import clean_uid
from pipeline.errors import FailStudy, RetryLater
from pipeline.setting_archives import DimseArchive

_LONGEST_PAUSE = 5.0
"""Seconds after which an idle association is renewed: archives drop idle ones without a word."""
_REFUSED = ("archive-refused", "archive-error")
_MATCHING_SIGNS = frozenset("*?\\")

Keys = Mapping[int, tuple[str, str]]
Row = dict[int, bytes]


class Queries:
    """C-FIND requests over one association, which is opened when first needed and renewed after a pause.

    ``patients`` is given the Patient ID of each study that an archive with Patient Root alone lists: whoever asks for
    such a study has to name it.
    """

    def __init__(
        self, settings: DimseArchive, passed_over: PassedOver, patients: MutableMapping[str, str]
    ) -> None:
        self._settings = settings
        self.passed_over = passed_over
        self._patients = patients
        self._everybody: list[str] | None = None
        self._association: Association | None = None
        self._used = 0.0

    def rows(self, keys: Keys) -> list[Row]:
        """Every pending identifier of one C-FIND below the study. Raises for any final status but success."""
        if self._by_patient():
            study = keys[STUDY][1]
            if study not in self._patients:
                self.studies({LEVEL: ("CS", "STUDY"), STUDY: ("UI", study)})
            keys = {**keys, PATIENT: ("LO", self._patients.get(study, ""))}
        rows, cut = self._listed(keys)
        if cut:
            raise RetryLater(
                "archive-too-many", "the archive cut a query short: raise its limit of query results"
            )
        return rows

    def studies(self, keys: Keys) -> tuple[list[Row], bool]:
        """The studies that match, and whether the archive said that there are more.

        With Patient Root alone one question asks for the studies of all patients, which many archives answer; else they
        are asked for patient by patient.
        """
        if not self._by_patient():
            return self._listed(keys)
        keys = {PATIENT: ("LO", ""), **keys}
        refusal: FailStudy | RetryLater | None = None
        rows: list[Row] = []
        cut = False
        try:
            rows, cut = self._listed(keys)
        except (FailStudy, RetryLater) as error:
            if error.code not in _REFUSED or keys[PATIENT][1]:
                raise
            refusal = error
        if not rows and not keys[PATIENT][1]:
            rows, cut = self._of_each_patient(keys, refusal)
        for row in rows:
            patient = keys[PATIENT][1] or _patient_of(row)
            self._patients[clean_uid(row.get(STUDY, b""))] = patient
        return rows, cut

    def _of_each_patient(self, keys: Keys, refusal: FailStudy | RetryLater | None) -> tuple[list[Row], bool]:
        """The studies patient by patient (PS3.4 C.4.1.2.2.1: above the level asked for a unique key stands)."""
        if self._everybody is None:
            try:
                rows, cut = self._listed({LEVEL: ("CS", "PATIENT"), PATIENT: ("LO", "")})
            except (FailStudy, RetryLater) as error:
                if error.code not in _REFUSED:
                    raise
                if refusal is not None:
                    raise refusal from None
                return [], False
            if cut:
                raise RetryLater(
                    "archive-too-many", "the archive cut its list of patients: raise its limit of results"
                )
            self._everybody = sorted({_patient_of(row) for row in rows} - {""})
        found: list[Row] = []
        any_cut = False
        for patient in self._everybody:
            if _MATCHING_SIGNS & set(patient) or not patient.isascii():
                self.passed_over.add("patient-not-searchable")
                continue
            rows, cut = self._listed({**keys, PATIENT: ("LO", patient)})
            found += ({PATIENT: patient.encode("ascii"), **row} for row in rows)
            any_cut = any_cut or cut
        return found, any_cut

    def _by_patient(self) -> bool:
        return needs_patient(chosen(self._ready(), FIND))

    def _listed(self, keys: Keys) -> tuple[list[Row], bool]:
        """The pending identifiers of one C-FIND, and whether the archive said that there are more."""
        association = self._ready()
        service = chosen(association, FIND)
        context = association.accepted(service)
        syntax = context.transfer_syntaxes[0]
        request = Command(C_FIND_RQ, message_id=1, sop_class_uid=service, has_data_set=True)
        association.send(context, request, encode_identifier(keys, syntax))
        rows: list[Row] = []
        while True:
            message = association.receive()
            if message is None:
                raise RetryLater("archive-closed", "the archive released the association during a query")
            if message.command.status not in statuses.PENDING:
                self._used = time.monotonic()
                return rows, statuses.find_was_cut(message.command.status)
            if message.data_set:
                try:
                    rows.append(decode_identifier(message.data_set, syntax))
                except ValueError:
                    self.passed_over.add("row-unreadable")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._association is not None:
            self._association.__exit__(kind, error, trace)

    def _ready(self) -> Association:
        if self._association is not None and time.monotonic() - self._used > _LONGEST_PAUSE:
            self._association.release()
            self._association = None
        if self._association is None:
            self._association = associate(self._settings, plain_contexts(FIND))
            self._used = time.monotonic()
        return self._association


def _patient_of(row: Row) -> str:
    return decode_texts(row).get(PATIENT, "")
