#!/usr/bin/env bash
# Runs demo.sql in one process, then on a cluster of three (a primary and two executors), and compares what they printed and wrote. Then outside.sh.
#
#   run.sh WINDLASS [FOLDER]    the binary, and where the output goes (a fresh folder under /tmp unless named)
set -euo pipefail

[ $# -ge 1 ] || { sed -n '2,4s/^# \{0,1\}//p' "$0"; exit 2; }
windlass=$1
out=${2:-$(mktemp -d "${TMPDIR:-/tmp}/windlass-demo.XXXXXX")}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$out"

title() { printf '\n== %s\n\n' "$*"; }

# Runs the job; its tables go to NAME.txt, the stages that ran are shown on the terminal: run NAME [OPTION...]
run() {
    local name=$1 start=${EPOCHREALTIME/[.,]/} ms
    shift
    mkdir -p "$out/$name"
    sed -e "s|@DATA@|$here/../data/nycflights13|g" -e "s|@OUT@|$out/$name|g" "$here/demo.sql" >"$out/$name.sql"
    "$windlass" sql -f "$out/$name.sql" --format table --stats "$@" >"$out/$name.txt"
    cat "$out/$name.txt"
    ms=$(((${EPOCHREALTIME/[.,]/} - start) / 1000))
    printf '\n%s: %d.%03d s, wrote %s\n' "$name" $((ms / 1000)) $((ms % 1000)) "$(du -sh "$out/$name/departures" | cut -f1)"
}

title "A year of flights out of New York, in one process"
run embedded

title "The same on a cluster: one primary, two executors"
cluster=$out/cluster-state
trap '"$windlass" cluster down --dir "$cluster" >/dev/null 2>&1 || true' EXIT
url=$("$windlass" cluster up --executors 2 --slots 1 --memory 1GiB --dir "$cluster" --json |
    sed -n 's/.*"url": *"\([^"]*\)".*/\1/p' | head -n 1)
[ -n "$url" ] || { echo "the cluster named no url" >&2; exit 1; }
echo "cluster at $url"
run cluster --url "$url"

title "Do they agree?"
diff "$out/embedded.txt" "$out/cluster.txt" || { echo "the printed results differ" >&2; exit 1; }
echo "printed the same results"
cat >"$out/compare.sql" <<SQL
CREATE EXTERNAL TABLE one STORED AS PARQUET PARTITIONED BY (month) LOCATION '$out/embedded/departures/';
CREATE EXTERNAL TABLE two STORED AS PARQUET PARTITIONED BY (month) LOCATION '$out/cluster/departures/';
SELECT (SELECT count(*) FROM one) AS rows_embedded, (SELECT count(*) FROM two) AS rows_cluster,
       (SELECT count(*) FROM (SELECT * FROM one EXCEPT ALL SELECT * FROM two)) AS only_embedded,
       (SELECT count(*) FROM (SELECT * FROM two EXCEPT ALL SELECT * FROM one)) AS only_cluster;
SQL
compared=$("$windlass" sql -f "$out/compare.sql" --format csv | tail -n 1)
IFS=, read -r one two only_one only_two <<<"$compared"
if [ "$one" != "$two" ] || [ "$only_one,$only_two" != 0,0 ] || [ "$one" -eq 0 ]; then
    echo "the written tables differ (rows embedded, rows cluster, only embedded, only cluster): $compared" >&2
    exit 1
fi
echo "wrote the same $one rows"

"$windlass" cluster down --dir "$cluster" >/dev/null

title "Flights in S3, airlines in PostgreSQL: joined on a cluster, and loaded back"
mkdir -p "$out/outside"
"$here/outside.sh" "$windlass" "$out/outside"

title "Output"
echo "$out/embedded/departures    the table, one folder for each month"
echo "$out/cluster/departures     the same, written by the executors"
