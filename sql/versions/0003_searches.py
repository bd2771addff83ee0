"""Searches by date, code, category and name, each from an index.

Revision ID: 0003
Revises: 0002
"""

from pathlib import Path

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the one file. It is forward only, as every revision."""
    connection = op.get_bind().execution_options(no_parameters=True)
    text = (Path(__file__).parent / "0003" / "searches.sql").read_text(encoding="utf-8")
    connection.exec_driver_sql(text)
