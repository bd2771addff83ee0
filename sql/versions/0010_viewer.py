"""The role of `serve`: it reads what it shows and appends to the chain of accesses, and nothing else.

Revision ID: 0010
Revises: 0008
"""

from pathlib import Path

from alembic import op

revision = "0010"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the one file. Forward only."""
    connection = op.get_bind().execution_options(no_parameters=True)
    text = (Path(__file__).parent / "0010" / "viewer.sql").read_text(encoding="utf-8")
    connection.exec_driver_sql(text)
