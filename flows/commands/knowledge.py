"""``firstread knowledge load`` and ``list``, and ``ask --task knowledge``: answers that cite a site's own files."""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from flows.commands import table as display
from flows.commands.json_text import json_text
from flows.environment.site_models import chosen_model
from flows.knowledge import LoadedFolder, configured, found, load_all
from flows.tally import ALL_WELL, SOME_FAILED
from models.catalog import show
from models.drafter import open_model
from models.drafting.tasks import NO_FEATURES, check_family
from models.family import Request, Task
from models.model_choice import ModelChoice
from models.prompts import read_prompts
from pipeline.errors import FailStudy, RetryLater
from pipeline.knowledge.citing import judged
from pipeline.passages import FoundPassage
from pipeline.report import Language
from pipeline.settings import Settings
from pipeline.store.opening import open_store

NOT_IN_BASE = "not in the knowledge base"
BANNER = "Quoted from this site's own files, which Firstread has not verified. Not for clinical use."
PASSAGES_THEMSELVES = "the passages themselves"


@dataclass(frozen=True, slots=True)
class Consulted:
    """The answer to one question. ``text`` is a model's, "" where the passages themselves are the answer."""

    passages: tuple[FoundPassage, ...]
    text: str = ""
    model: str = ""
    remark: str = ""


def load_knowledge(settings: Settings, *, as_json: bool) -> int:
    """Bring the folders into the store; 1 where a file was refused. Raises as ``flows.knowledge.load_all``."""
    bases = configured(settings)
    with open_store(settings) as store:
        did = list(load_all(store, bases))
    if as_json:
        sys.stdout.write(json_text([_plain(one) for one in did]) + "\n")
    else:
        for one in did:
            sys.stdout.write(
                f"{one.base}: {one.loaded} files loaded with {one.passages} passages, {one.unchanged} unchanged, "
                f"{one.removed} removed, {len(one.refused)} refused\n"
            )
            _name_refused(one)
    return SOME_FAILED if any(one.refused for one in did) else ALL_WELL


def list_knowledge(settings: Settings, *, as_json: bool) -> None:
    """Show what is loaded of each base."""
    bases = configured(settings)
    with open_store(settings) as store:
        loaded = {one.base: one for one in store.knowledge.listed()}
    rows = [(one.name, loaded.get(one.name), str(one.path)) for one in bases]
    if as_json:
        told = [
            {
                "base": name,
                "path": path,
                "files": has.files if has else 0,
                "passages": has.passages if has else 0,
            }
            for name, has, path in rows
        ]
        sys.stdout.write(json_text(told) + "\n")
        return
    for name, has, path in rows:
        holds = f"{has.files} files, {has.passages} passages" if has else "not loaded"
        sys.stdout.write(f"{name}: {holds}; {path}\n")


def ask_knowledge(settings: Settings, question: str, model: str, language: str, *, as_json: bool) -> int:
    """Load what changed, answer ``question`` and cite; returns 0, also where the answer is not in the base.

    Raises ConfigurationError for a model that does not answer questions on text, and as ``flows.knowledge`` does.
    """
    bases = configured(settings)
    spoken = Language(language or settings.policy.language)
    choice = _answering(settings, model, spoken)
    with open_store(settings) as store:
        for did in load_all(store, bases):
            _name_refused(did)
        passages = found(store, bases, question)
    answer = Consulted(passages)
    if passages and choice is not None:
        answer = _asked_of(settings, choice, question, passages, spoken)
    if as_json:
        told = {"notice": BANNER, "question": question, "found": bool(answer.passages), **asdict(answer)}
        sys.stdout.write(json_text(told) + "\n")
    else:
        _show(answer, question)
    return ALL_WELL


def numbered(passages: Sequence[FoundPassage]) -> str:
    """Passages as a prompt shows them."""
    return "\n\n".join(f"[{at}] {one.title}\n{one.text}" for at, one in enumerate(passages, 1))


def _answering(settings: Settings, model: str, language: Language) -> ModelChoice | None:
    """The model that words the answer; None where none was named and the site's own does not answer from texts."""
    choice = chosen_model(settings, model)
    return choice if model or show(choice.id).does(Task.TEXT_QA, language) else None


def _asked_of(
    settings: Settings,
    choice: ModelChoice,
    question: str,
    passages: tuple[FoundPassage, ...],
    language: Language,
) -> Consulted:
    template = read_prompts("knowledge.toml").texts[Task.TEXT_QA, language]
    before, _, after = template.partition("{passages}")
    words = f"{before}{numbered(passages)}{after.replace('{question}', question)}"
    request = Request(Task.TEXT_QA, language, question=words.strip())
    with open_model(choice, settings.data_dir / "engines") as family:
        check_family(family, request)
        try:
            (told,) = family.answer([NO_FEATURES], [request])
        except (FailStudy, RetryLater) as error:
            return Consulted(passages, model=choice.id, remark=f"{choice.id} gave no answer: {error.message}")
    verdict = judged(told.text, question, passages)
    if verdict.unknown:
        remark = f"{choice.id} says that these passages do not answer the question"
        return Consulted(passages, model=choice.id, remark=remark)
    if verdict.fault or told.truncated:
        fault = verdict.fault or "it was cut short"
        return Consulted(passages, model=choice.id, remark=f"what {choice.id} wrote is not shown: {fault}")
    return Consulted(passages, told.text.strip(), choice.id)


def _plain(did: LoadedFolder) -> dict[str, object]:
    refused = [{"path": path, "why": why} for path, why in did.refused]
    return {**asdict(did), "refused": refused, "left_out": dict(did.left_out)}


def _name_refused(did: LoadedFolder) -> None:
    for path, why in did.refused:
        sys.stderr.write(f"{did.base}: {path} is not part of the knowledge base: {why}\n")
    for kind, count in sorted(did.left_out.items()):
        sys.stderr.write(f"{did.base}: {count} resources of type {kind} were left out\n")


def _show(answer: Consulted, question: str) -> None:
    if not answer.passages:
        sys.stdout.write(f"{NOT_IN_BASE}\n")
        return
    rows = [("", answer.text)] if answer.text else []
    rows += [
        (f"[{at}] {one.base}: {one.path}, {one.place}", f"{one.title}\n{one.text}" if one.title else one.text)
        for at, one in enumerate(answer.passages, 1)
    ]
    if answer.remark:
        sys.stderr.write(f"{answer.remark}\n")
    by = f"answer of {answer.model}" if answer.text else PASSAGES_THEMSELVES
    display.rows_table(("", by), rows, title=question, caption=BANNER)
