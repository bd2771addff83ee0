"""What was received is looked up by its UID, however small the table was when the statement was planned.

Revision ID: 0021
Revises: 0020
"""

from pathlib import Path

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

FILES = ("receiving",)


def upgrade() -> None:
    """Run the files in their order. Forward only."""
    folder = Path(__file__).parent / "0021"
    connection = op.get_bind().execution_options(no_parameters=True)
    for name in FILES:
        connection.exec_driver_sql((folder / f"{name}.sql").read_text(encoding="utf-8"))
