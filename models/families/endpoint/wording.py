"""How each family behind a server is asked, and how its answers are read.

The words are those its authors publish (the prompt files name the source); the worker applies the family's own chat
template and preprocessing. Coordinates come back in the family's convention and leave as pixels of the original
image. What cannot be read keeps its text and has no labels or places.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from models.catalog import CatalogEntry
from models.drafting.json_values import json_value, refuse_constant
from models.families.endpoint.dialects import DIALECTS, dialect_wording
from models.families.endpoint.template import fill
from models.family import Answer, Request, SeenImage, Task, unsupported
from models.prompts import Wordings, read_wordings
from pipeline.errors import ConfigurationError, FailStudy
from pipeline.report import Label, Place, Region

_BOX100 = re.compile(
    r"<\|ref\|>(?P<name>.*?)<\|/ref\|>|<\|box\|>\s*\((?P<x0>\d{1,4}),\s*(?P<y0>\d{1,4})\),\s*"
    r"\((?P<x1>\d{1,4}),\s*(?P<y1>\d{1,4})\)\s*<\|/box\|>",
    re.S,
)
_OBJECT = re.compile(r"<obj>(?P<words>.*?)</obj>", re.S)
_MAIRA_BOX = re.compile(
    r"<box>\s*<x(?P<x0>\d{1,2})>\s*<y(?P<y0>\d{1,2})>\s*<x(?P<x1>\d{1,2})>\s*<y(?P<y1>\d{1,2})>\s*</box>"
)
_MAIRA_MARKS = re.compile(r"</?(?:obj|box)>|<[xy]\d{1,2}>")
_MARKS100 = re.compile(r"<\|/?ref\|>|<\|box\|>.*?<\|/box\|>", re.S)
_MARKS = re.compile(
    r"<\|[^|>]{1,40}\|>|</?s>|\[/?INST\]|<(?:image|Img)|</?(?:think|thinking|answer)>|<unused9[45]>", re.I
)
"""What served models read as the end of a turn or the place of an image: vLLM and its kind tokenise it as such."""
_SEPARATORS = re.compile(r"\s*(?:[,;\n、，；]|\band\b)\s*")
_LETTERED = re.compile(r"^\(?([a-z])[).:]\s*", re.I)

Reader = Callable[[str, Request, SeenImage | None], Answer]


class Speaking(Protocol):
    """How a served family is asked and answers.

    ``frontal`` says that it reads studies with a frontal film only, which then is the first image; ``lateral`` and
    ``prior`` that it takes a lateral and an earlier frontal film too. ``lacks`` are tasks of the family that a server
    cannot be asked. ``digest`` is of its words.
    """

    @property
    def frontal(self) -> bool: ...

    @property
    def lateral(self) -> bool: ...

    @property
    def prior(self) -> bool: ...

    @property
    def lacks(self) -> frozenset[Task]: ...

    @property
    def digest(self) -> str: ...

    def ask(
        self, request: Request, roles: Sequence[str], seen: Sequence[SeenImage], modality: str
    ) -> tuple[str, list[str]]:
        """The system's words, "" for none, and the user's texts between the places of images.

        ``roles`` names each image that will be sent ("image", "lateral", "prior"), ``seen`` those that regions lie on.
        Raises ConfigurationError for what the family does not do, FailStudy for what this study cannot be asked.
        """
        ...

    def read(self, text: str, request: Request, seen: Sequence[SeenImage]) -> Answer:
        """The answer read, not yet marked as truncated; never raises."""
        ...

    def padding(self, task: Task) -> tuple[int, int, int] | None:
        """The colour with which images are padded to a square, their middle kept; None where they are not."""
        ...

    def alone(self, task: Task) -> bool:
        """Whether the first image is sent without the others of the study."""
        ...


@dataclass(frozen=True, slots=True)
class Wording:
    """See Speaking: the words of a prompt file, read by ``reader``."""

    prompts: Wordings
    system: str = ""
    reader: Reader = field(default=lambda text, request, seen: read_plain(text, request, seen))
    frontal: bool = False
    lateral: bool = False
    prior: bool = False
    lacks: frozenset[Task] = frozenset()
    one_image: frozenset[Task] = frozenset()

    @property
    def digest(self) -> str:
        """SHA-256 of the prompt file."""
        return self.prompts.digest

    def alone(self, task: Task) -> bool:
        """See Speaking."""
        return task in self.one_image

    def padding(self, task: Task) -> tuple[int, int, int] | None:
        """See Speaking: never."""
        return None

    def read(self, text: str, request: Request, seen: Sequence[SeenImage]) -> Answer:
        """See Speaking."""
        return self.reader(text, request, seen[0] if seen else None)

    def ask(
        self, request: Request, roles: Sequence[str], seen: Sequence[SeenImage], modality: str
    ) -> tuple[str, list[str]]:
        """See Speaking."""
        return self.system, self._texts(request, roles)

    def _texts(self, request: Request, roles: Sequence[str]) -> list[str]:
        template = self.prompts.texts.get((request.variant or request.task.value, request.language))
        if template is None:
            done = ", ".join(
                sorted({name for name, language in self.prompts.texts if language is request.language})
            )
            raise unsupported("the served family", request, f"it does {done or 'nothing'}")
        values = _values(request)
        if request.task in (Task.SUMMARIZE, Task.STRUCTURED) and not request.text.strip():
            raise FailStudy("empty-request", f"{request.task} was asked of nothing: give it a text")
        if request.task in (Task.VQA, Task.TEXT_QA) and not request.question.strip():
            raise FailStudy("empty-request", f"{request.task} was asked without a question")
        if any(_MARKS.search(value) for value in values.values()):
            message = "the text holds a mark that models read as a command, not as text: it was not asked"
            raise FailStudy("special-token", message)
        return fill(
            template.replace("{maira_images}", _maira_images(roles)).replace("{columns}", _columns(roles)),
            values,
        )


def wording_of(entry: CatalogEntry) -> Speaking:
    """The wording of a catalogue entry. Raises ConfigurationError for a family that is not served this way."""
    spoken = dialect_wording(entry.id)
    if spoken is not None:
        return spoken
    made = _WORDINGS.get(entry.id)
    if made is None:
        known = ", ".join([*_WORDINGS, *DIALECTS])
        message = (
            f"{entry.id} cannot be asked through an endpoint: no wording for it here (there are: {known}); open its "
            "weights, or use openai-endpoint for plain text"
        )
        raise ConfigurationError("endpoint-family", message)
    return made(read_wordings(entry.prompts))


def read_plain(text: str, request: Request, seen: SeenImage | None) -> Answer:
    """The text as it is; labels where the answer is made of the names it could choose."""
    text = text.strip()
    return Answer(text, truncated=False, labels=_choose(text, request))


def read_boxes_of_100(text: str, request: Request, seen: SeenImage | None) -> Answer:
    """CheXagent-2's marks: ``<|ref|>name<|/ref|><|box|>(x1,y1),(x2,y2)<|/box|>``, 0-100 of the whole image."""
    places, name = [], request.target
    for found in _BOX100.finditer(text):
        if found["name"] is not None:
            name = found["name"].strip()
            continue
        corners = [int(found[key]) / 100 for key in ("x0", "y0", "x1", "y1")]
        region = _region(seen, *corners) if max(corners) <= 1 else None
        if region is not None:
            places.append(Place(name, region))
    plain = " ".join(_MARKS100.sub(" ", text).split())
    answer = read_plain(plain, request, seen)
    return Answer(answer.text, truncated=False, labels=answer.labels, places=tuple(places))


