"""A Uni-Med checkpoint as its authors' trainer saves one, turned into a folder that opens."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.catalog import show
from models.families.uni_med.uni_med_family import UniMedFamily
from models.family import Request, Task
from models.networks.uni_med import ADAPTER_FOLDER, LANGUAGE_FOLDER, load_encoder
from models.training.convert_uni_med import TrainedAs, convert, main
from pipeline.errors import ConfigurationError, StopRun
from tests.engines import ENGINES
from tests.plain_uni_med import TASKS, PlainConnector
from tests.tiny_model import film_study
from tests.tiny_uni_med import CONFIG, WIDTH, write_uni_med

TOKEN_WIDTH = CONFIG.token_width


def theirs(folder: Path, kind: str = "moe_mlp", router: str = "soft") -> tuple[PlainConnector, Path]:
    """A folder with ``checkpoint``, ``tower`` and ``language`` in their names, and the connector that it holds."""
    torch.manual_seed(3)
    ours = write_uni_med(folder / "ours")
    connector = PlainConnector(TOKEN_WIDTH, WIDTH, 5, kind, router).eval()
    saved = {name: one.detach().clone() for name, one in connector.state_dict().items()}
    for name, one in load_file(ours / ADAPTER_FOLDER / "adapter_model.safetensors").items():
        saved[f"llm_model.{name.removesuffix('.weight')}.default.weight"] = one
    saved["llm_model.base_model.model.model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    save_file(saved, folder / "checkpoint.safetensors")
    tower = {
        name.removeprefix("tower."): one
        for name, one in load_file(ours / "model.safetensors").items()
        if name.startswith("tower.")
    }
    save_file({**tower, "head.weight": torch.ones(2, 2)}, folder / "tower.safetensors")
    return connector, ours / LANGUAGE_FOLDER


def converted(folder: Path, language: Path, **trained: Any) -> Path:
    out = folder / "out"
    settings = TrainedAs(heads=CONFIG.vision.heads, **trained)
    convert(folder / "checkpoint.safetensors", folder / "tower.safetensors", language, out, settings)
    return out


@pytest.mark.parametrize(
    ("kind", "router"), [("moe_mlp", "soft"), ("moe_linear", "soft"), ("moe_mlp", "sparse")]
)
def test_the_connector_computes_what_theirs_does(tmp_path: Path, kind: str, router: str) -> None:
    connector, language = theirs(tmp_path, kind, router)
    encoder = load_encoder(converted(tmp_path, language, router_type=router))
    pixels = torch.randn(2, 3, 56, 56, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        seen = torch.nn.functional.layer_norm(encoder.tower(pixels), (CONFIG.vision.width,))[:, 1:]
        for number, task in enumerate(TASKS):
            wanted = connector(seen.reshape(2, -1, TOKEN_WIDTH), task)
            torch.testing.assert_close(
                encoder(pixels, torch.full((2,), number)), wanted, rtol=1e-4, atol=1e-5
            )


def test_the_folder_opens_and_answers(tmp_path: Path) -> None:
    _, language = theirs(tmp_path)
    out = converted(tmp_path, language)
    with UniMedFamily(show("uni-med"), out, ENGINES, threads=1) as family:
        features = family.encode([film_study(0)])
        assert family.answer(features, [Request(Task.REPORT)])[0].text
    before = load_file(tmp_path / "ours" / ADAPTER_FOLDER / "adapter_model.safetensors")
    after = load_file(out / ADAPTER_FOLDER / "adapter_model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_what_cannot_be_converted_is_refused_with_what_to_do(tmp_path: Path) -> None:
    _, language = theirs(tmp_path)
    (tmp_path / "checkpoint.pth").write_bytes(b"\x80\x04")
    files = [
        "--tower",
        str(tmp_path / "tower.safetensors"),
        "--language",
        str(language),
        "--out",
        str(tmp_path / "o"),
    ]
    with pytest.raises(ConfigurationError, match="pickles are never opened"):
        main(["--checkpoint", str(tmp_path / "checkpoint.pth"), *files])
    path = tmp_path / "checkpoint.safetensors"
    whole = load_file(path)
    save_file({**whole, "llm_model.model.embed_tokens.weight": torch.ones(2, 2)}, path)
    with pytest.raises(ConfigurationError, match="save_pretrained"):
        converted(tmp_path, language)
    save_file({name: one for name, one in whole.items() if not name.startswith("router")}, path)
    with pytest.raises(ConfigurationError, match="no Uni-Med as its authors save one"):
        converted(tmp_path, language)
    save_file({name: one for name, one in whole.items() if "layers.1.self_attn" not in name}, path)
    with pytest.raises(StopRun):
        converted(tmp_path, language)
