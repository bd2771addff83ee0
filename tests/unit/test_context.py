"""What of a study is told to a model beside its images: the parts that its own published words have, and no others."""

from dataclasses import asdict, fields, replace
from datetime import date
from typing import Any

import pytest

from flows.given import given_context, technique
from models.catalog import CatalogEntry, list_models, show, task_of
from models.drafter import Drafter
from models.drafting.draft_plan import DraftPlan
from models.drafting.tasks import SiteTask
from models.families.endpoint.wording import wording_of
from models.families.native.internvl_words import WORDS as INTERN
from models.families.native.llava_med import LlavaMedDialect
from models.families.native.medgemma import MedGemmaDialect
from models.families.native.medrega import MedRegaDialect
from models.families.native.qwen_dialects import WORDS
from models.families.native.radvlm import RadVlmWords
from models.families.uni_med.questions import word_instruction
from models.family import Answer, Features, PromptContext, Request, SeenImage, Task, Traits
from models.prompts import read_prompts
from pipeline.report import DraftReport, Language
from pipeline.study import InstanceRef
from pipeline.study_context import PatientIdentity, StudyContext
from tests.answering_family import AnsweringFamily
from tests.tiny_model import film_study

TOLD = PromptContext(
    "dyspnoea since spring", "Chest radiograph, PA.", "Prior chest radiograph.", "IMPRESSION: Clear."
)
IMAGE = SeenImage(InstanceRef("1.2", "1.2.3", "1.2.3.4"), 0, 100, 80)
EXPECTED = {
    ("maira-2", "findings"): {"indication", "technique", "comparison", "prior_report"},
    ("maira-2", "grounded_report"): {"indication", "technique", "comparison", "prior_report"},
    ("chexagent-2", "findings"): {"indication"},
    ("llava-rad", "findings"): {"indication"},
    ("libra-7b", "findings"): {"indication"},
    ("libra-3b", "findings"): {"indication"},
    ("medgemma-4b-it", "findings"): {"indication", "technique"},
    ("medgemma-27b-it", "findings"): {"indication", "technique"},
    ("medgemma-1.5-4b-it", "findings"): {"indication", "technique"},
    ("unirg-cxr", "report"): {"indication"},
    ("unirg-cxr", "findings"): {"indication"},
    ("qwen3-vl", "report"): {"indication", "technique"},
    ("qwen3-vl", "findings"): {"indication", "technique"},
    ("qwen3-vl-media", "report"): {"indication", "technique"},
    ("qwen3-vl-media", "findings"): {"indication", "technique"},
    ("cxrreportgen", "grounded_report"): {"indication", "technique", "comparison", "prior_report"},
    ("openai-endpoint", "report"): {"indication"},
    ("openai-endpoint", "findings"): {"indication"},
}
"""The wordings whose published text has a place for it. Libra's, Qwen3-VL's and the plain endpoint's are ours,
UniRG-CXR's a reproduction's."""


def prompt(entry: CatalogEntry, wording: str) -> str:
    """All that a family is sent of a study asked for a draft, with every part of the context known."""
    task = task_of(wording)
    request = Request(
        task, variant="" if wording == task else wording, context=TOLD.only(entry.traits.context)
    )
    if entry.adapter == "openai-endpoint":
        system, texts = wording_of(entry).ask(request, ["image", "prior"], [IMAGE], "DX")
        return "\n".join([system, *texts])
    if entry.adapter == "uni-med":
        return word_instruction(
            read_prompts(entry.prompts).texts[task, Language.ENGLISH], request, IMAGE, "DX"
        )
    if entry.adapter == "nnunet":
        return ""  # A segmenter is sent no words.
    if entry.adapter == "firstread-mini":
        return read_prompts(entry.prompts).texts[task, Language.ENGLISH]
    if entry.adapter.startswith("qwen"):
        return WORDS[entry.prompts](entry.prompts, entry.images).word(request, [IMAGE], "DX")
    if entry.adapter == "internvl3":
        return str(INTERN[entry.prompts](entry.prompts).word(request, [IMAGE], "DX"))
    dialects: dict[str, Any] = {
        "gemma3": MedGemmaDialect,
        "llava": LlavaMedDialect,
        "llava-onevision": RadVlmWords,
        "internvl": MedRegaDialect,
    }
    return str(dialects[entry.adapter](entry.prompts).word(request, [IMAGE], "DX"))


@pytest.mark.parametrize(
    ("model", "wording"), [(entry.id, name) for entry in list_models() for name in entry.drafts]
)
def test_context_reaches_exactly_the_wordings_that_have_it(model: str, wording: str) -> None:
    sent = prompt(show(model), wording)
    reached = {name for name, text in asdict(TOLD).items() if text in sent}
    assert reached == EXPECTED.get((model, wording), set())
    assert reached <= set(show(model).context)


def test_the_catalogue_claims_no_context_that_no_wording_has() -> None:
    for entry in list_models():
        has = set().union(*(EXPECTED.get((entry.id, name), set()) for name in entry.drafts))
        assert set(entry.context) == has, entry.id
    assert {field.name for field in fields(PromptContext)} == set(show("maira-2").context)


class Told(AnsweringFamily):
    """Keeps what it is told."""

    traits = Traits(context=frozenset({"indication"}))

    def _one(self, features: Features, request: Request) -> Answer:
        self.told = [*getattr(self, "told", []), request.context]
        return super()._one(features, request)


def test_the_drafter_tells_each_model_its_own_part() -> None:
    family, silent = Told(), AnsweringFamily("silent")
    asked = [SiteTask(Request(Task.VQA, question="Any tube?"), model=name) for name in ("", "other")]
    other = Told("other")
    other.traits = Traits(context=frozenset({"technique"}))
    drafter = Drafter(
        family,
        Language.ENGLISH,
        "code",
        tasks=asked,
        others={"other": other, "third": silent},
        plan=DraftPlan(),
    )
    (draft,) = drafter.write(drafter.encode([film_study(1)], [TOLD]))
    assert isinstance(draft, DraftReport)
    assert family.told == [PromptContext(indication=TOLD.indication)] * 2
    assert other.told == [PromptContext(technique=TOLD.technique)]
    with pytest.raises(ValueError, match="pairs"):
        drafter.encode([film_study(1)], [TOLD, TOLD])


def test_a_study_is_told_from_its_headers_without_its_identifiers() -> None:
    study = film_study(1)
    patient = PatientIdentity("TEST-9", "", ("Fictitious^Ada",), date(1971, 3, 14), "F")
    context = StudyContext(
        study.study_instance_uid, patient, "ACC-9", indication="Ada Fictitious (TEST-9, 14.3.1971): cough"
    )
    images = replace(study, priors=study.images)
    told = given_context(context, images, "IMPRESSION: Clear.")
    assert told == PromptContext(
        "___ (___): cough", "Chest radiograph, PA.", "Prior chest radiograph.", "IMPRESSION: Clear."
    )
    lateral = replace(study.images[0], view="LL")
    assert technique((study.images[0], lateral)) == "Chest radiograph, PA and lateral."
    assert technique((replace(lateral, view="", modality="CT", body_part="HEAD"),)) == "CT."
    assert technique(()) == ""
    assert given_context(context, study).comparison == ""
