"""torchvision beside a torch that it was not built for: its transforms need no compiled operator, its import does."""

import torch

for name, form in (
    ("nms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"),
    ("qnms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"),
):
    torch.library.define(f"torchvision::{name}", form)
