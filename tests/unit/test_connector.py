import pytest
import torch

from models.networks.connector import Connector, ConnectorConfig, ExpertKind, RouterMethod, RouterType

TASKS = ("report", "findings", "impression")


def build(
    router_type: RouterType = "soft",
    router_method: RouterMethod = "task_token",
    expert_kind: ExpertKind = "mlp",
    router_hidden: int = 8,
) -> Connector:
    torch.manual_seed(0)
    config = ConnectorConfig(12, 20, TASKS, 4, expert_kind, 16, router_type, router_method, router_hidden)
    return Connector(config)


def tokens() -> torch.Tensor:
    return torch.randn(3, 5, 12, generator=torch.Generator().manual_seed(1))


def tasks() -> torch.Tensor:
    return torch.tensor([0, 1, 2])


@pytest.mark.parametrize("router_type", ["soft", "hard", "constant", "sparse"])
@pytest.mark.parametrize("router_method", ["task_token", "token", "task"])
@pytest.mark.parametrize("expert_kind", ["linear", "mlp"])
def test_every_arrangement_projects(
    router_type: RouterType, router_method: RouterMethod, expert_kind: ExpertKind
) -> None:
    connector = build(router_type, router_method, expert_kind)
    assert connector(tokens(), tasks()).shape == (3, 5, 20)
    torch.testing.assert_close(connector.weights(tokens(), tasks()).sum(-1), torch.ones(3, 5))


def test_output_is_the_weighted_sum_of_experts() -> None:
    connector = build()
    share = connector.weights(tokens(), tasks())
    expected = torch.zeros(3, 5, 20)
    for expert in range(4):
        inward = connector.expert_in[:, expert * 16 : (expert + 1) * 16]
        hidden = torch.nn.functional.gelu(
            tokens() @ inward + connector.expert_in_bias[expert * 16 : (expert + 1) * 16]
        )
        projected = hidden @ connector.expert_out[expert] + connector.expert_out_bias[expert]
        expected += share[..., expert : expert + 1] * projected
    torch.testing.assert_close(connector(tokens(), tasks()), expected)


def test_soft_router_normalises_sigmoids() -> None:
    connector = build("soft")
    asked = connector.task_tokens[tasks()][:, None].expand(-1, 5, -1)
    scores = torch.sigmoid(connector.router(torch.cat([asked, tokens()], -1)))
    torch.testing.assert_close(connector.weights(tokens(), tasks()), scores / scores.sum(-1, keepdim=True))


def test_hard_router_gives_each_task_its_expert() -> None:
    weights = build("hard").weights(tokens(), tasks())
    assert weights.argmax(-1).tolist() == [[0] * 5, [1] * 5, [2] * 5]
    assert set(weights.unique().tolist()) == {0.0, 1.0}


def test_sparse_router_uses_two_experts() -> None:
    weights = build("sparse").weights(tokens(), tasks())
    assert ((weights > 0).sum(-1) == 2).all()


def test_constant_router_shares_alike() -> None:
    assert torch.equal(build("constant").weights(tokens(), tasks()), torch.full((3, 5, 4), 0.25))


def test_what_each_method_sees() -> None:
    same_task = torch.zeros(3, dtype=torch.int64)
    assert not torch.equal(build().weights(tokens(), same_task), build().weights(tokens(), tasks()))
    by_token = build(router_method="token")
    assert torch.equal(by_token.weights(tokens(), same_task), by_token.weights(tokens(), tasks()))
    by_task = build(router_method="task").weights(tokens(), tasks())
    assert torch.equal(by_task[:, :1].expand_as(by_task), by_task)


def test_router_width_is_a_setting() -> None:
    widths = {
        hidden: sum(p.numel() for p in build(router_hidden=hidden).router.parameters())
        for hidden in (0, 8, 96)
    }
    assert widths[0] == 24 * 4 + 4
    assert widths[8] < widths[96]


def test_shapes_that_cannot_route_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        ConnectorConfig(12, 20, ())
    with pytest.raises(ValueError, match="hard routing"):
        ConnectorConfig(12, 20, TASKS, num_experts=2, router_type="hard")
    with pytest.raises(ValueError, match="sparse routing"):
        ConnectorConfig(12, 20, TASKS, num_experts=1, router_type="sparse")
