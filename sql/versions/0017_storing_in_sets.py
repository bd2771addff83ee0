"""Drafted studies are stored several at once, as sets.

Revision ID: 0017
Revises: 0018
"""

from pathlib import Path

from alembic import op

revision = "0017"
down_revision = "0018"
branch_labels = None
depends_on = None

FILES = ("storing_in_sets",)


def upgrade() -> None:
    """Run the files in their order. Forward only."""
    folder = Path(__file__).parent / "0017"
    connection = op.get_bind().execution_options(no_parameters=True)
    for name in FILES:
        connection.exec_driver_sql((folder / f"{name}.sql").read_text(encoding="utf-8"))
