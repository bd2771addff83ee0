"""What storing a study did twice or for nothing.

Revision ID: 0011
Revises: 0010
"""

from pathlib import Path

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

FILES = ("storing",)


def upgrade() -> None:
    """Run the files in their order. Forward only."""
    folder = Path(__file__).parent / "0011"
    connection = op.get_bind().execution_options(no_parameters=True)
    for name in FILES:
        connection.exec_driver_sql((folder / f"{name}.sql").read_text(encoding="utf-8"))
