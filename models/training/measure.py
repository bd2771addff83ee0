"""Every task of firstread-mini on unseen simulated studies: one measurement per task, as plain numbers."""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from tokenizers import Tokenizer

from models.families.mini.certainty import RealReader
from models.networks.mini import FirstreadMini
from models.runners.encoder import VisionEncoder
from models.simulation.task_texts import StudyFacts, answer_text, draw_closed, draw_open, task_example
from models.training.answering import Ask, Asker
from models.training.scoring import FindingScore, score_reports
from models.training.shards import ShardSample, study_facts
from models.training.task_scoring import (
    Outcome,
    best_overlap,
    score_classes,
    score_detect,
    score_exact,
    score_grounded,
    score_landmarks,
    score_questions,
    score_summaries,
)
from models.vocabulary.english import FindingFact, merge_sides
from models.vocabulary.prompts import prompt_text
from models.vocabulary.task_words import NAMES, Question, every_target, question_text

QUESTIONS, LANDMARKS_ASKED, DETECTIONS = 2, 3, 2
"""Closed and open questions, landmarks and targets asked of every study."""
SHOWN = {"frontal": (False, False), "lateral": (True, False), "prior": (False, True)}
"""What is shown: whether the lateral, whether the prior film, always beside the frontal."""


@dataclass(frozen=True, slots=True)
class Measured:
    """``reports`` by language and what was shown ("en/frontal", ...), ``shuffled`` against the next study's film, and
    the other tasks by name.
    """

    reports: Mapping[str, FindingScore]
    shuffled: FindingScore
    tasks: Mapping[str, Outcome]


