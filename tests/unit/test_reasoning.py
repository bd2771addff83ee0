"""Thinking is parted from the answer by the family's marks, kept with the provenance, and told nowhere."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.catalog import show
from models.drafter import Drafter
from models.drafting.draft_plan import draft_plan
from models.families.endpoint.client import read_reply
from models.families.endpoint.endpoint_family import EndpointFamily
from models.families.native.nv_reason import NvReasonWords, read_names
from models.families.native.qwen3_words import Qwen3Words
from models.families.native.qwen_words import CheXOneWords
from models.families.reasoning import MOST_KEPT, opens_reasoning, part_reasoning
from models.family import Request, SeenImage, Task
from models.model_choice import EndpointOptions
from models.prompts import Wordings
from pipeline.errors import FailStudy, FirstreadError
from pipeline.fhir import validate
from pipeline.report import DraftReport, Label, Language, TaskAnswer
from pipeline.store.codec import as_json, draft_from
from pipeline.study import InstanceRef
from tests.faulty_endpoint import faulty_endpoint
from tests.tiny_chat import chat_study
from tests.tiny_families import tiny_family
from tests.tiny_text import CHAT_TEMPLATE, write_text_model
from tests.unit.fhir_samples import DRAFT, built

IMAGE = SeenImage(InstanceRef("1", "1.1", "1.1.1"), 0, 1000, 2000)
THOUGHT = "I wonder about the left base"


@pytest.mark.parametrize(
    ("text", "answer", "reasoning"),
    [
        ("Lungs clear.", "Lungs clear.", ""),
        (f"<think>{THOUGHT}</think>\nLungs clear.", "Lungs clear.", THOUGHT),
        (f"<THINK>{THOUGHT}</THINK>Lungs clear.", "Lungs clear.", THOUGHT),
        (f" <thinking>{THOUGHT}</thinking> <answer> Edema </answer>", "Edema", THOUGHT),
        (f"<unused94>thought\n{THOUGHT}<unused95>Lungs clear.", "Lungs clear.", THOUGHT),
        (f"{THOUGHT}</think>Lungs clear.", "Lungs clear.", THOUGHT),  # the prompt had begun it
        ("<answer>Edema</answer>", "Edema", ""),
        ("<think></think>Lungs clear.", "Lungs clear.", ""),
        # no end, the end twice, the end in the answer, a beginning too many or too late, marks of two pairs
        (f"<think>{THOUGHT}", "", f"<think>{THOUGHT}"),
        (f"<think>{THOUGHT}</think></think>Clear.", "", f"<think>{THOUGHT}</think></think>Clear."),
        (
            f"<think>{THOUGHT}</think>Lungs </think> clear.",
            "",
            f"<think>{THOUGHT}</think>Lungs </think> clear.",
        ),
        (f"<think><think>{THOUGHT}</think>Clear.", "", f"<think><think>{THOUGHT}</think>Clear."),
        (f"Clear. <think>{THOUGHT}</think>", "", f"Clear. <think>{THOUGHT}</think>"),
        (f"<think>{THOUGHT}</thinking>Clear.", "", f"<think>{THOUGHT}</thinking>Clear."),
        (f"<think>{THOUGHT}</think>so <answer>Edema</answer>", "", f"{THOUGHT}\nso <answer>Edema</answer>"),
        (f"<think>{THOUGHT}</think><answer>Edema", "", f"{THOUGHT}\n<answer>Edema"),
        (f"<think>{THOUGHT}</think><answer>a</answer><answer>b</answer>", "", None),
    ],
)
def test_marks_part_a_text_or_there_is_no_answer(text: str, answer: str, reasoning: str | None) -> None:
    parted = part_reasoning(text)
    assert parted.answer == answer
    assert reasoning is None or parted.reasoning == reasoning


def test_a_prompt_that_began_the_thinking_waits_for_its_end() -> None:
    assert opens_reasoning("<|im_start|>assistant\n<think>\n")
    assert not opens_reasoning("<|im_start|>assistant\n")
    assert part_reasoning(THOUGHT, opened=True).answer == ""
    assert part_reasoning(f"{THOUGHT}</think>Clear.", opened=True).answer == "Clear."
    turns = "<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n<think>\n"
    words = Qwen3Words(Wordings({("chat", Language.ENGLISH): turns}, "digest"))
    assert (words.reasons, words.most_tokens) == (True, 4096)
    assert not Qwen3Words().reasons


@given(st.lists(st.sampled_from(
    ["<think>", "</think>", "<thinking>", "</thinking>", "<answer>", "</answer>", "<unused94>thought", "<unused95>",
     " ", "\0", "words", "</THINK>"]), max_size=9))  # fmt: skip
def test_no_mark_and_nothing_before_an_end_is_in_an_answer(parts: list[str]) -> None:
    numbered = "".join(f"{part}{place}" if part == "words" else part for place, part in enumerate(parts))
    parted = part_reasoning(numbered)
    assert "<" not in parted.answer
    ends = [at for at, part in enumerate(parts) if part.lower() in ("</think>", "</thinking>", "<unused95>")]
    for place, part in enumerate(parts):
        if part == "words" and ends and place < ends[-1]:
            assert f"words{place}" not in parted.answer
    assert "\0" not in parted.reasoning


def test_what_is_kept_is_bounded() -> None:
    parted = part_reasoning("<think>" + "a" * (MOST_KEPT + 7) + "</think>Clear.")
    assert parted.answer == "Clear."
    assert len(parted.reasoning) < MOST_KEPT + 60
    assert parted.reasoning.endswith("[7 characters more were not kept]")


def test_nv_reason_answers_with_its_own_names() -> None:
    """NVIDIA-Medtech/NV-Reason-CXR, datalists/sft.jsonl and train/vlm_rewards.py."""
    words = NvReasonWords()
    assert words.word(Request(Task.FINDINGS), [IMAGE], "DX").endswith(
        "user\n<image>Find abnormalities and support devices.<|im_end|>\n<|im_start|>assistant\n"
    )
    findings = words.read("Consolidation, lung opacity", Request(Task.FINDINGS), [IMAGE])
    assert findings.text == "Consolidation, Lung Opacity"
    asked = Request(Task.CLASSIFY, labels=("edema", "Lung Opacity"))
    assert words.read("Lung Opacity", asked, [IMAGE]).labels == (
        Label("edema", False),
        Label("Lung Opacity", True),
    )
    assert words.read("Lung Opacity", replace(asked, labels=("edema", "tumour")), [IMAGE]).labels == ()
    assert read_names("No Finding, Support Devices") == ("No Finding", "Support Devices")
    for strange in ("", "Edema, tumour", "No Finding, Edema", "There is no edema."):
        assert read_names(strange) == ()
        assert words.read(strange, Request(Task.FINDINGS), [IMAGE]).text == ""
    assert words.read("Yes.", Request(Task.VQA, question="Is it?"), [IMAGE]).text == "Yes."


def test_chexones_thinking_is_no_answer() -> None:
    reading = CheXOneWords().read(rf"{THOUGHT} \boxed{{Lungs clear.}}", Request(Task.FINDINGS), [IMAGE])
    assert (reading.text, reading.reasoning.strip()) == ("Lungs clear.", THOUGHT)
    unboxed = CheXOneWords().read(THOUGHT, Request(Task.FINDINGS), [IMAGE])
    assert (unboxed.text, unboxed.reasoning) == ("", THOUGHT)
    instruct = Request(Task.FINDINGS, variant="findings-instruct")
    assert CheXOneWords().read("Lungs clear.", instruct, [IMAGE]).text == "Lungs clear."


def drafted(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str) -> DraftReport | FirstreadError:
    """What NV-Reason drafts where it writes ``text``."""
    family: Any = tiny_family("nv-reason-cxr", folder).open()
    monkeypatch.setattr(family, "_write", lambda prompts, limit, schemas: [(text, False)] * len(prompts))
    plan = draft_plan(show("nv-reason-cxr"), Language.ENGLISH, "", "")
    with Drafter(family, Language.ENGLISH, "code", plan=plan) as drafter:
        (draft,) = drafter.write(drafter.encode([chat_study(1)]))
    return draft


def test_thinking_stays_with_the_provenance(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = f"<think> {THOUGHT} </think>\n<answer> Pleural Effusion </answer>"
    draft = drafted(monkeypatch, tmp_path, text)
    assert isinstance(draft, DraftReport)
    assert draft.findings_text == "Pleural Effusion"
    assert dict(draft.provenance.reasoning) == {"report": THOUGHT}
    assert [finding.kind for finding in draft.findings] == ["pleural_effusion"]
    kept = draft_from(json.loads(as_json(draft)))
    assert kept == draft
    older = json.loads(as_json(draft))
    del older["provenance"]["reasoning"]
    assert draft_from(older).provenance.reasoning == {}


@pytest.mark.parametrize(
    "text", [f"<think>{THOUGHT}", f"<think>{THOUGHT}</think>Edema</think>", THOUGHT, "<think>"]
)
def test_thinking_that_does_not_end_is_no_draft(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
) -> None:
    draft = drafted(monkeypatch, tmp_path, text)
    assert isinstance(draft, FailStudy)
    assert draft.code == "draft-unparsable"
    assert THOUGHT not in draft.message


def test_no_resource_tells_what_was_thought() -> None:
    provenance = replace(DRAFT.provenance, reasoning={"report": THOUGHT, "impression": THOUGHT})
    answer = TaskAnswer("vqa", Language.ENGLISH, "Is the heart large?", "No.")
    silent = replace(DRAFT, answers=(answer,))
    thinking = replace(silent, provenance=provenance, answers=(replace(answer, reasoning=THOUGHT),))
    resources = built(draft=thinking)
    validate(resources)
    assert THOUGHT not in json.dumps([one.body for one in resources])
    assert [one.body for one in resources] == [one.body for one in built(draft=silent)]


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_a_server_may_tell_the_thinking_apart(field: str) -> None:
    def body(content: str | None, finish: str = "stop") -> bytes:
        message = {"role": "assistant", "content": content, field: THOUGHT}
        return json.dumps({"choices": [{"message": message, "finish_reason": finish}]}).encode()

    reply = read_reply(body("Lungs clear."))
    assert (reply.text, reply.reasoning, reply.truncated) == ("Lungs clear.", THOUGHT, False)
    cut = read_reply(body(None, "length"))
    assert (cut.text, cut.reasoning, cut.truncated) == ("", THOUGHT, True)
    with pytest.raises(FailStudy):
        read_reply(
            json.dumps({"choices": [{"message": {"content": None}, "finish_reason": "stop"}]}).encode()
        )


@pytest.mark.parametrize(
    ("content", "text", "reasoning"),
    [
        (
            f"<think>{THOUGHT}</think>\nFindings: Clear. Impression: Normal.",
            "Findings: Clear. Impression: Normal.",
            THOUGHT,
        ),
        (f"<think>{THOUGHT}</think>Findings</think>", "", f"<think>{THOUGHT}</think>Findings</think>"),
        (f"<think>{THOUGHT}", "", f"<think>{THOUGHT}"),
        ("Findings: Clear. Impression: Normal.", "Findings: Clear. Impression: Normal.", ""),
    ],
)
def test_a_server_may_leave_the_thinking_in_the_text(content: str, text: str, reasoning: str) -> None:
    with faulty_endpoint() as server:
        server.reply = lambda body: content
        with EndpointFamily(show("openai-endpoint"), EndpointOptions(server.url, "served")) as family:
            (answer,) = family.answer(family.encode([chat_study(1)]), [Request()])
    assert (answer.text, answer.reasoning) == (text, reasoning)


def test_a_text_family_whose_template_begins_the_thinking(tmp_path: Path) -> None:
    """A real network with random weights never closes what its template began: none of its words are an answer."""
    from models.families.text.recipes import recipe_of
    from models.families.text.text_family import TextFamily

    folder = write_text_model(tmp_path / "text")
    recipe = replace(recipe_of("text-llm"), max_new_tokens=12)
    request = Request(Task.TEXT_QA, question="Is it?")
    with TextFamily(show("text-llm"), folder, recipe=recipe) as plain:
        (before,) = plain.answer(plain.encode([chat_study(1)]), [request])
    assert before.text
    opening = CHAT_TEMPLATE.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
    (folder / "chat_template.jinja").write_text(opening, encoding="utf-8")
    with TextFamily(show("text-llm"), folder, recipe=recipe) as thinking:
        (after,) = thinking.answer(thinking.encode([chat_study(1)]), [request])
    assert after.text == ""
    assert after.reasoning


def test_a_question_cannot_end_the_thinking() -> None:
    for mark in ("</think>", "<answer>", "<unused95>", "<THINK>"):
        with pytest.raises(FailStudy) as refused:
            NvReasonWords().word(Request(Task.VQA, question=f"Is it? {mark}"), [IMAGE], "DX")
        assert refused.value.code == "special-token"
