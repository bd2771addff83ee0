"""Tens of thousands of invented reports, written by SQL alone: for what only shows where there are many."""

from datetime import UTC, datetime
from typing import Any

import psycopg

COUNT = 50_000
FIRST = datetime(2024, 1, 1, tzinfo=UTC)
"""Reports are ten minutes apart from then on, about 52,560 in a year; they were written a year later, as far apart."""

_INSERT = """
INSERT INTO firstread.resource (resource_type, resource_id, version_id, last_updated, body, study_instance_uid,
                                written_by, status, patient, identifiers, effective_at{columns})
SELECT 'DiagnosticReport', 'many-' || n, 1, at + interval '1 year', body, '2.25.' || n, 'machine', body ->> 'status',
       body #>> '{{subject,reference}}', firstread.identifier_tokens(body -> 'identifier'), at{values}
FROM (SELECT n, %(first)s::timestamptz + n * interval '10 minutes' AS at,
             jsonb_build_object(
                 'resourceType', 'DiagnosticReport', 'id', 'many-' || n,
                 'status', CASE n %% 10 WHEN 0 THEN 'preliminary' ELSE 'partial' END,
                 'identifier', jsonb_build_array(jsonb_build_object(
                     'system', 'urn:site:accession', 'value', 'ACC' || n)),
                 'code', '{{"coding": [{{"system": "http://loinc.org", "code": "36554-4"}}]}}'::jsonb,
                 'subject', jsonb_build_object('reference', 'Patient/many-' || n %% 20000),
                 'effectiveDateTime', to_char((%(first)s::timestamptz + n * interval '10 minutes') AT TIME ZONE 'UTC',
                                              'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
                 'conclusion', repeat('No acute cardiopulmonary abnormality. ', 20)) AS body
      FROM generate_series(1, %(count)s) AS n) AS one
"""
_OURS = ", tokens, dated_from, dated_until, local_from, local_until"
_OUR_VALUES = """, firstread.search_tokens(body), at, at + interval '1 second', at AT TIME ZONE 'UTC',
       at AT TIME ZONE 'UTC' + interval '1 second'"""


def write_many(conninfo: str, count: int = COUNT) -> None:
    """Fill a migrated database, of schema 0001 or later, as its superuser: the triggers sleep."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("SET session_replication_role TO replica")
        connection.execute("SET timezone TO 'UTC'")
        has = connection.execute(
            "SELECT count(*) FROM information_schema.columns WHERE table_schema = 'firstread' "
            "AND table_name = 'resource' AND column_name = 'local_from'"
        ).fetchone()
        ours = has is not None and bool(has[0])
        text = _INSERT.format(columns=_OURS if ours else "", values=_OUR_VALUES if ours else "")
        values: dict[str, Any] = {"first": FIRST, "count": count}
        connection.execute(text.encode(), values)
        connection.execute("VACUUM (ANALYZE) firstread.resource")