class Examiner:
    """A network with studies it never saw."""

    def __init__(
        self,
        network: FirstreadMini,
        tokenizer: Tokenizer,
        samples: Sequence[ShardSample],
        encoder: VisionEncoder | None = None,
        real: RealReader | None = None,
    ) -> None:
        """Encode the films of ``samples``, each with lateral and prior; ``encoder`` and ``real`` as in ``Asker``."""
        self.known = [study_facts(sample) for sample in samples]
        films = np.stack([sample.images for sample in samples])
        self.asker = Asker(network, tokenizer, films, encoder, real)

    def _studies(self, lateral: bool, prior: bool) -> list[StudyFacts]:
        return [
            replace(study, has_lateral=study.has_lateral and lateral, has_prior=study.has_prior and prior)
            for study in self.known
        ]

    def drafts(self, language: str, shown: str) -> tuple[list[str], list[Sequence[FindingFact]]]:
        """Reports of all studies and what they should state."""
        lateral, prior = SHOWN[shown]
        prompt = prompt_text("report", language)
        texts = self.asker.answer([Ask(i, prompt, lateral, prior) for i in range(len(self.known))])
        return texts, [study.facts for study in self._studies(lateral, prior)]

    def _choosers(self, task: str) -> list[random.Random]:
        return [random.Random(f"{task} {index}") for index in range(len(self.known))]  # noqa: S311 - what is asked

    def regions(self, language: str) -> Outcome:
        """Boxes of grounded reports."""
        texts = self.asker.answer(
            [Ask(i, prompt_text("grounded_report", language)) for i in range(len(self.known))]
        )
        return score_grounded(texts, self._studies(False, False))

    def detect(self, language: str) -> Outcome:
        """Targets present and absent, with a side and without, and organs."""
        asks, truths = [], []
        sided = {words: (key, side) for words, key, side in every_target(language)}
        for index, chooser in enumerate(self._choosers("detect")):
            study = self.known[index]
            for _ in range(DETECTIONS):
                prompt, _answer = task_example(study, "detect", language, chooser)
                words = re.fullmatch(
                    re.escape(prompt_text("detect", language)).replace(re.escape("{target}"), "(.+)"), prompt
                )
                key, side = sided[words[1]] if words else ("", "")
                asks.append(Ask(index, prompt))
                truths.append([study.organs[key]] if key in study.organs else study.boxes(key, side))
        return score_detect(list(zip(self.asker.answer(asks), truths, strict=True)))

    def identify(self, language: str) -> Outcome:
        """One finding, and one organ, of every study that has one, by their boxes."""
        outcome: dict[str, float | int] = {}
        asks, answers, finding = [], [], []
        for index, chooser in enumerate(self._choosers("identify")):
            study = self.known[index]
            for only in (replace(study, organs={}), replace(study, findings=())):
                if only.findings or only.organs:
                    prompt, answer = task_example(only, "identify", language, chooser)
                    asks.append(Ask(index, prompt))
                    answers.append(answer)
                    finding.append(bool(only.findings))
        texts = self.asker.answer(asks)
        for name, wanted in (("findings", True), ("organs", False)):
            chosen = [i for i, is_finding in enumerate(finding) if is_finding is wanted]
            outcome[name] = score_exact([texts[i] for i in chosen], [answers[i] for i in chosen])
        return outcome | {"all": score_exact(texts, answers), "asked": len(texts)}

    def questions(self, language: str) -> Outcome:
        """Closed and open questions on the frontal film; of change with the prior, of depth with the lateral."""
        asks, answers, forms = [], [], []
        for index, chooser in enumerate(self._choosers("vqa")):
            for question in self._drawn(index, chooser):
                lateral, prior = question.form == "depth", question.form == "change"
                study = replace(self.known[index], has_lateral=lateral, has_prior=prior)
                prompt = prompt_text("vqa", language).replace("{question}", question_text(question, language))
                asks.append(Ask(index, prompt, lateral, prior))
                answers.append(answer_text(question, study, language))
                forms.append(question.form)
        return score_questions(self.asker.answer(asks), answers, forms)

    def _drawn(self, index: int, chooser: random.Random) -> list[Question]:
        merged = {fact.kind: fact for fact in merge_sides(self.known[index].facts)}
        closed = [draw_closed(merged, chooser) for _ in range(QUESTIONS)]
        return [*closed, *(draw_open(merged, chooser) for _ in range(QUESTIONS))]

    def classes(self, language: str = "en") -> Outcome:
        """One label set for every study."""
        asks, labels = [], []
        keys = {name: key for key, name in NAMES[language].items()}
        opening, closing = prompt_text("classify", language).split("{labels}")
        for index, chooser in enumerate(self._choosers("classify")):
            prompt, _answer = task_example(self.known[index], "classify", language, chooser)
            asks.append(Ask(index, prompt))
            names = prompt.removeprefix(opening).removesuffix(closing).split(", ")
            labels.append(tuple(keys[name] for name in names))
        return score_classes(list(zip(self.asker.answer(asks), labels, self.known, strict=True)))

    def landmarks(self, language: str) -> Outcome:
        """Some landmarks of every study."""
        asks, truths = [], []
        for index, chooser in enumerate(self._choosers("landmark")):
            marks = self.known[index].landmarks
            for name in chooser.sample(sorted(marks), min(LANDMARKS_ASKED, len(marks))):
                prompt = prompt_text("landmark", language).replace("{target}", NAMES[language][name])
                asks.append(Ask(index, prompt))
                truths.append((name, marks[name]))
        texts = self.asker.answer(asks)
        return score_landmarks([(text, *truth) for text, truth in zip(texts, truths, strict=True)])

    def summaries(self, language: str) -> Outcome:
        """Impressions from the true findings' text, with change and depth where the study has them."""
        asks = []
        for index, chooser in enumerate(self._choosers("summarize")):
            prompt, _answer = task_example(self.known[index], "summarize", language, chooser)
            asks.append(Ask(index, prompt))
        return score_summaries(self.asker.answer(asks), self.known)

    def box_head(self) -> Outcome:
        """Boxes that the encoder's heads give for every finding present: those of a draft's findings."""
        kinds = self.asker.network.config.kinds
        boxes = (self.asker.frontal.boxes * 100).round().int().tolist()
        values = []
        for index, study in enumerate(self.known):
            for placed in study.findings:
                slot = 2 * kinds.index(placed.fact.kind) + (placed.fact.side == "left")
                x1, y1, x2, y2 = boxes[index][slot]
                values.append(best_overlap(placed.box, [(x1, y1, x2, y2)]))
        at_half = sum(value >= 0.5 for value in values) / max(1, len(values))
        return {"region_at_half_of_present": round(at_half, 4), "counted": len(values)}

    def measure(self, *, quick: bool = False) -> Measured:
        """Every measurement; ``quick`` leaves out the second language of the smaller tasks."""
        reports: dict[str, FindingScore] = {}
        shuffled = None
        for language in ("en", "zh"):
            for shown in SHOWN:
                if language == "zh" and shown == "lateral" and quick:
                    continue
                texts, facts = self.drafts(language, shown)
                reports[f"{language}/{shown}"] = score_reports(texts, facts)
                if (language, shown) == ("en", "frontal"):
                    shuffled = score_reports(texts[1:] + texts[:1], facts)
        if shuffled is None:
            raise ValueError("nothing was drafted")
        tasks: dict[str, Outcome] = {"box_head": self.box_head()}
        for language in ("en",) if quick else ("en", "zh"):
            tasks[f"grounded_report/{language}"] = self.regions(language)
            tasks[f"detect/{language}"] = self.detect(language)
            tasks[f"identify/{language}"] = self.identify(language)
            tasks[f"vqa/{language}"] = self.questions(language)
            tasks[f"landmark/{language}"] = self.landmarks(language)
            tasks[f"summarize/{language}"] = self.summaries(language)
        tasks["classify/en"] = self.classes()
        return Measured(reports, shuffled, tasks)
