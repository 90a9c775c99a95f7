#!/usr/bin/env bash
# Brings a fresh Debian or Ubuntu to the point where the workspace builds and its tests run. Does nothing where all is there.
#
#   setup.sh build    what a build needs: a C compiler, protoc
#   setup.sh tests    that, Python with the packages and the data of the test suites, and etcd
#   setup.sh groups   that, and a virtual machine
set -euo pipefail

usage() { sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 2; }
[ $# -eq 1 ] || usage
case $1 in build | tests | groups) what=$1 ;; *) usage ;; esac

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=${WINDLASS_CACHE_DIR:-$HOME/.cache/windlass}

say() { printf 'setup: %s\n' "$*" >&2; }

command -v cargo >/dev/null || {
    say "no Rust toolchain: install one from https://rustup.rs and run this again"
    exit 1
}

missing=()
need() { command -v "$1" >/dev/null || missing+=("$2"); }
need cc build-essential
need protoc protobuf-compiler
# The types that every protoc file may import come in a package of their own.
[ -e /usr/include/google/protobuf/any.proto ] || [ -e /usr/local/include/google/protobuf/any.proto ] || missing+=(libprotobuf-dev)
if [ "$what" = groups ]; then
    need qemu-system-x86_64 qemu-system-x86
    need busybox busybox-static
    what=tests
fi
if [ "$what" = tests ]; then
    need python3 python3
    python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    need etcd etcd-server
    need etcdctl etcd-client
    # An oracle, and a server whose tables are read and written.
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
    # Another one, in packages that have no service.
    [ -x /usr/sbin/mariadbd ] || missing+=(mariadb-server-core)
    need mariadb mariadb-client-core
    # Certificates for their connections.
    need openssl openssl
    # A server of DynamoDB's API.
    need node nodejs
    need npm npm
    # For the clients of Livy, one of which builds against Kerberos.
    need krb5-config libkrb5-dev
    # For the networks of the chaos suite.
    need ip iproute2
fi

if [ ${#missing[@]} -gt 0 ]; then
    command -v apt-get >/dev/null || {
        say "missing: ${missing[*]}; this machine has no apt-get, so please install them by its own means"
        exit 1
    }
    as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(sudo)
    apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 "$@" </dev/null >&2; }
    say "missing: ${missing[*]}; installing with: ${as_root[*]:+sudo }apt-get install"
    # The lists of a fresh machine may be absent or name packages that the mirror has since replaced; most of the time they will do.
    apt install -y --no-install-recommends "${missing[@]}" || {
        say "fetching the package lists first: ${as_root[*]:+sudo }apt-get update"
        apt update
        apt install -y --no-install-recommends "${missing[@]}"
    }
fi

# Cargo tells whether products are fresh by the age of the sources, wherever they lie: those that another clone has built from younger
# sources would pass for this one's. Sources count as new when the folder of products was last used by another clone.
target=${CARGO_TARGET_DIR:-$cache/target}
if [ "$(cat "$target/clone" 2>/dev/null)" != "$here" ]; then
    find "$here" -name .git -prune -o -type f -exec touch {} +
    mkdir -p "$target"
    printf '%s\n' "$here" >"$target/clone"
fi

[ "$what" = tests ] || exit 0

# Installs packages of Python into an environment of their own: environment NAME REQUIREMENTS WHAT
# It is complete when it holds a copy of the requirements that it was made from.
environment() {
    local venv=$cache/$1 requirements=$here/$2
    cmp -s "$requirements" "$venv/requirements.txt" && "$venv/bin/python" -c '' 2>/dev/null && return
    say "installing $3 into $venv"
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --no-input --disable-pip-version-check -r "$requirements"
    cp "$requirements" "$venv/requirements.txt"
}

environment venv tests/data/requirements.txt "the tests' Python packages"
environment python-package client/python/tests/requirements.txt "what the Python package's tests need, which other tests must not see"
environment livy tests/data/livy-requirements.txt "clients of Livy, and the kernel of a notebook"
environment dbt tests/data/dbt-requirements.txt "dbt, with an adapter that speaks Livy"
environment airflow tests/data/airflow-requirements.txt "Airflow, another client of Livy"
environment openapi tests/data/openapi-requirements.txt "what checks the description of the HTTP interface"
venv=$cache/venv
"$venv/bin/python" "$here/tests/data/generate.py" "$cache/data"

# The strict server of DynamoDB's API. Of its parts none has to be built: its data lie in memory.
dynalite=4.0.0
if [ "$(sed -n 's/^  "version": "\(.*\)",$/\1/p' "$cache/dynalite/node_modules/dynalite/package.json" 2>/dev/null)" != "$dynalite" ]; then
    say "installing dynalite $dynalite into $cache/dynalite"
    rm -rf "$cache/dynalite"
    mkdir -p "$cache/dynalite"
    npm install --silent --ignore-scripts --no-audit --no-fund --prefix "$cache/dynalite" "dynalite@$dynalite" >&2
fi

# The client of Livy for Node.
livy_client=1.0.1
if [ "$(sed -n 's/^  "version": "\(.*\)",$/\1/p' "$cache/livy-client/node_modules/livy-client/package.json" 2>/dev/null)" != "$livy_client" ]; then
    say "installing livy-client $livy_client into $cache/livy-client"
    rm -rf "$cache/livy-client"
    mkdir -p "$cache/livy-client"
    npm install --silent --ignore-scripts --no-audit --no-fund --prefix "$cache/livy-client" "livy-client@$livy_client" >&2
fi

# A second version of DuckDB, for what changed between the two: it cannot lie in the same environment.
duckdb=2.0.1
if [ ! -e "$cache/duckdb-2/duckdb-$duckdb.dist-info" ]; then
    rm -rf "$cache/duckdb-2"
    "$venv/bin/python" -m pip install --quiet --no-input --disable-pip-version-check --no-deps --target "$cache/duckdb-2" "duckdb==$duckdb"
fi

# DataFusion's own sqllogictest files come as a package of Rust, of which only the files are wanted: it is fetched and never built.
sqllogictest=datafusion-sqllogictest-$(sed -n '/^name = "datafusion"$/{n;s/^version = "\(.*\)"$/\1/p}' "$here/Cargo.lock")
if [ ! -e "$cache/datafusion-sqllogictest/test_files" ] || [ "$(basename "$(readlink -f "$cache/datafusion-sqllogictest")")" != "$sqllogictest" ]; then
    say "fetching $sqllogictest"
    fetching=$(mktemp -d)
    mkdir "$fetching/src"
    : >"$fetching/src/lib.rs"
    printf '[package]\nname = "fetching"\nedition = "2024"\n[dependencies]\n%s = { version = "=%s", default-features = false }\n[workspace]\n' \
        "${sqllogictest%-*}" "${sqllogictest##*-}" >"$fetching/Cargo.toml"
    cargo fetch --quiet --manifest-path "$fetching/Cargo.toml"
    rm -r "$fetching"
    found=$(find "${CARGO_HOME:-$HOME/.cargo}/registry/src" -maxdepth 2 -name "$sqllogictest" -print -quit)
    ln -sfn "$found" "$cache/datafusion-sqllogictest"
fi
