"""The schema of Postgres: Alembic migrations whose work is done in ``.sql`` files, and the consumers' views."""
