"""The picture of what was measured on real films: every figure is in it, at its place, and it is the same each time."""

import xml.etree.ElementTree as Xml
from pathlib import Path

from models.training.real_plot import NAMES, draw_real

AREA = {"collection": "all", "rule": 0.7, "interval": (0.6, 0.8), "thumbnail": 0.6, "small network": 0.65}
CLAIM = {
    "labelled stated or possible": 0.4,
    "labelled 95 %": (0.3, 0.5),
    "unlabelled stated or possible": 0.1,
    "unlabelled 95 %": None,
}


def rows(**more: object) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    areas = [{"finding": name, **AREA, **more} for name in NAMES]
    return areas, [{"finding": name, **CLAIM} for name in NAMES if name != "abnormal"]


def test_every_finding_and_both_baselines_are_named_and_the_picture_repeats_itself(tmp_path: Path) -> None:
    areas, claims = rows()
    other = {"finding": "nodule", **AREA, "collection": "nih64", "rule": 0.99}
    draw_real([*areas, other], claims, tmp_path / "a.svg")
    draw_real(areas, claims, tmp_path / "b.svg")
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert text == (tmp_path / "b.svg").read_text(encoding="utf-8"), "a collection by itself is not drawn"
    words = " ".join("".join(node.itertext()).strip() for node in Xml.fromstring(text).iter())
    for name in (*NAMES.values(), "thumbnail and histogram", "small network from nothing", "goal"):
        assert name in words


def test_another_figure_is_another_picture(tmp_path: Path) -> None:
    draw_real(*rows(), tmp_path / "a.svg")
    draw_real(*rows(rule=0.71), tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() != (tmp_path / "b.svg").read_bytes()
