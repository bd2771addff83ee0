"""Studies of two patients or taken back, what sweeps passed over, what the listener refused, digests by content.

Revision ID: 0007
Revises: 0005
"""

from pathlib import Path

from alembic import op

revision = "0007"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the one file. Forward only."""
    connection = op.get_bind().execution_options(no_parameters=True)
    text = (Path(__file__).parent / "0007" / "archives.sql").read_text(encoding="utf-8")
    connection.exec_driver_sql(text)