def read_maira(text: str, request: Request, seen: SeenImage | None) -> Answer:
    """MAIRA-2's objects: ``<obj>phrase <box><x10><y20><x30><y40></box></obj>``, 100 bins of the centre square.

    A bin stands for its middle, (bin + 0.5) / 100; the square is the middle of the current frontal film with the
    film's shorter side.
    """
    places = []
    for found in _OBJECT.finditer(text):
        phrase = " ".join(_MAIRA_MARKS.sub(" ", found["words"]).split())
        for box in _MAIRA_BOX.finditer(found["words"]):
            bins = [(int(box[key]) + 0.5) / 100 for key in ("x0", "y0", "x1", "y1")]
            region = _region(seen, *_from_centre_square(seen, bins)) if seen else None
            if region is not None:
                places.append(Place(phrase, region, text=phrase))
    plain = " ".join(_MAIRA_MARKS.sub(" ", text).split())
    return Answer(plain, truncated=False, places=tuple(places))


def read_cxrreportgen(text: str, request: Request, seen: SeenImage | None) -> Answer:
    """CXRReportGen's list of sentences, each with boxes or null: shares of the current frontal film, x first.

    Source: MicrosoftDocs/azure-ai-docs ``deploy-cxrreportgen.md``. A text of another form stays as it is.
    """
    try:
        stored = json.loads(text, parse_constant=refuse_constant)
        listed = stored["output"] if isinstance(stored, dict) else stored
        findings = [(one[0], one[1] or []) for one in listed]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return Answer(text.strip(), truncated=False)
    if not all(isinstance(words, str) and isinstance(boxes, list) for words, boxes in findings):
        return Answer(text.strip(), truncated=False)
    places = [
        Place(words.strip(), region, text=words.strip())
        for words, boxes in findings
        for box in boxes
        if (region := _shares(seen, box)) is not None
    ]
    plain = " ".join(words.strip() for words, _ in findings if words.strip())
    return Answer(plain, truncated=False, places=tuple(places))


def _shares(seen: SeenImage | None, box: object) -> Region | None:
    if not isinstance(box, list) or len(box) != 4:
        return None
    if any(isinstance(edge, bool) or not isinstance(edge, int | float) for edge in box):
        return None
    return _region(seen, *map(float, box))


def read_json(text: str, schema: str) -> str:
    """``text``, without a code fence, where it is one JSON value that is valid under ``schema`` (2020-12), else ""."""
    body = re.sub(r"\A```(?:json)?\s*(.*?)\s*```\Z", r"\1", text.strip(), flags=re.S)
    try:
        json_value(body, schema)
    except ValueError:
        return ""
    return body


