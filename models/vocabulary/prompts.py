"""The prompts of firstread-mini by task and language, and the headings of its sections.

They are those of ``models/prompts/firstread-mini.toml``, so training and use cannot differ.
"""

from functools import cache

from models.family import Task
from models.prompts import read_prompts
from models.vocabulary.chinese import FINDINGS_HEADING_ZH, IMPRESSION_HEADING_ZH
from models.vocabulary.english import FINDINGS_HEADING, IMPRESSION_HEADING
from pipeline.report import Language

PROMPTS_FILE = "firstread-mini.toml"


@cache
def prompt_text(task: str, language: str) -> str:
    """The prompt of a task with its place-holders."""
    return read_prompts(PROMPTS_FILE).texts[Task(task), Language(language)]


def headed(section: str, text: str, language: str) -> str:
    """One section, "findings" or "impression", with its heading."""
    if language == "en":
        return f"{FINDINGS_HEADING if section == 'findings' else IMPRESSION_HEADING} {text}"
    return f"{FINDINGS_HEADING_ZH if section == 'findings' else IMPRESSION_HEADING_ZH}{text}"
