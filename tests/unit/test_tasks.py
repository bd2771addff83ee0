"""A site's tasks: what may be asked, batches, and one study's failure that takes nothing else down."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from flows.environment.site_models import site_tasks
from models.catalog import show
from models.drafter import Drafter
from models.drafting.tasks import SiteTask, TaskWording, question_of, requests_of, tasks_digest
from models.family import Answer, Features, Request, Task
from pipeline.errors import ConfigurationError, FailStudy, SkipStudy
from pipeline.report import DraftReport, Label, Language, Place, Region, Verdict
from pipeline.settings import Settings
from pipeline.study import ImageSet
from tests.answering_family import FINDINGS, AnsweringFamily
from tests.tiny_model import film_study

ENGLISH, CHINESE = Language.ENGLISH, Language.CHINESE


def listed(*tables: dict[str, Any], **more: Any) -> tuple[SiteTask, ...]:
    return site_tasks(Settings(tasks=cast(Any, tables), **more), ENGLISH)


def drafts(drafter: Drafter, studies: Sequence[ImageSet]) -> list[DraftReport]:
    written = drafter.write(drafter.encode(studies))
    assert all(isinstance(one, DraftReport) for one in written)
    return [one for one in written if isinstance(one, DraftReport)]


def test_every_table_becomes_its_requests(tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object"}')
    tasks = listed(
        {"task": "classify", "labels": ["normal", "pneumonia"], "modalities": ["dx"]},
        {"task": "vqa", "questions": ["Is there a tube?", "Which side?"], "options": ["left", "right"]},
        {"task": "detect", "targets": ["heart"], "language": "zh"},
        {"task": "structured", "schema_file": str(schema), "model": "small"},
        {"task": "report", "language": "zh"},
        {"task": "report"},
        models={"small": {"id": "smollm2"}},
    )
    assert [one.request for one in tasks] == [
        Request(Task.CLASSIFY, labels=("normal", "pneumonia")),
        Request(Task.VQA, question="Is there a tube?", options=("left", "right")),
        Request(Task.VQA, question="Which side?", options=("left", "right")),
        Request(Task.DETECT, CHINESE, target="heart"),
        Request(Task.STRUCTURED, schema='{"type": "object"}'),
        Request(Task.REPORT, CHINESE),
    ]
    assert [one.modalities for one in tasks[:2]] == [{"DX"}, frozenset()]
    assert [one.model for one in tasks[3:5]] == ["", "small"]
    assert [question_of(one.request) for one in tasks[:4]] == [
        "normal; pneumonia",
        "Is there a tube? (left; right)",
        "Which side? (left; right)",
        "heart",
    ]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"task": "prophesy"}, "number 1: there is no task 'prophesy' .*grounded_report"),
        ({"task": "vqa"}, "vqa needs questions"),
        ({"task": "detect", "questions": ["where?"], "targets": ["heart"]}, "detect takes no questions"),
        ({"task": "classify", "labels": ["normal"]}, "two labels or more"),
        ({"task": "identify"}, "firstread ask"),
        ({"task": "structured", "schema_file": "missing.json"}, "cannot be read"),
        ({"task": "summarize", "model": "other"}, r"no \[models.other\]"),
    ],
)
def test_a_table_that_cannot_be_asked_is_refused(table: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        listed(table)


def test_a_further_wording_is_asked_by_name() -> None:
    (task,) = listed({"task": "report", "variant": "report-iu"})
    assert (task.request.variant, question_of(task.request)) == ("report-iu", "report-iu")
    with pytest.raises(ConfigurationError, match="report-iu is no wording of task vqa"):
        listed({"task": "vqa", "questions": ["Why?"], "variant": "report-iu"})
    family = AnsweringFamily()
    with pytest.raises(ConfigurationError, match=r"no wording 'report-iu' in en \(there are: none\)"):
        Drafter(family, ENGLISH, "code", tasks=[task])
    family.traits = show("medrega").traits
    (draft,) = drafts(Drafter(family, ENGLISH, "code", tasks=[task]), [film_study(1)])
    assert draft.answers[0].question == "report-iu"


def test_a_task_that_a_language_lacks_is_refused_at_the_start() -> None:
    family = AnsweringFamily()
    family.traits = show("medrega").traits
    table = {"task": "detect", "targets": ["heart"], "language": "zh"}
    with pytest.raises(ConfigurationError, match="does not do detect in zh; in that it does report"):
        Drafter(family, ENGLISH, "code", tasks=listed(table))


@pytest.mark.parametrize("schema", ["{", '{"type": "thing"}'])
def test_a_schema_that_is_none_is_refused(schema: str) -> None:
    with pytest.raises(ConfigurationError, match="no JSON Schema"):
        requests_of(Task.STRUCTURED, ENGLISH, TaskWording(schema=schema))


def test_the_same_task_twice_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="the same thing twice"):
        listed({"task": "summarize"}, {"task": "summarize"})


def test_a_task_that_the_family_lacks_is_refused_with_what_it_does() -> None:
    family = AnsweringFamily(tasks=frozenset({Task.REPORT, Task.VQA}))
    with pytest.raises(ConfigurationError, match="does not do detect; it does report, vqa"):
        Drafter(family, ENGLISH, "code", tasks=listed({"task": "detect", "targets": ["heart"]}))
    family = AnsweringFamily(languages=frozenset({ENGLISH}))
    with pytest.raises(ConfigurationError, match="does not answer in zh; it does in en"):
        Drafter(family, ENGLISH, "code", tasks=listed({"task": "report", "language": "zh"}))


def test_answers_of_a_batch_come_to_their_studies() -> None:
    family = AnsweringFamily()
    tasks = listed(
        {"task": "classify", "labels": ["normal", "pneumonia"]},
        {"task": "detect", "targets": ["lung", "nothing"]},
        {"task": "landmark", "targets": ["carina"]},
        {"task": "summarize"},
    )
    drafter = Drafter(family, ENGLISH, "code", tasks=tasks, batch=4)
    studies = [film_study(number, columns=120 + 10 * number) for number in range(3)]
    written = drafts(drafter, studies)
    assert [len(batch) for batch in family.batches] == [3, 4, 4, 4, 3], "the report, then batches of four"
    for study, draft in zip(studies, written, strict=True):
        assert [(one.task, one.question) for one in draft.answers] == [
            ("classify", "normal; pneumonia"),
            ("detect", "lung"),
            ("detect", "nothing"),
            ("landmark", "carina"),
            ("summarize", ""),
        ]
        (image,) = study.images
        regions = [place.region for place in draft.answers[1].places]
        wide, high = image.original_columns, image.original_rows
        assert regions[0] == Region(image.ref, 0, 0.1 * wide, 0.2 * high, 0.4 * wide, 0.5 * high)
        point = draft.answers[3].places[0].point
        assert point is not None
        assert (point.ref, point.x) == (image.ref, 0.5 * wide)
        assert draft.answers[0].labels[0] == Label("normal", True, 0.9)
        assert draft.answers[4].text == f"{len(FINDINGS[ENGLISH])} letters: There is a s"
        assert draft.remarks == ()
    assert written == [
        replace(one, provenance=before.provenance)
        for before in written
        for one in drafts(
            drafter, [study for study in studies if study.study_instance_uid == before.study_instance_uid]
        )
    ], "a study alone is answered as in a batch"


def test_a_task_that_fails_is_a_remark_and_takes_nothing_down() -> None:
    tasks = listed({"task": "vqa", "questions": ["Is there a tube?", "unanswerable"]})
    for draft in drafts(
        Drafter(AnsweringFamily(), ENGLISH, "code", tasks=tasks), [film_study(1), film_study(2)]
    ):
        assert [one.text for one in draft.answers] == ["yes"]
        (remark,) = draft.remarks
        assert (remark.check, remark.verdict) == ("task", Verdict.WARNED)
        assert (
            remark.message == "vqa unanswerable was not answered: the question cannot be asked of this study"
        )


class Astray(AnsweringFamily):
    """Its places lie outside the film, or it says nothing."""

    wrong = Answer("", False)

    def _one(self, features: Features, request: Request) -> Answer:
        return super()._one(features, request) if request.task is Task.REPORT else self.wrong


OUTSIDE = Region(film_study(1).images[0].ref, 0, 0, 0, 241, 10)


@pytest.mark.parametrize(
    "wrong",
    [
        Answer(" ", False),
        Answer("yes", False, places=(Place("tube", OUTSIDE),)),
        Answer("yes", False, places=(Place("tube", replace(OUTSIDE, x1=240, frame=1)),)),
        Answer("yes", False, labels=(Label("yes", True, 1.5),)),
        Answer("yes", False, labels=(Label("yes", True, float("nan")),)),
    ],
)
def test_an_answer_that_cannot_be_told_is_a_remark(wrong: Answer) -> None:
    family = Astray()
    family.wrong = wrong
    (draft,) = drafts(
        Drafter(family, ENGLISH, "code", tasks=listed({"task": "vqa", "questions": ["q"]})), [film_study(1)]
    )
    assert draft.answers == ()
    assert len(draft.remarks) == 1
    family.wrong = Answer("yes", False, places=(Place("tube", replace(OUTSIDE, x1=240)),))
    (draft,) = drafts(
        Drafter(family, ENGLISH, "code", tasks=listed({"task": "vqa", "questions": ["q"]})), [film_study(1)]
    )
    assert len(draft.answers) == 1, "the same inside the film is told"


def test_tasks_are_kept_to_their_modalities() -> None:
    tasks = listed(
        {"task": "vqa", "questions": ["Is there a tube?"], "modalities": ["CT"]},
        {"task": "summarize", "modalities": ["CR"]},
    )
    (draft,) = drafts(Drafter(AnsweringFamily(), ENGLISH, "code", tasks=tasks), [film_study(1)])
    assert [one.task for one in draft.answers] == ["summarize"]


class Blind(AnsweringFamily):
    def encode(self, studies: Sequence[ImageSet]) -> list[Features]:
        if any(study.study_instance_uid == "1.2.2" for study in studies):
            raise SkipStudy("unlike-training", "the image is unlike the training")
        return super().encode(studies)


def test_further_models_answer_text_and_images() -> None:
    tasks = listed(
        {"task": "summarize", "model": "text"},
        {"task": "classify", "labels": ["a", "b"], "model": "eyes"},
        models={"text": {"id": "t"}, "eyes": {"id": "e"}, "unused": {"id": "u"}},
    )
    text, eyes = AnsweringFamily("t", tasks=frozenset({Task.SUMMARIZE})), Blind("e")
    family = AnsweringFamily()
    with Drafter(family, ENGLISH, "code", tasks=tasks, others={"text": text, "eyes": eyes}) as drafter:
        seen, unseen = drafts(drafter, [film_study(1), film_study(2)])
    assert [(one.task, one.model_id) for one in seen.answers] == [("summarize", "t"), ("classify", "e")]
    assert [one.task for one in unseen.answers] == ["summarize"]
    assert unseen.remarks[0].message.endswith("the image is unlike the training")
    assert family.closed
    assert text.closed
    assert eyes.closed


def test_the_list_and_further_models_enter_the_recipe() -> None:
    def recipe(*tables: dict[str, Any], weights: str = "w", **more: Any) -> str:
        others = {"other": AnsweringFamily("t", weights=weights)}
        tasks = listed(*tables, models={"other": {"id": "t"}})
        named = {name: one for name, one in others.items() if any(task.model == name for task in tasks)}
        return Drafter(AnsweringFamily(), ENGLISH, "code", tasks=tasks, others=named, **more).recipe

    ask = {"task": "vqa", "questions": ["a", "b"]}
    recipes = [
        recipe(),
        recipe(ask),
        recipe({**ask, "questions": ["b", "a"]}),
        recipe({**ask, "modalities": ["CR"]}),
        recipe({**ask, "model": "other"}),
        recipe({**ask, "model": "other"}, weights="x"),
        recipe(priors="last"),
    ]
    assert len(set(recipes)) == len(recipes)
    assert recipe(ask) == recipe(ask)
    assert recipe() == Drafter(AnsweringFamily(), ENGLISH, "code").recipe
    assert tasks_digest(listed(ask)) == tasks_digest(listed(ask))


def test_a_study_whose_draft_fails_is_asked_nothing() -> None:
    class Mute(AnsweringFamily):
        def _one(self, features: Features, request: Request) -> Answer:
            short = request.task is Task.REPORT and features.arrays["mean"][0, 0] > 2
            return Answer("nonsense", False) if short else super()._one(features, request)

    bright = film_study(1)
    (image,) = bright.images
    bright = replace(bright, images=(replace(image, pixels=image.pixels + 9),))
    drafter = Drafter(Mute(), ENGLISH, "code", tasks=listed({"task": "summarize"}))
    failed, drafted = drafter.write(drafter.encode([bright, film_study(2)]))
    assert isinstance(failed, FailStudy)
    assert isinstance(drafted, DraftReport)
    assert drafted.study_instance_uid == "1.2.2"
    assert len(drafted.answers) == 1
