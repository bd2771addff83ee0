"""Outlines of lungs and heart on a frontal film: a small U-Net beside the tower, taught by outlines that people drew.

As Ronneberger et al., U-Net (MICCAI 2015), with half the levels; the tower never saw a real outline.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

PARTS = ("background", "right_lung", "left_lung", "heart")
"""What each cell of the film is, in the order of the channels."""
CELL = 4
"""Pixels a side that a cell of the outlines covers."""
WIDTHS = (24, 40, 64, 96)
FIRST, LAST = 16, 16


def _convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def _joined(coarse: Tensor, fine: Tensor) -> Tensor:
    return torch.cat([functional.interpolate(coarse, scale_factor=2.0, mode="nearest"), fine], dim=1)


class OutlineNet(nn.Module):
    """Which of ``PARTS`` each cell of a film is."""

    def __init__(self) -> None:
        """Build with random weights."""
        super().__init__()
        w4, w8, w16, w32 = WIDTHS
        self.stride4 = nn.Sequential(_convolution(1, FIRST, 5, CELL), _convolution(FIRST, w4))
        self.stride8 = nn.Sequential(_convolution(w4, w8, stride=2), _convolution(w8, w8))
        self.stride16 = nn.Sequential(_convolution(w8, w16, stride=2), _convolution(w16, w16))
        self.stride32 = nn.Sequential(
            _convolution(w16, w32, stride=2), _convolution(w32, w32), _convolution(w32, w32)
        )
        self.up16 = _convolution(w32 + w16, w16)
        self.up8 = _convolution(w16 + w8, w8)
        self.up4 = nn.Sequential(_convolution(w8 + w4, LAST), nn.Conv2d(LAST, len(PARTS), 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits [n, parts, S / CELL, S / CELL] of films [n, 1, S, S]; any linear scale gives the same, S in 32s."""
        centred = pixels - pixels.mean(dim=(1, 2, 3), keepdim=True)
        scale = centred.square().mean(dim=(1, 2, 3), keepdim=True).sqrt() + 1e-3
        fine = self.stride4(centred / scale)
        middle = self.stride8(fine)
        coarse = self.stride16(middle)
        up = self.up16(_joined(self.stride32(coarse), coarse))
        logits: Tensor = self.up4(_joined(self.up8(_joined(up, middle)), fine))
        return logits
