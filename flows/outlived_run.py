"""What a Prefect worker starts for a flow run: Prefect's engine, outlived by the process that the worker watches.

    python -m flows.outlived_run      (the command of a job: prefect.yaml)

A process that native code ends is followed by another one that goes on with the same flow run, as in a command
(``environment.outliving``, decision 51). This is done here, before Prefect is imported and has threads.
"""

import runpy
import shlex
import sys

from flows.environment.outliving import outlive


def job_command() -> dict[str, str]:
    """The step of ``prefect deploy`` that gives this command with the Python that deploys: a worker may have no other.

    Prefect binds a deployment to the folder of the machine that deploys it as well.
    """
    return {"outlived_run": f"{shlex.quote(sys.executable)} -m flows.outlived_run"}


if __name__ == "__main__":
    outlive(ends_alike=True)  # the worker reads from it how a run was stopped
    runpy.run_module("prefect.engine", run_name="__main__")
