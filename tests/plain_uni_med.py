"""Uni-Med's connector as its authors arrange it, module by module and name by name (``uni_med/models/uni_med.py``).

Written to be read beside their file: experts are looped over, the router sees task token and visual token, and the
module of the experts is registered under two names, as theirs is.
"""

from typing import Any

import torch
from torch import Tensor, nn

TASKS = ("vqa", "refer", "identify", "caption", "cls")


class PlainMlp(nn.Module):
    """The router."""

    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, out)

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.fc2(self.act(self.fc1(tokens)))
        return out


class PlainConnector(nn.Module):
    """``moe_mlp`` or ``moe_linear`` with soft or sparse routing by ``router_task_token``."""

    def __init__(
        self, width: int, out: int, experts: int, kind: str = "moe_mlp", router: str = "soft"
    ) -> None:
        super().__init__()
        self.router_type, self.num_experts = router, experts
        self.task_tokens = nn.ParameterDict({task: nn.Parameter(torch.randn(1, 1, width)) for task in TASKS})
        self.moe_layers = nn.ModuleDict()
        for expert in range(experts):
            layers: list[nn.Module] = [nn.Linear(width, out)]
            if kind == "moe_mlp":
                layers += [nn.GELU(), nn.Linear(out, out)]
            self.moe_layers[str(expert)] = nn.ModuleList(layers)
        self.router = PlainMlp(2 * width, 8 * width, experts)
        self.llm_proj = self.moe_layers

    def forward(self, embeds: Tensor, task: str) -> Tensor:
        asked = self.task_tokens[task].repeat(embeds.shape[0], embeds.shape[1], 1)
        logits = self.router(torch.cat([asked, embeds], dim=2))
        if self.router_type == "soft":
            weights = logits.sigmoid()
            weights = weights / weights.sum(dim=-1, keepdim=True)
        else:
            best, indices = logits.topk(2, dim=-1)
            weights = torch.full_like(logits, float("-inf")).scatter(-1, indices, best).softmax(dim=-1)
        total: Any = 0
        for expert in range(self.num_experts):
            one = embeds
            for layer in self.llm_proj[str(expert)]:  # type: ignore[attr-defined]
                one = layer(one)
            total = total + one * weights[:, :, expert, None]
        mixed: Tensor = total
        return mixed
