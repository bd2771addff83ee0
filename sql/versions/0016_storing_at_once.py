"""What storing a study computed more often than once, and a table that nobody read.

Revision ID: 0016
Revises: 0015
"""

from pathlib import Path

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

FILES = ("storing_at_once",)


def upgrade() -> None:
    """Run the files in their order. Forward only."""
    folder = Path(__file__).parent / "0016"
    connection = op.get_bind().execution_options(no_parameters=True)
    for name in FILES:
        connection.exec_driver_sql((folder / f"{name}.sql").read_text(encoding="utf-8"))
