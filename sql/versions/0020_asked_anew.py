"""A person may ask on the page that a study be drafted anew.

Revision ID: 0020
Revises: 0017
"""

from pathlib import Path

from alembic import op

revision = "0020"
down_revision = "0017"
branch_labels = None
depends_on = None

FILES = ("anew",)


def upgrade() -> None:
    """Run the files in their order. Forward only."""
    folder = Path(__file__).parent / "0020"
    connection = op.get_bind().execution_options(no_parameters=True)
    for name in FILES:
        connection.exec_driver_sql((folder / f"{name}.sql").read_text(encoding="utf-8"))
