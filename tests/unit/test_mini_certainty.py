"""What a draft says depends on the numbers of real films, and every answer about a film on the same ones."""

import re
from itertools import product

import numpy as np
import pytest

from models.drafting.findings_text import parse_draft
from models.families.mini.certainty import Shown, join_possible, split_possible, write_certain
from models.families.mini.films import ABNORMAL, RULED, Certainty, Reading
from models.families.mini.places import Places
from models.vocabulary.chinese import NO_ABNORMALITY_ZH
from models.vocabulary.english import KIND_PATTERNS, KINDS, NO_ABNORMALITY, every_fact
from models.vocabulary.hedges import UNSURE_FINDINGS, UNSURE_IMPRESSION, possible_sentences
from models.vocabulary.prompts import prompt_text
from tests.check_drafts import spoken, verdicts

NORMAL = (
    "Findings: The lungs are clear. No pleural effusion or pneumothorax. The heart is not enlarged.\n"
    f"Impression: {NO_ABNORMALITY}"
)
SICK = (
    "Findings: The lungs are clear. There is a small left pleural effusion. No pneumothorax. The heart is not"
    " enlarged. A left pacemaker is in place.\nImpression: Small left pleural effusion. Left pacemaker in place."
)
NORMAL_ZH = f"检查所见：双肺野清晰。未见胸腔积液及气胸。心影大小正常。\n印象：{NO_ABNORMALITY_ZH}"


def shown(**certainty: Certainty) -> Shown:
    """A film on which the heads see everything on the right, in the mid zone and of middle size."""
    told = {name: certainty.get(name, Certainty.DENIED) for name in RULED}
    presence = np.tile(np.array([-1, 3, -3], np.float32), (len(KINDS), 1))
    boxes = np.tile(np.array([0.1, 0.2, 0.3, 0.4], np.float32), (2 * len(KINDS), 1))
    places = Places(boxes, np.zeros((3, 4), np.float32), np.zeros((8, 2), np.float32), presence)
    middle = np.tile(np.array([0, 1, 0], np.float32), (2 * len(KINDS), 1))
    return Shown(Reading({name: level / 4 for name, level in told.items()}, told), places, middle, middle)


def write(task: str, language: str, answer: str, film: Shown, **asked: str) -> str:
    prompt = prompt_text(task, language)
    for name, value in asked.items():
        prompt = prompt.replace(f"{{{name}}}", value)
    return write_certain(prompt, answer, film)


def test_a_draft_states_denies_or_is_silent_as_the_numbers_say() -> None:
    texts = {
        level: write("report", "en", NORMAL, shown(pleural_effusion=level, abnormal=Certainty.UNSAID))
        for level in Certainty
    }
    assert "No pleural effusion or pneumothorax." in texts[Certainty.DENIED]
    assert "effusion" not in texts[Certainty.UNSAID]
    assert "No pneumothorax." in texts[Certainty.UNSAID]
    assert "There may be a right pleural effusion." in texts[Certainty.POSSIBLE]
    assert "Impression: Possible right pleural effusion." in texts[Certainty.POSSIBLE]
    assert "There is a moderate right pleural effusion." in texts[Certainty.STATED]
    assert "Impression: Moderate right pleural effusion." in texts[Certainty.STATED]
    for text in texts.values():
        parse_draft(text)


@pytest.mark.parametrize("kind", [kind for kind in RULED if kind != ABNORMAL])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_finding_is_read_back_as_it_was_meant(kind: str, language: str) -> None:
    for level in Certainty:
        draft = parse_draft(
            write("report", language, NORMAL if language == "en" else NORMAL_ZH, shown(**{kind: level}))
        )
        said = {finding.kind: finding.present for finding in draft.findings}
        assert said.get(kind) == (None if level is Certainty.UNSAID else level >= Certainty.POSSIBLE)
        hedged = "may be" in draft.findings_text or "可能" in draft.findings_text
        assert hedged == (level is Certainty.POSSIBLE)


