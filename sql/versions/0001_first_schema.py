"""First schema: roles, ledger, FHIR resources, audit chain, reports, inbox, views.

Revision ID: 0001
Revises:
"""

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

FILES = ("roles", "ledger", "resources", "audit", "reports", "inbox", "views", "grants")


def upgrade() -> None:
    """Run the files in their order. They are forward only: reports and audit rows are not dropped by a command."""
    folder = Path(__file__).parent / "0001"
    connection = op.get_bind().execution_options(no_parameters=True)
    for name in FILES:
        connection.exec_driver_sql((folder / f"{name}.sql").read_text(encoding="utf-8"))
