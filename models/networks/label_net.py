"""What labels of real films taught: small networks beside the tower, each of five convolutions learned from nothing.

They know films alone, not what was simulated, and are wrong elsewhere than the tower is. Their logits are averaged.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

FINDINGS = 6
"""Logits of the network that ships, in the order of ``models.families.mini.films.RULED``."""
MEMBERS, SIZE = 3, 112
"""Networks, and pixels a side at which they read a film."""
WIDTHS = (24, 48, 96, 128, 144)
LEAST_SPREAD = 1e-3


class LabelMember(nn.Module):
    """One of them: five convolutions of stride 2, mean and maximum over the film, one linear answer."""

    def __init__(self, findings: int, *, training: bool = False) -> None:
        """Build with random weights: with batch normalisation for ``training``, else with biases."""
        super().__init__()
        steps = list(zip((1, *WIDTHS), WIDTHS, strict=False))
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 3, 2, 1, bias=not training) for before, after in steps
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(after) if training else nn.Identity() for _, after in steps)
        self.answer = nn.Linear(2 * WIDTHS[-1], findings)

    def read(self, films: Tensor) -> Tensor:
        """What the answer is read from, [n, 2 * the last width], of films [n, 1, SIZE, SIZE] on one scale of greys."""
        features = films
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            features = functional.relu(norm(convolution(features)))
        size = (features.shape[-2], features.shape[-1])
        pooled = [functional.avg_pool2d(features, size), functional.max_pool2d(features, size)]
        return torch.cat(pooled, dim=1).flatten(1)

    def forward(self, films: Tensor) -> Tensor:
        """Logits [n, findings] of films [n, 1, SIZE, SIZE] on one scale of greys (:func:`on_one_scale`)."""
        # a dimension more: exported so, the weight lies as a quantiser takes it
        logits: Tensor = self.answer(self.read(films)[:, None]).squeeze(1)
        return logits

    @torch.no_grad()
    def folded(self, findings: int) -> "LabelMember":
        """The network that ships, of one that was trained: without normalisation, the first ``findings`` alone."""
        shipped = LabelMember(findings)
        for into, convolution, norm in zip(shipped.convolutions, self.convolutions, self.norms, strict=True):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                into.load_state_dict(nn.utils.fuse_conv_bn_eval(convolution.eval(), norm.eval()).state_dict())
        kept = {name: values[:findings] for name, values in self.answer.state_dict().items()}
        shipped.answer.load_state_dict(kept)
        return shipped.eval()


def on_one_scale(films: Tensor) -> Tensor:
    """Films [n, 1, s, s] of mean 0 and standard deviation 1 each."""
    centred = films - films.mean(dim=(1, 2, 3), keepdim=True)
    return centred / (centred.square().mean(dim=(1, 2, 3), keepdim=True).sqrt() + LEAST_SPREAD)


class LabelNet(nn.Module):
    """Films to a logit for each finding that real labels name."""

    resize: Tensor

    def __init__(self, image_size: int) -> None:
        """Build with random weights, for films of ``image_size`` pixels a side."""
        super().__init__()
        whole = torch.eye(image_size)[None, None]
        rows = functional.interpolate(whole, (SIZE, image_size), mode="bilinear", antialias=True)
        # as a matrix: a graph with an antialiased resize is one that few runners take
        self.register_buffer("resize", rows[0, 0].contiguous(), persistent=False)
        self.members = nn.ModuleList(LabelMember(FINDINGS) for _ in range(MEMBERS))

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits [n, FINDINGS] of films [n, 1, image_size, image_size]; any linear scale of greys gives the same."""
        films = on_one_scale(self.smaller(pixels))
        return torch.stack([member(films) for member in self.members]).mean(dim=0)

    def smaller(self, pixels: Tensor) -> Tensor:
        """Films [n, 1, SIZE, SIZE] of films [n, 1, image_size, image_size]."""
        small: Tensor = self.resize @ pixels @ self.resize.T
        return small
