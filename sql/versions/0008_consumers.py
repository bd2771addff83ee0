"""What consumers read by: change times in the order of commits, dates as the wall clock said them, paged histories.

Revision ID: 0008
Revises: 0007
"""

from pathlib import Path

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the one file. Forward only."""
    connection = op.get_bind().execution_options(no_parameters=True)
    text = (Path(__file__).parent / "0008" / "consumers.sql").read_text(encoding="utf-8")
    connection.exec_driver_sql(text)
