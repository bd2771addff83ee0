"""The label networks: their shape, what ships of them, and how they learn from labelled films."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from models.families.mini.films import RULED
from models.networks.label_net import FINDINGS, SIZE, LabelMember, LabelNet, on_one_scale
from models.training import fit_labels
from models.training.fit_labels import TARGETS, Labels, fit, read_folds, score, taught_films, train
from models.training.real_sources import Film, held_back
from models.training.varied_films import varied

COUNT, SMALL = 24, 64


def films(source: str = "nih-more") -> list[Film]:
    """Films of patients that are not held back, every other one labelled with an effusion and a fibrosis."""
    patients = [number for number in range(200) if not held_back(number)][:COUNT]
    return [
        Film(
            source,
            Path(f"{number}.png"),
            str(number),
            "PA",
            ("Effusion", "Fibrosis") if place % 2 else ("No Finding",),
        )
        for place, number in enumerate(patients)
    ]


def pixels() -> torch.Tensor:
    """Films of noise; those with the label are bright below."""
    grey = np.random.default_rng(0).integers(0, 120, (COUNT, SMALL, SMALL)).astype(np.uint8)
    grey[1::2, SMALL // 2 :] += 100
    return torch.from_numpy(grey)


def test_what_ships_says_what_was_trained() -> None:
    torch.manual_seed(0)
    member = LabelMember(len(TARGETS), training=True)
    for module in member.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
            nn.init.uniform_(module.running_mean, -0.1, 0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.1, 1)  # type: ignore[arg-type]
    member.eval()
    shown = on_one_scale(torch.rand(3, 1, SMALL, SMALL))
    shipped = member.folded(FINDINGS)
    torch.testing.assert_close(shipped(shown), member(shown)[:, :FINDINGS], atol=1e-5, rtol=1e-4)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in shipped.modules())


def test_a_film_is_read_small_whatever_its_scale_of_greys_and_whatever_is_read_with_it() -> None:
    torch.manual_seed(0)
    network, given = LabelNet(192).eval(), torch.rand(3, 1, 192, 192)
    assert len(RULED) == FINDINGS
    assert network.smaller(given).shape == (3, 1, SIZE, SIZE)
    told = network(given)
    assert told.shape == (3, FINDINGS)
    torch.testing.assert_close(told, network(given * 0.5 + 0.2), atol=0.01, rtol=0.01)
    torch.testing.assert_close(told[1:2], network(given[1:2]), atol=1e-6, rtol=1e-5)
    alone = [member(on_one_scale(network.smaller(given))) for member in network.members]
    torch.testing.assert_close(told, sum(alone[1:], alone[0]) / len(alone))


def test_a_collection_teaches_what_it_has_with_and_without_and_no_other_film_does() -> None:
    chosen = Film("nih", Path("a.png"), "1", "PA", ("Pneumonia", "Edema", "Fibrosis"))
    gathered = [*films(), *films("nih")[::2], *films("kermany"), *films("wingspan"), chosen]
    labels, taught = Labels.of(gathered), [*range(COUNT), len(gathered) - 1]
    assert taught_films(gathered).tolist() == taught, "nor those of nih that were gathered as normal"
    assert labels.known.any(dim=1).nonzero().flatten().tolist() == taught
    kept = next(number for number in range(200) if held_back(number))
    assert not len(taught_films([Film("nih-more", Path("a.png"), str(kept), "PA", ("Mass",))]))
    known, true = (
        {TARGETS[one] for one in row.nonzero().flatten().tolist()}
        for row in (labels.known[-1], labels.true[-1])
    )
    assert {*TARGETS} - known == {
        "consolidation",
        "abnormal",
        "Atelectasis",
        "Infiltration",
        "Edema",
        "Consolidation",
    }
    assert true == {"Fibrosis"}
    assert len({*labels.collection[taught].tolist()}) == 2
    assert not labels.true[:COUNT:2].any()


def test_an_offset_takes_what_tells_collections_apart() -> None:
    """Films of one collection are all labelled and of the other none is: the offsets learn it, too."""
    run, true = fit_labels.LabelTraining.begin(0, 12), torch.zeros(COUNT, len(TARGETS))
    true[1::2] = 1
    labels = Labels(true, torch.ones_like(true), torch.arange(COUNT) % 2)
    for _ in range(12):
        run.step(pixels()[:, None].float() / 255, labels, labels.rare)
    offsets = run.offsets.detach()
    assert (offsets[1] > offsets[0] + 0.005).all()
    assert not offsets[2].any()
    unknown = Labels(true, torch.zeros_like(true), labels.collection)
    unknown.known[:, 0] = 1
    run = fit_labels.LabelTraining.begin(0, 12)
    run.step(pixels()[:, None].float() / 255, unknown, unknown.rare)
    assert run.offsets.grad is not None
    assert run.offsets.grad[:2, 0].all()
    assert not run.offsets.grad[:, 1:].any(), "what is not known teaches nothing"


def test_it_learns_from_labels_and_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit_labels, "TOGETHER", 8)
    labels = Labels.of(films())

    def learned(kept: Path, *stops: int) -> np.ndarray:
        for stop in (*stops, 12):
            member = train(pixels(), labels, 0, kept, 12, stop)
        return score([member], pixels())

    straight = learned(tmp_path / "a.pt")
    np.testing.assert_array_equal(straight, learned(tmp_path / "b.pt", 3, 7))
    effusion = straight[:, RULED.index("pleural_effusion")]
    assert effusion[1::2].min() > effusion[0::2].max()


def test_a_film_is_scored_by_networks_that_never_saw_its_patient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, int] = {}

    def remembered(shown: torch.Tensor, _: Labels, __: int, kept: Path, ___: int) -> LabelMember:
        seen[kept.stem] = len(shown)
        return LabelMember(FINDINGS).eval()

    monkeypatch.setattr(fit_labels, "train", remembered)
    chosen = [*films(), *films("kermany")]
    members, told = fit(chosen, torch.cat([pixels(), pixels()]), 5, tmp_path, 1)
    folds = [film.fold(5) for film in films()]
    assert [seen[f"labels-5-{fold}"] for fold in range(5)] == [COUNT - folds.count(fold) for fold in range(5)]
    assert seen["labels-7-all"] == COUNT
    assert len(members) == 3
    assert np.isnan(told).all(axis=1).tolist() == [False] * COUNT + [True] * COUNT
    np.save(fit_labels.folds_path(tmp_path), told)
    np.testing.assert_array_equal(read_folds(tmp_path, chosen), told)
    with pytest.raises(ValueError, match="other films"):
        read_folds(tmp_path, films())


def test_varied_films_stay_films() -> None:
    generator, given = torch.Generator().manual_seed(3), pixels()[:, None].float() / 255
    seen = varied(given, generator)
    assert seen.shape == given.shape
    assert torch.isfinite(seen).all()
    assert seen.flatten(1).std(dim=1).min() > 0.02, "none is wiped out"
    assert (seen - given).abs().flatten(1).mean(dim=1).min() > 0.01, "none stays as it was"
