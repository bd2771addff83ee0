"""A causal language model as a family: text in, text out."""

import gc
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import NoReturn, Self

import numpy as np
from numpy.typing import NDArray

from models.catalog import CatalogEntry
from models.drafting.structured import JsonConstraint, JsonProcessor, read_structured, report_schema
from models.families.prompt_proof import marks_of, prove_prompt, render_template, special_tokens
from models.families.reasoning import Parted, opens_reasoning, part_reasoning
from models.families.text.asking import read_choice, read_text_prompts, word_question
from models.families.text.loading import load_text_model
from models.families.text.recipes import QUESTION, TextRecipe, recipe_of
from models.families.text.writing import write_texts
from models.family import TEXT_TASKS, Answer, Features, Request, Task, unsupported
from models.model_choice import ModelChoice
from pipeline.errors import FailStudy, SkipStudy
from pipeline.study import ImageSet


class TextFamily:
    """A text family, loaded. See ``models.family.Family``.

    It has no images: ``encode`` gives empty features for any study, and ``prepare`` raises SkipStudy.
    """

    runner = "torch"

    def __init__(
        self, entry: CatalogEntry, folder: Path, *, recipe: TextRecipe | None = None, precision: str = "auto"
    ) -> None:
        """Load the weights of ``folder``; ``recipe`` None takes that of the catalogue id.

        Raises ConfigurationError for a folder that cannot be loaded, StopRun for unsound weights.
        """
        self._recipe = recipe or recipe_of(entry.id)
        self._loaded = load_text_model(folder, self._recipe, precision=precision)
        self._prompts = read_text_prompts()
        self.model_id, self.model_version = entry.id, entry.version
        self.tasks, self.languages = frozenset(entry.tasks) & TEXT_TASKS, frozenset(entry.languages)
        self.parts = {f"weights/{name}": digest for name, digest in self._loaded.files.items()}
        self.parts |= {"runner": self.runner, "prompts": self._prompts.digest}
        self.parts |= self._loaded.placing.parts | self._loaded.packed
        self.parts["decoding"] = self._loaded.decoding.words
        self.parts["template"] = hashlib.sha256(self._template().encode()).hexdigest()
        self._special = frozenset(self._loaded.tokenizer.all_special_tokens) | set(
            self._loaded.tokenizer.added_tokens_encoder
        )
        self._constraint: JsonConstraint | None = None
        self._room = self._loaded.decoding.room(self._recipe.max_new_tokens)
        self.proved = self._prove()
        self._lock = Lock()

    def prepare(self, study: ImageSet) -> NDArray[np.float32]:
        """Raises SkipStudy: these models read no image."""
        raise SkipStudy(
            "no-image-model", f"{self.model_id} reads text only; name a model of images in model.id"
        )

    def encode(self, studies: Sequence[ImageSet]) -> list[Features]:
        """Empty features, one per study."""
        return [Features((), {}) for _ in studies]

    def answer(self, features: Sequence[Features], requests: Sequence[Request]) -> list[Answer]:
        """See ``models.family.Family``. An answer under a schema is in ``structured`` where it is whole and valid."""
        if len(features) != len(requests):
            raise ValueError("features and requests go in pairs")
        prompts = [self._prompt(request) for request in requests]
        schemas = [self._schema(request) for request in requests]

        with self._lock:  # a network's own caches are not for two threads
            texts = write_texts(
                self._loaded.network,
                prompts,
                max((min(self._room, one.most_tokens or self._room) for one in requests), default=self._room),
                ends=self._loaded.ends,
                pad=self._loaded.pad,
                repetition_penalty=self._loaded.decoding.penalty,
                least=self._loaded.decoding.least,
                constraint=self._constrain(schemas),
            )
        answers = []
        for request, schema, text in zip(requests, schemas, texts, strict=True):
            whole = self._loaded.tokenizer.decode(list(text.ids), skip_special_tokens=True).strip()
            parted = Parted(whole) if schema else part_reasoning(whole, opened=self._opened)
            words = parted.answer
            answers.append(
                Answer(
                    words,
                    text.truncated,
                    labels=read_choice(words, request.options) if request.options else (),
                    structured=read_structured(words, schema, truncated=text.truncated) if schema else "",
                    reasoning=parted.reasoning,
                )
            )
        return answers

    def prompt_ids(self, question: str) -> list[int]:
        """Token ids that ask ``question``. Raises FailStudy where it holds one of the model's own marks."""
        if any(mark in question for mark in self._special if mark.strip()):
            message = f"the text holds a mark that {self.model_id} reads as a command, not as text: it was not asked"
            raise FailStudy("special-token", message)
        tokenizer = self._loaded.tokenizer
        literal = self._recipe.literal(tokenizer.chat_template)
        if literal:
            text = literal.replace(QUESTION, question)
            starts = self._recipe.starts and self._adds_start(text)
            return list(tokenizer(text, add_special_tokens=starts).input_ids)
        text = tokenizer.apply_chat_template(
            self._recipe.turns(question), tokenize=False, add_generation_prompt=True
        )
        return list(tokenizer(text, add_special_tokens=False).input_ids)

    def _prove(self) -> dict[str, str]:
        """Prove the prompt without a question on the tokenizer and the template of the folder; what was found.

        Raises StopRun where the tokenizer reads other tokens than the text, or the template is none.
        """
        tokenizer, literal = (
            self._loaded.tokenizer,
            self._recipe.literal(self._loaded.tokenizer.chat_template),
        )
        turns = self._recipe.turns("")
        if not literal:
            render_template(tokenizer.chat_template, turns, special_tokens(tokenizer))
        text = literal.replace(QUESTION, "") or tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True
        )
        self._opened = opens_reasoning(text)
        ids = self.prompt_ids("")
        prove_prompt(tokenizer, text, ids, blanks=self._recipe.blanks)
        named = ", ".join(
            f"{mark} {tokenizer.convert_tokens_to_ids(mark)}" for mark in dict.fromkeys(marks_of(text))
        )
        marks = f"its marks are their own: {named}" if named else "it has no marks"
        brought = "the folder's, used" if not literal else "the folder has none"
        if literal and tokenizer.chat_template:
            brought = "the folder's is not used: these weights are asked in their authors' own words"
        return {
            "tokens": f"the empty prompt is {len(ids)} tokens, {marks}",
            "chat template": brought,
            "decoding": self._loaded.decoding.told,
        }

    def _adds_start(self, text: str) -> bool:
        """Whether the tokenizer's own start token goes in front: never a second one, never an end token behind."""
        tokenizer = self._loaded.tokenizer
        ids = tokenizer(text).input_ids
        start = tokenizer.bos_token_id
        return (
            start is not None
            and ids[:1] == [start]
            and ids[1:2] != [start]
            and ids[-1] not in self._loaded.ends
        )

    def _prompt(self, request: Request) -> list[int]:
        if request.task not in self.tasks or request.language not in self.languages:
            self._refuse(request)
        if request.task is Task.STRUCTURED:
            request = replace(request, schema=self._schema(request))
        ids = self.prompt_ids(word_question(self._prompts, request))
        room = self._loaded.positions - self._room
        if len(ids) > room:
            message = (
                f"the text takes {len(ids)} tokens and {self.model_id} has room for {room}: "
                "nothing is cut; use a model with more positions"
            )
            raise FailStudy("text-too-long", message)
        return ids

    def _refuse(self, request: Request) -> NoReturn:
        tasks = ", ".join(sorted(self.tasks))
        reads = "" if request.task in TEXT_TASKS else " and reads no images: name a model of images for that"
        raise unsupported(self.model_id, request, f"it does {tasks}{reads}")

    def _schema(self, request: Request) -> str:
        return (request.schema or report_schema()) if request.task is Task.STRUCTURED else ""

    def _constrain(self, schemas: Sequence[str]) -> Callable[[Sequence[int]], JsonProcessor] | None:
        if not any(schemas):
            return None
        if self._constraint is None:
            width = self._loaded.network.get_output_embeddings().out_features
            self._constraint = JsonConstraint(self._loaded.tokenizer, width, self._loaded.ends)
        constraint = self._constraint
        return lambda rows: constraint.processor([schemas[row] for row in rows])

    def _template(self) -> str:
        brought = self._loaded.tokenizer.chat_template
        return self._recipe.literal(brought) or f"{self._recipe.system}\n{brought}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        vars(self).pop("_loaded", None)  # closing twice is allowed
        gc.collect()


def open_text(entry: CatalogEntry, choice: ModelChoice, cache: Path) -> TextFamily:
    """The family of a catalogue entry with the weights of ``choice``."""
    return TextFamily(entry, choice.folder(entry), precision=choice.precision)
