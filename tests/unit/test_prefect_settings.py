"""Runs of a worker are as quiet towards Prefect as those of a command, and end with errors of ours alone."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from flows import deployments
from flows.environment.prefect_api import QUIET
from pipeline.errors import StopRun

ROOT = Path(__file__).resolve().parents[2]
OF_A_SERVER = {name for name in QUIET if name.startswith(("PREFECT_SERVER_", "PREFECT_LOGGING_"))}


def test_every_deployment_carries_the_quiet_settings() -> None:
    yaml_file = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
    wanted = {name: QUIET[name] for name in QUIET.keys() - OF_A_SERVER}
    wanted["PREFECT_LOGGING_TO_API_ENABLED"] = QUIET["PREFECT_LOGGING_TO_API_ENABLED"]
    for deployment in yaml_file["deployments"]:
        variables = deployment["work_pool"]["job_variables"]["env"]
        assert variables.items() >= wanted.items(), deployment["name"]


async def _fails(batch: Any) -> Any:
    raise ValueError(f"of {batch}")


def test_a_task_says_nothing_of_what_another_error_said() -> None:
    import asyncio

    with pytest.raises(StopRun) as caught:
        asyncio.run(deployments._task(_fails).fn("Doe^Jane"))
    assert "Doe" not in str(caught.value)
    assert caught.value.__context__ is None
