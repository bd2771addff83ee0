"""Postgres: the embedded server, the schema's migrations, and the ``Store`` that everything is kept in.

``store.Store`` is the face; ``opening.open_store`` opens it from the settings, ``migrations.upgrade`` brings the
schema up, ``embedded.EmbeddedPostgres`` runs the server. SQL lives in files: ``statements/`` and the package ``sql``.
"""