def test_the_models_own_sentence_stays_where_both_state_it_and_goes_where_the_numbers_deny_it() -> None:
    stated = write("report", "en", SICK, shown(pleural_effusion=Certainty.STATED))
    assert "There is a small left pleural effusion." in stated
    possible = write("report", "en", SICK, shown(pleural_effusion=Certainty.POSSIBLE))
    assert "There may be a left pleural effusion." in possible, "on the side that the model wrote"
    denied = write("report", "en", SICK, shown())
    assert "No pleural effusion or pneumothorax." in denied
    assert denied.endswith("Impression: Left pacemaker in place."), "of devices real films taught nothing"


def test_a_film_is_called_normal_only_where_nothing_at_all_is_likely() -> None:
    assert write("report", "en", NORMAL, shown()) == NORMAL
    unsure = write("report", "en", NORMAL, shown(abnormal=Certainty.UNSAID))
    assert unsure.endswith(UNSURE_IMPRESSION["en"])
    silent = write("report", "zh", NORMAL_ZH, shown(**dict.fromkeys(RULED, Certainty.UNSAID)))
    assert UNSURE_FINDINGS["zh"] in silent
    assert silent.endswith(UNSURE_IMPRESSION["zh"])


@pytest.mark.parametrize("level", list(Certainty))
def test_other_answers_rest_on_the_same_numbers(level: Certainty) -> None:
    film, there = shown(pneumothorax=level), level >= Certainty.POSSIBLE
    labels = write("classify", "en", "Pacemaker.", film, labels="pneumothorax, normal, pacemaker")
    assert labels == ("Pneumothorax, pacemaker." if there else "Normal, pacemaker.")
    asked = "Is there a pneumothorax?"
    assert write("vqa", "en", "No." if there else "Yes.", film, question=asked) == (
        "Yes." if there else "No."
    )
    left = "Is there a pneumothorax on the left?"
    assert write("vqa", "en", "Yes.", film, question=left) == "No."
    found = write("detect", "en", "No pneumothorax.", film, target="pneumothorax")
    assert found == ("{<10><20><30><40>}" if there else "No pneumothorax.")
    assert write("vqa", "zh", "否。", film, question="是否有气胸？") == ("是。" if there else "否。")
    grounded = write("grounded_report", "en", NORMAL.split("\n")[0], film)
    assert ("{<10><20><30><40>}" in grounded) == there
    assert write("landmark", "en", "{<1><2>}", film, target="carina") == "{<1><2>}"


def test_what_is_possible_is_summarised_without_words_that_the_model_does_not_know() -> None:
    text = "Findings: There may be a right pleural effusion. There is a small nodule in the left upper zone."
    rest, told = split_possible(text, "en")
    assert rest == "There is a small nodule in the left upper zone."
    assert told == ["Possible right pleural effusion."]
    summary = join_possible("Small nodule in the left upper zone.", told, "en")
    assert summary == "Small nodule in the left upper zone. Possible right pleural effusion."
    assert join_possible(NO_ABNORMALITY, told, "en") == "Possible right pleural effusion."
    rest, told = split_possible("Findings: There may be a right pleural effusion.", "en")
    assert rest == "The lungs are clear."
    assert split_possible(SICK.split("\n")[0], "en") == (SICK.split("\n")[0], [])


def test_every_hedge_speaks_of_its_finding_and_ends_once() -> None:
    for fact in every_fact():
        if fact.kind in RULED:
            for language, stop in (("en", "."), ("zh", "。")):
                for text in possible_sentences(fact, language):
                    assert text.count(stop) == 1
                    assert text.endswith(stop)
            assert re.search(KIND_PATTERNS[fact.kind], possible_sentences(fact, "en")[0].lower())


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("kind", RULED)
def test_no_check_objects_to_what_is_written(kind: str, language: str) -> None:
    own = {"en": (NORMAL, SICK), "zh": (NORMAL_ZH,)}[language]
    for level, text in product(Certainty, own):
        film = shown(**{kind: level, "abnormal": Certainty.UNSAID})
        read = parse_draft(write("report", language, text, film))
        chances = dict(film.reading.chances)
        chances.pop(ABNORMAL)
        made = spoken(read.findings_text, read.impression_text, findings=read.findings, probabilities=chances)
        assert verdicts(made) == {}, read
