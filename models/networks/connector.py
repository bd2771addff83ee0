"""Connector mixture of experts: carries visual tokens into the language model, routed per token and task.

The arrangement of Uni-Med (arXiv 2409.17508): every expert is a projection, the router sees the visual token and
a learned token of the task, and the task token feeds the router only. The router's width is a setting, because at
the published width the router is larger than all the experts together.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

RouterType = Literal["soft", "hard", "constant", "sparse"]
RouterMethod = Literal["task_token", "token", "task"]
ExpertKind = Literal["linear", "mlp"]
SPARSE_TOP_K = 2


@dataclass(frozen=True, slots=True)
class ConnectorConfig:
    """Shape of a connector.

    ``router_hidden`` is the width of the router's hidden layer; 0 makes the router one linear layer.
    ``expert_hidden`` is used by experts of kind ``mlp`` only. ``task_width`` is the width of the task token, 0 for that
    of the visual token.
    """

    input_width: int
    output_width: int
    tasks: tuple[str, ...]
    num_experts: int = 4
    expert_kind: ExpertKind = "mlp"
    expert_hidden: int = 512
    router_type: RouterType = "soft"
    router_method: RouterMethod = "task_token"
    router_hidden: int = 64
    task_width: int = 0

    def __post_init__(self) -> None:
        """Raise ValueError for a shape that cannot route."""
        if not self.tasks or self.num_experts < 1:
            raise ValueError("a connector needs at least one task and one expert")
        if self.router_type == "hard" and self.num_experts < len(self.tasks):
            raise ValueError("hard routing needs an expert for every task")
        if self.router_type == "sparse" and self.num_experts < SPARSE_TOP_K:
            raise ValueError(f"sparse routing needs at least {SPARSE_TOP_K} experts")


class Connector(nn.Module):
    """Weighted sum of expert projections, one weight per visual token and expert."""

    def __init__(self, config: ConnectorConfig) -> None:
        """Build with random weights; ``config.tasks`` fixes the order of the task index."""
        super().__init__()
        self.config = config
        experts, width = config.num_experts, config.input_width
        hidden = config.expert_hidden if config.expert_kind == "mlp" else config.output_width
        self.expert_in = nn.Parameter(torch.randn(width, experts * hidden) * width**-0.5)
        self.expert_in_bias = nn.Parameter(torch.zeros(experts * hidden))
        if config.expert_kind == "mlp":
            self.expert_out = nn.Parameter(torch.randn(experts, hidden, config.output_width) * hidden**-0.5)
            self.expert_out_bias = nn.Parameter(torch.zeros(experts, config.output_width))
        self.task_tokens = nn.Parameter(torch.randn(len(config.tasks), config.task_width or width) * 0.02)
        if config.router_type in ("soft", "sparse"):
            self.router = self._build_router()

    def _build_router(self) -> nn.Module:
        config = self.config
        asked = config.task_width or config.input_width
        widths = {"task_token": asked + config.input_width, "token": config.input_width, "task": asked}
        seen = widths[config.router_method]
        if not config.router_hidden:
            return nn.Linear(seen, config.num_experts)
        return nn.Sequential(
            nn.Linear(seen, config.router_hidden),
            nn.GELU(),
            nn.Linear(config.router_hidden, config.num_experts),
        )

    def _router_logits(self, tokens: Tensor, task: Tensor) -> Tensor:
        asked = self.task_tokens.index_select(0, task)[:, None].expand(-1, tokens.shape[1], -1)
        if self.config.router_method == "task_token":
            seen = torch.cat([asked, tokens], dim=-1)
        else:
            seen = tokens if self.config.router_method == "token" else asked
        logits: Tensor = self.router(seen)
        return logits

    def weights(self, tokens: Tensor, task: Tensor) -> Tensor:
        """Share of each expert, [n, tokens, experts], summing to 1 over the experts."""
        config = self.config
        shape = (*tokens.shape[:2], config.num_experts)
        if config.router_type == "constant":
            return tokens.new_full(shape, 1 / config.num_experts)
        if config.router_type == "hard":
            chosen = torch.nn.functional.one_hot(task, config.num_experts).to(tokens.dtype)
            return chosen[:, None].expand(shape)
        logits = self._router_logits(tokens, task)
        if config.router_type == "soft":
            scores = torch.sigmoid(logits)
            return scores / scores.sum(dim=-1, keepdim=True)
        best, index = logits.topk(SPARSE_TOP_K, dim=-1)
        return torch.zeros_like(logits).scatter(-1, index, torch.softmax(best, dim=-1))

    def forward(self, tokens: Tensor, task: Tensor) -> Tensor:
        """Project visual tokens [n, t, input_width] to [n, t, output_width].

        ``task`` is an int64 tensor [n] of positions in ``config.tasks``.
        """
        share = self.weights(tokens, task)
        inner = tokens @ self.expert_in + self.expert_in_bias
        inner = inner.reshape(*share.shape, -1)
        if self.config.expert_kind == "linear":
            mixed: Tensor = (inner * share[..., None]).sum(dim=-2)
            return mixed
        weighted = torch.nn.functional.gelu(inner) * share[..., None]
        return weighted.flatten(-2) @ self.expert_out.flatten(0, 1) + share @ self.expert_out_bias
