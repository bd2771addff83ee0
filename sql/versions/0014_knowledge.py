"""A site's knowledge base, read into passages.

Revision ID: 0014
Revises: 0013
"""

from pathlib import Path

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

FILES = ("knowledge",)


def upgrade() -> None:
    """Run the files in their order. Forward only."""
    folder = Path(__file__).parent / "0014"
    connection = op.get_bind().execution_options(no_parameters=True)
    for name in FILES:
        connection.exec_driver_sql((folder / f"{name}.sql").read_text(encoding="utf-8"))
