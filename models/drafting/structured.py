"""Answers under a JSON Schema: the tokens that would break it are ruled out while the text is written.

The grammar is llguidance's (docs/decisions/0013). It works with every network that transformers' ``generate`` drives,
text or images, ids or embeddings in: pass :meth:`JsonConstraint.processor` in ``logits_processor``. What a length
limit cut is not valid and is never passed on as if it were: :func:`read_structured`.
"""

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import numpy as np
from llguidance import LLMatcher, LLTokenizer

from models.drafting.json_values import json_value
from pipeline.errors import ConfigurationError, StopRun

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

REPORT_SCHEMA_FILE = Path(__file__).parents[1] / "prompts" / "report.schema.json"
_LAYOUT: "JsonCompileOptions" = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""One way to space a text: a model cannot spend its limit on white space, which JSON allows without end."""


def report_schema() -> str:
    """The default schema of a structured report, as text."""
    return REPORT_SCHEMA_FILE.read_text(encoding="utf-8")


class JsonConstraint:
    """Holds a tokenizer in the form that grammars need; make one per model. Safe to share between threads."""

    def __init__(self, tokenizer: Any, vocabulary: int, ends: Sequence[int]) -> None:
        """Wrap a fast transformers ``tokenizer``.

        ``vocabulary`` is the width of the network's logits, ``ends`` are the ids that end a text. Raises StopRun for
        a tokenizer whose tokens are not pieces of text in the order of their bytes.
        """
        try:
            backend = type(tokenizer.backend_tokenizer).from_str(tokenizer.backend_tokenizer.to_str())
            backend.no_padding()
            backend.no_truncation()
            self._tokenizer = LLTokenizer(backend.to_str(), n_vocab=vocabulary, eos_token=list(ends))
        except (AttributeError, ValueError) as error:
            raise StopRun(
                "structured", f"this tokenizer cannot be constrained to a schema ({error}); use another model"
            ) from None
        self._vocabulary = vocabulary

    def processor(self, schemas: Sequence[str]) -> "JsonProcessor":
        """A logits processor for one call of ``generate`` with as many rows; "" leaves a row free.

        Raises ConfigurationError for a schema that is not one or that cannot be enforced.
        """
        return JsonProcessor(
            [self._matcher(schema) if schema else None for schema in schemas], self._vocabulary
        )

    def _matcher(self, schema: str) -> LLMatcher:
        matcher = LLMatcher(self._tokenizer, _grammar(schema), log_level=0)
        if matcher.is_error():
            fault = matcher.get_error().splitlines()[0]
            raise ConfigurationError("schema", f"this JSON Schema cannot be enforced while writing: {fault}")
        return matcher


@lru_cache(maxsize=64)
def _grammar(schema: str) -> str:
    try:
        parsed = json.loads(schema)
        jsonschema.Draft202012Validator.check_schema(parsed)
    except (ValueError, jsonschema.SchemaError) as error:
        fault = getattr(error, "message", str(error))
        raise ConfigurationError("schema", f"the schema is not a JSON Schema (2020-12): {fault}") from None
    return LLMatcher.grammar_from_json_schema(parsed, overrides=_LAYOUT)


class JsonProcessor:
    """Sets the logits of every token that the schema does not allow next to minus infinity.

    Follows the rows from the first call on, so that the prompt, as ids or as embeddings, is no part of the JSON.
    One instance serves one call of ``generate``.
    """

    supports_continuous_batching = False

    def __init__(self, matchers: Sequence[LLMatcher | None], vocabulary: int) -> None:
        """One matcher per row, None for a row that is free."""
        self._matchers, self._vocabulary = matchers, vocabulary
        self._read: int | None = None

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """See transformers' ``LogitsProcessor``: ids [rows, length] and scores [rows, vocabulary]."""
        import torch  # reading a schema or an answer needs none of it

        length = input_ids.shape[1]
        start = length if self._read is None else self._read
        fresh = input_ids[:, start:length].tolist()
        self._read = length
        allowed = np.ones((len(self._matchers), self._vocabulary), np.bool_)
        for row, matcher in enumerate(self._matchers):
            if matcher is None:
                continue
            for token in fresh[row]:
                # after its end a row is only filled up, with whatever the padding is
                if not matcher.is_stopped() and not matcher.consume_token(token):
                    raise StopRun(
                        "structured", "the text left its schema while it was written; report this fault"
                    )
            # where nothing can follow, the mask leaves the end tokens alone
            mask = np.frombuffer(matcher.compute_bitmask(), np.uint8)
            allowed[row] = np.unpackbits(mask, bitorder="little")[: self._vocabulary]
            if matcher.is_error():
                raise StopRun("structured", "the schema grew too complex while it was followed; simplify it")
        return scores.masked_fill(~torch.from_numpy(allowed).to(scores.device), float("-inf"))


def read_structured(text: str, schema: str, *, truncated: bool) -> str:
    """``text`` where it is whole and valid under ``schema``, as compact JSON; "" where it is not.

    See :func:`models.drafting.json_values.json_value`.
    """
    if truncated:
        return ""
    try:
        return json.dumps(json_value(text, schema), ensure_ascii=False)
    except ValueError:
        return ""