def _values(request: Request) -> dict[str, str]:
    context = request.context
    options = request.options
    return {
        "question": request.question,
        "labels": ", ".join(request.labels),
        "options": "\n".join(options),
        "lettered": " ".join(
            f"({letter}) {option}" for letter, option in zip("abcdefghijklmnop", options, strict=False)
        ),
        "target": request.target,
        "text": request.text,
        "schema": request.schema,
        "indication": context.indication,
        "technique": context.technique,
        "comparison": context.comparison,
        "prior_report": context.prior_report,
    }


_COLUMNS = {"image": "frontal_image", "lateral": "lateral_image", "prior": "prior_image"}


def _columns(roles: Sequence[str]) -> str:
    """What CXRReportGen calls the images, in their order."""
    return ", ".join(_COLUMNS[role] for role in roles)


def _maira_images(roles: Sequence[str]) -> str:
    """How MAIRA-2's processor names its images; the prior film brings its report."""
    if "lateral" not in roles and "prior" not in roles:
        return "Given the current frontal image only<image>"
    words = "Given the current frontal image<image>"
    if "lateral" in roles:
        words += f"{'' if 'prior' in roles else ' and'} the current lateral image<image>"
    if "prior" in roles:
        words += " and the prior frontal image<image> PRIOR_REPORT: [[{prior_report}||N/A]]"
    return words


def _choose(text: str, request: Request) -> tuple[Label, ...]:
    """The names that the answer consists of; none where it holds anything else (a sentence may deny a name)."""
    names = request.options or request.labels
    if not names or request.task not in (Task.VQA, Task.TEXT_QA, Task.CLASSIFY):
        return ()
    by_name = {name.casefold(): name for name in names}
    by_letter = dict(zip("abcdefghijklmnop", names, strict=False))
    whole = text.strip().rstrip(".。").casefold()
    parts = [whole] if whole in by_name else [part for part in _SEPARATORS.split(whole) if part]
    chosen = set()
    for part in parts:
        lettered = _LETTERED.match(part)
        words = part[lettered.end() :] if lettered else part
        name = by_name.get(part) or by_name.get(words)
        if name is None and request.options and re.fullmatch(r"\(?[a-p][).:]?", part):
            name = by_letter.get(part.strip("().:"))
        if name is None:
            return ()
        chosen.add(name)
    if not chosen or (request.options and len(chosen) > 1):
        return ()
    return tuple(Label(name, name in chosen) for name in names)


def _from_centre_square(seen: SeenImage, corners: Sequence[float]) -> list[float]:
    """Fractions of the centre square as fractions of the whole image, x first."""
    side = min(seen.columns, seen.rows)
    left, top = (seen.columns - side) / 2, (seen.rows - side) / 2
    x0, y0, x1, y1 = corners
    return [
        (left + x0 * side) / seen.columns,
        (top + y0 * side) / seen.rows,
        (left + x1 * side) / seen.columns,
        (top + y1 * side) / seen.rows,
    ]


def _region(seen: SeenImage | None, x0: float, y0: float, x1: float, y1: float) -> Region | None:
    """A box in fractions of the whole image as pixels of the original; None where it is empty."""
    if seen is None or not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
        return None
    return Region(seen.ref, seen.frame, x0 * seen.columns, y0 * seen.rows, x1 * seen.columns, y1 * seen.rows)


def _plain(prompts: Wordings) -> Wording:
    return Wording(prompts)


_WORDINGS: Mapping[str, Callable[[Wordings], Wording]] = {
    "openai-endpoint": _plain,
    "maira-2": lambda prompts: Wording(
        prompts,
        system="You are an expert radiology assistant tasked with interpreting a chest X-ray study.",
        reader=read_maira,
        frontal=True,
        lateral=True,
        prior=True,
        one_image=frozenset({Task.DETECT}),
    ),
    "chexagent-2": lambda prompts: Wording(
        prompts, system="You are a helpful assistant.", reader=read_boxes_of_100, lateral=True
    ),
    "llava-rad": lambda prompts: Wording(prompts, frontal=True),
    "libra-7b": lambda prompts: Wording(prompts, frontal=True, prior=True),
    "libra-3b": lambda prompts: Wording(prompts, frontal=True, prior=True),
    "cxrreportgen": lambda prompts: Wording(
        prompts, reader=read_cxrreportgen, frontal=True, lateral=True, prior=True
    ),
    "hulu-med-4b": _plain,
    "hulu-med-30a3": _plain,
    "hulu-med-235a22": _plain,
    "hulu-med-flash-27b": _plain,
    "vila-m3-3b": lambda prompts: Wording(prompts, frontal=True),
    "vila-m3-8b": lambda prompts: Wording(prompts, frontal=True),
    "vila-m3-13b": lambda prompts: Wording(prompts, frontal=True),
    "hulu-med-7b": _plain,
    "hulu-med-14b": _plain,
    "hulu-med-32b": _plain,
    "radfm": _plain,
    "wingpt2-7b": _plain,
    "wingpt2-14b": _plain,
}
