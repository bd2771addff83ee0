"""The view studies has one row for each study and archive.

Revision ID: 0024
Revises: 0023
"""

from pathlib import Path

from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

FILES = ("studies",)


def upgrade() -> None:
    """Run the files in their order. Forward only."""
    folder = Path(__file__).parent / "0024"
    connection = op.get_bind().execution_options(no_parameters=True)
    for name in FILES:
        connection.exec_driver_sql((folder / f"{name}.sql").read_text(encoding="utf-8"))
