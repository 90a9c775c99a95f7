#!/usr/bin/env bash
# Joins flights in a bucket of S3 with a table of PostgreSQL on a cluster, and loads the result back. The servers are its own: a PostgreSQL as it is
# installed, and moto in place of S3, from the environment of the tests (`make data`). Without these it says so, and does nothing.
#
#   outside.sh WINDLASS FOLDER    the binary, and an empty folder for all that is made
set -euo pipefail

[ $# -eq 2 ] || { sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 2; }
windlass=$1
out=$2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${WINDLASS_CACHE_DIR:-$HOME/.cache/windlass}
python=$cache/venv/bin/python
initdb=$(compgen -G '/usr/lib/postgresql/*/bin/initdb' | sort -V | tail -n 1) || true
if [ -z "$initdb" ] || ! "$python" -c 'import moto.server' 2>/dev/null; then
    echo "left out: it wants PostgreSQL and moto, which \`make data\` installs"
    exit 0
fi
bin=$(dirname "$initdb")

# The servers of PostgreSQL do not run as root, for whom the package has a user.
as_postgres=()
[ "$(id -u)" -ne 0 ] || as_postgres=(setpriv --reuid=postgres --regid=postgres --clear-groups)

s3_server=
# shellcheck disable=SC2317
end() {
    "$windlass" cluster down --dir "$out/cluster" >/dev/null 2>&1 || true
    "${as_postgres[@]}" "$bin/pg_ctl" stop --silent --mode fast --pgdata "$data" 2>/dev/null || true
    [ -z "$s3_server" ] || kill "$s3_server" 2>/dev/null || true
    wait
    rm -rf "$data"
}
data=$(mktemp -d "${TMPDIR:-/tmp}/windlass-postgres.XXXXXX")
trap end EXIT

read -r port s3_port < <("$python" -c '
import socket
free = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(one.getsockname()[1] for one in free))')
[ "$(id -u)" -ne 0 ] || chown postgres: "$data"
"${as_postgres[@]}" "$initdb" --pgdata "$data" --username app --auth trust --no-sync >"$out/postgres.log" 2>&1
"${as_postgres[@]}" "$bin/postgres" -D "$data" -h 127.0.0.1 -p "$port" -c fsync=off -c unix_socket_directories= >>"$out/postgres.log" 2>&1 &
"$python" -m moto.server -H 127.0.0.1 -p "$s3_port" >"$out/s3.log" 2>&1 &
s3_server=$!
for _ in $(seq 300); do
    "$bin/pg_isready" -q -h 127.0.0.1 -p "$port" && curl -sf -o "$out/bucket" -X PUT "http://127.0.0.1:$s3_port/lake" && break
    sleep 0.1
done
postgres=postgresql://app@127.0.0.1:$port/postgres
s3=http://127.0.0.1:$s3_port

export AWS_ENDPOINT_URL=$s3 AWS_REGION=eu-central-1 AWS_ACCESS_KEY_ID=demo AWS_SECRET_ACCESS_KEY=demo AWS_ALLOW_HTTP=true
WINDLASS_URL=$("$windlass" cluster up --executors 2 --slots 1 --memory 1GiB --dir "$out/cluster" --json |
    sed -n 's/.*"url": *"\([^"]*\)".*/\1/p' | head -n 1)
export WINDLASS_URL
[ -n "$WINDLASS_URL" ] || { echo "the cluster named no url" >&2; exit 1; }

echo "a year of flights into the bucket, the airlines into PostgreSQL:"
"$windlass" copy "$here/../data/nycflights13/flights/" --from-format parquet --into s3://lake/flights/
"$windlass" copy "$here/../data/nycflights13/airlines.parquet" --into "$postgres" --table airlines

sed -e "s|@S3@|$s3|g" -e "s|@POSTGRES@|$postgres|g" "$here/outside.sql" >"$out/outside.sql"
"$windlass" sql -f "$out/outside.sql" --format table --stats

echo
echo "as psql sees it:"
"$bin/psql" -X -d "$postgres" -c "SELECT count(*) AS rows, sum(flights) AS flights, sum(never_arrived) AS never_arrived FROM delays"
[ "$("$bin/psql" -X -A -t -d "$postgres" -c "SELECT sum(flights) FROM delays")" = 336776 ] || { echo "flights are missing" >&2; exit 1; }
