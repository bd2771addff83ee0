"""The obvious script: what a good engineer writes in an afternoon from the documentation of well-known libraries.

dicomweb-client finds and retrieves, pydicom decodes, torch runs the model eagerly, transformers' ``generate`` writes
one study at a time, fhir.resources builds a Bundle, an SQLAlchemy ORM session stores row by row. Same
weights and precision.
"""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from dicomweb_client.api import DICOMwebClient
from fhir.resources.R4B.bundle import Bundle, BundleEntry
from fhir.resources.R4B.diagnosticreport import DiagnosticReport
from fhir.resources.R4B.observation import Observation
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_windowing
from sqlalchemy import JSON, String, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from models.networks.mini import FirstreadMini, load_mini, load_tokenizer, prompt_ids

WORKING_SIDE = 1024


class Base(DeclarativeBase):
    """Tables of the script."""


class Report(Base):
    """One report."""

    __tablename__ = "obvious_report"
    id: Mapped[str] = mapped_column(String, primary_key=True)
    study: Mapped[str]
    text: Mapped[str]
    body: Mapped[Any] = mapped_column(JSON)


class AuditRow(Base):
    """One audit row."""

    __tablename__ = "obvious_audit"
    id: Mapped[str] = mapped_column(String, primary_key=True)
    study: Mapped[str]
    event: Mapped[str]


@dataclass
class Script:
    """What the script opens once: client, network, tokenizer, database."""

    client: DICOMwebClient
    network: FirstreadMini
    tokenizer: Any
    engine: Any

    @classmethod
    def open(cls, dicomweb: str, weights: Path, database_url: str) -> "Script":
        """Load the model and create the tables."""
        engine = create_engine(database_url)
        Base.metadata.drop_all(engine)
        Base.metadata.create_all(engine)
        return cls(DICOMwebClient(dicomweb), load_mini(weights), load_tokenizer(weights), engine)

    def studies(self) -> Iterator[str]:
        """Every study of the archive, page by page."""
        offset = 0
        while page := self.client.search_for_studies(limit=200, offset=offset):
            yield from (row["0020000D"]["Value"][0] for row in page)
            offset += len(page)

    def run(self, threads: int = 1) -> dict[str, str]:
        """Draft every study; gives the text of each."""
        studies = list(self.studies())
        if threads == 1:
            return {uid: self.draft(uid) for uid in studies}
        with ThreadPoolExecutor(threads) as pool:
            return dict(zip(studies, pool.map(self.draft, studies), strict=True))

    def draft(self, uid: str) -> str:
        """One study, start to end."""
        datasets = self.client.retrieve_study(uid, media_types=(("application/dicom", "*"),))
        pixels = film(datasets[0], self.network.config.vision.image_size)
        text = self.write(pixels)
        self.store(uid, text)
        return text

    @torch.no_grad()
    def write(self, pixels: np.ndarray[Any, Any]) -> str:
        """Greedy text by ``generate`` at batch 1."""
        network = self.network
        visual, _ = network.encode(torch.from_numpy(pixels)[None, None], network.task_index("report", 1))
        prompt = network.language.get_input_embeddings()(torch.tensor(prompt_ids("report", "en"))[None])
        tokens = cast(Any, network.language).generate(
            inputs_embeds=torch.cat([visual, prompt], dim=1),
            attention_mask=torch.ones(1, visual.shape[1] + prompt.shape[1], dtype=torch.long),
            max_new_tokens=network.config.max_new_tokens,
            do_sample=False,
        )
        return "".join(self.tokenizer.decode(tokens[0].tolist(), skip_special_tokens=True))

    def store(self, uid: str, text: str) -> None:
        """Resources by fhir.resources, rows by the ORM."""
        findings, _, impression = text.removeprefix("Findings: ").partition("\nImpression: ")
        body = bundle(uid, findings, impression).model_dump_json()
        with Session(self.engine) as session:
            session.add(Report(id=str(uuid.uuid4()), study=uid, text=text, body=body))
            session.commit()
            for event in ("query", "begin", "transferred", "drafted", "created"):
                session.add(AuditRow(id=str(uuid.uuid4()), study=uid, event=event))
                session.commit()


def film(dataset: Dataset, size: int) -> np.ndarray[Any, Any]:
    """Window, polarity, 0..1, resized."""
    values = apply_windowing(apply_modality_lut(dataset.pixel_array, dataset), dataset).astype(np.float64)
    top = 2.0**dataset.BitsStored - 1
    shown = np.clip(values / top, 0, 1)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        shown = 1 - shown
    picture = Image.fromarray(shown.astype(np.float32))
    even = picture.width % size == 0 and picture.height % size == 0
    resampling = Image.Resampling.BOX if even else Image.Resampling.BILINEAR
    return np.asarray(picture.resize((size, size), resampling), np.float32)


def bundle(uid: str, findings: str, impression: str) -> Bundle:
    """A report with its two sections."""
    now = datetime.now(UTC).isoformat()
    resources: list[Any] = [
        cast(Any, Observation)(
            id=str(uuid.uuid4()), status="preliminary", code={"coding": [_loinc(code)]}, valueString=text
        )
        for code, text in (("59776-5", findings), ("19005-8", impression))
    ]
    report = cast(Any, DiagnosticReport)(
        id=str(uuid.uuid4()),
        status="partial",
        code={"coding": [_loinc("18748-4")]},
        identifier=[{"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}],
        issued=now,
        conclusion=impression,
        result=[{"reference": f"Observation/{one.id}"} for one in resources],
    )
    entries = [
        cast(Any, BundleEntry)(
            resource=one, request={"method": "PUT", "url": f"{one.get_resource_type()}/{one.id}"}
        )
        for one in (*resources, report)
    ]
    return Bundle(type="transaction", entry=entries)


def _loinc(code: str) -> dict[str, str]:
    return {"system": "http://loinc.org", "code": code}
