"""One truth per study: what stands, what was withdrawn, what of the inbox is settled; flat views; a binding audit.

Revision ID: 0002
Revises: 0001
"""

from pathlib import Path

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

FILES = ("ledger", "inbox", "resources", "audit", "outcomes", "standing", "views", "carry_over", "grants")


def upgrade() -> None:
    """Run the files in their order. They are forward only: reports and audit rows are not dropped by a command."""
    folder = Path(__file__).parent / "0002"
    connection = op.get_bind().execution_options(no_parameters=True)
    for name in FILES:
        connection.exec_driver_sql((folder / f"{name}.sql").read_text(encoding="utf-8"))
