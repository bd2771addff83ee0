"""JSON under a schema: whatever a network with random weights prefers, what comes out is valid or truncated."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import LogitsProcessorList

from models.drafting.structured import JsonConstraint, read_structured, report_schema
from models.families.endpoint.wording import read_json
from models.families.text.recipes import RECIPES
from models.families.text.text_family import TextFamily
from models.family import Features, Request, Task
from pipeline.errors import ConfigurationError, StopRun
from tests.tiny_text import build_network, build_tokenizer, text_entry, write_text_model

TOKENIZER = build_tokenizer()
END = TOKENIZER.eos_token_id
LIMIT = 120


def schemas(depth: int = 2) -> st.SearchStrategy[dict[str, Any]]:
    """Schemas of the kinds that a site writes."""
    leaves = st.one_of(
        st.just({"type": "boolean"}),
        st.just({"type": "null"}),
        st.integers(0, 9).map(lambda low: {"type": "integer", "minimum": low, "maximum": low + 40}),
        st.integers(0, 8).map(lambda most: {"type": "string", "maxLength": most}),
        st.lists(
            st.sampled_from(["left", "right", "胸腔", 'a"b', "5", ""]), min_size=1, max_size=3, unique=True
        ).map(lambda values: {"enum": values}),
        st.sampled_from(["x", 3, True, None]).map(lambda value: {"const": value}),
    )
    if not depth:
        return leaves
    inner = schemas(depth - 1)
    names = st.sampled_from(["name", "side", "大小", "a b"])
    objects = st.dictionaries(names, inner, min_size=1, max_size=3).flatmap(
        lambda held: st.lists(st.sampled_from(sorted(held)), unique=True).map(
            lambda required: {
                "type": "object",
                "properties": held,
                "required": required,
                "additionalProperties": False,
            }
        )
    )
    arrays = st.tuples(inner, st.integers(0, 2), st.integers(0, 2)).map(
        lambda made: {"type": "array", "items": made[0], "minItems": made[1], "maxItems": made[1] + made[2]}
    )
    return st.one_of(
        leaves, objects, arrays, st.lists(inner, min_size=1, max_size=2).map(lambda some: {"anyOf": some})
    )


@pytest.fixture(scope="module")
def constraint() -> JsonConstraint:
    return JsonConstraint(TOKENIZER, len(TOKENIZER), [END])


@pytest.fixture(scope="module")
def networks() -> list[Any]:
    torch.set_num_threads(1)
    return [build_network("llama", len(TOKENIZER), seed) for seed in range(3)]


def write(
    network: Any, constraint: JsonConstraint, wanted: list[str], limit: int = LIMIT
) -> list[tuple[str, bool]]:
    prompts = torch.randint(10, len(TOKENIZER), (len(wanted), 5), generator=torch.Generator().manual_seed(0))
    rows = network.generate(
        input_ids=prompts,
        attention_mask=torch.ones_like(prompts),
        max_new_tokens=limit,
        do_sample=False,
        eos_token_id=[END],
        pad_token_id=TOKENIZER.pad_token_id,
        logits_processor=LogitsProcessorList([constraint.processor(wanted)]),
    )[:, 5:].tolist()
    texts = []
    for row in rows:
        end = row.index(END) if END in row else len(row)
        texts.append((str(TOKENIZER.decode(row[:end])), END not in row))
    return texts


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(schema=schemas(), other=schemas(), seed=st.integers(0, 2))
def test_what_comes_out_is_valid_or_truncated(
    constraint: JsonConstraint, networks: list[Any], schema: dict[str, Any], other: dict[str, Any], seed: int
) -> None:
    wanted = [json.dumps(schema), json.dumps(other)]
    for asked, (text, truncated) in zip(wanted, write(networks[seed], constraint, wanted), strict=True):
        structured = read_structured(text, asked, truncated=truncated)
        if truncated:
            assert structured == ""
        else:
            jsonschema.validate(json.loads(structured), json.loads(asked))
            assert json.loads(structured) == json.loads(text)


def test_without_the_constraint_these_networks_write_no_json(
    networks: list[Any], constraint: JsonConstraint
) -> None:
    (text, truncated), _ = write(networks[0], constraint, ["", json.dumps({"type": "boolean"})], limit=12)
    assert read_structured(text, "{}", truncated=truncated) == ""


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "boolean"},
        {"type": "object", "properties": {"side": {"enum": ["left", "right"]}}, "required": ["side"]}
        | {"additionalProperties": False},
        {
            "type": "array",
            "items": {"type": "integer", "minimum": 0, "maximum": 9},
            "minItems": 3,
            "maxItems": 3,
        },
    ],
)
def test_a_schema_that_bounds_its_answer_always_gets_one(
    networks: list[Any], constraint: JsonConstraint, schema: dict[str, Any]
) -> None:
    asked = json.dumps(schema)
    for network in networks:
        for text, truncated in write(network, constraint, [asked, asked]):
            jsonschema.validate(json.loads(read_structured(text, asked, truncated=truncated)), schema)


def test_a_cut_answer_is_never_passed_on(networks: list[Any], constraint: JsonConstraint) -> None:
    schema = json.dumps({"type": "integer", "minimum": 100000, "maximum": 999999})
    ((text, truncated),) = write(networks[0], constraint, [schema], limit=2)
    assert truncated
    assert read_structured(text, schema, truncated=truncated) == ""
    assert (
        read_structured("12", '{"type": "integer"}', truncated=True) == ""
    )  # "12" of "123" is valid JSON too


def test_free_rows_beside_constrained_ones_write_what_they_would(
    networks: list[Any], constraint: JsonConstraint
) -> None:
    schema = json.dumps({"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]})
    free = write(networks[1], constraint, ["", ""], limit=10)
    beside = write(networks[1], constraint, ["", schema], limit=10)
    assert beside[0] == free[0]
    assert beside[1] != free[1]


def test_embeddings_in_front_are_no_part_of_the_json(networks: list[Any], constraint: JsonConstraint) -> None:
    network = networks[0]
    schema = json.dumps({"enum": ["left", "right"]})
    embedded = network.get_input_embeddings()(torch.tensor([[11, 12, 13]]))
    row = network.generate(
        inputs_embeds=embedded,
        attention_mask=torch.ones(1, 3, dtype=torch.int64),
        max_new_tokens=20,
        do_sample=False,
        eos_token_id=[END],
        pad_token_id=5,
        logits_processor=LogitsProcessorList([constraint.processor([schema])]),
    )[0].tolist()
    assert json.loads(str(TOKENIZER.decode(row[: row.index(END)]))) in ("left", "right")


@pytest.mark.parametrize("schema", ["not json", '{"type": "thing"}', '{"not": {"type": "string"}}', "[]"])
def test_a_schema_that_cannot_be_enforced_is_refused(constraint: JsonConstraint, schema: str) -> None:
    with pytest.raises(ConfigurationError, match="schema"):
        constraint.processor([schema])


def test_a_tokenizer_without_bytes_is_refused() -> None:
    with pytest.raises(StopRun, match="constrained"):
        JsonConstraint(object(), 10, [1])


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": 1', "", '{"a": "x"}', '{"a": 1} more'])
def test_invalid_text_is_not_structured(text: str) -> None:
    schema = json.dumps({"type": "object", "properties": {"a": {"type": "number"}}})
    assert read_structured(text, schema, truncated=False) == ""


TENTHS = '{"type": "number", "multipleOf": 0.1}'


def test_numbers_are_judged_as_they_are_written() -> None:
    """33 of these 100 are no multiple of 0.1 to jsonschema, which divides doubles."""
    for tenths in range(100):
        text = f"{tenths // 10}.{tenths % 10}"
        assert json.loads(read_structured(text, TENTHS, truncated=False)) == tenths / 10
        assert read_json(text, TENTHS) == text
    for other in ("0.35", "1e-400", "1e400", "1e308.", '"1"'):
        assert read_structured(other, TENTHS, truncated=False) == read_json(other, TENTHS) == "", other
    assert read_structured("1e300", TENTHS, truncated=False) == "1e+300"
    assert read_structured("5.0", '{"type": "integer"}', truncated=False) == "5.0"
    assert read_structured('{"a": 1e400}', "{}", truncated=False) == ""


def test_the_report_schema_takes_a_report() -> None:
    answer = {
        "findings": [
            {
                "name": "Pleural effusion",
                "present": True,
                "side": "left",
                "zone": "lower",
                "severity": "small",
            },
            {"name": "pneumothorax", "present": False, "side": "none", "zone": "none", "severity": ""},
            {"name": "rib fracture", "present": True, "side": "right", "zone": "none", "severity": ""},
        ],
        "impression": "Small left effusion.",
    }
    text = read_structured(json.dumps(answer), report_schema(), truncated=False)
    assert json.loads(text) == answer


def test_a_text_family_writes_the_default_report(tmp_path: Path) -> None:
    recipe = replace(RECIPES["text-llm"], max_new_tokens=100)
    with TextFamily(text_entry("text-llm"), write_text_model(tmp_path), recipe=recipe) as family:
        request = Request(Task.STRUCTURED, text="No pneumothorax.")
        (answer,) = family.answer([Features((), {})], [request])
        assert answer.truncated == (answer.structured == "")
        if not answer.structured:
            assert answer.text.startswith('{"findings": [')
