#!/usr/bin/env bash
# Runs the tests of programs in control groups of each kind that an executor may find. Started by init.
set -euo pipefail
tests=$(sed -n 's/.* tests=\([^ ]*\).*/\1/p' /proc/cmdline)
HOME=$(sed -n 's/.* home=\([^ ]*\).*/\1/p' /proc/cmdline)
export HOME RUST_BACKTRACE=0 CARGO_MANIFEST_DIR
CARGO_MANIFEST_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
groups=/sys/fs/cgroup

# Marks a group as systemd does for units with Delegate=
delegate() { python3 -c 'import os, sys; os.setxattr(sys.argv[1], "user.delegate", b"1")' "$1"; }

# Runs a command in a group: within GROUP COMMAND…
within() { (echo $BASHPID >"$1/cgroup.procs" && shift && "$@"); }

# Runs a command that sees its own group as the root of all groups.
contained() { unshare --cgroup --mount sh -c "umount $groups && mount -t cgroup2 cgroup2 $groups && exec \"\$@\"" sh "$@"; }

# Runs the tests: try NAME GROUP COMMAND…
# GROUP is the one in which groups of programs are expected.
try() {
    local name=$1 group=$2
    shift 2
    printf '\n== %s\n' "$name"
    WINDLASS_SKIPPED=/tmp/skipped "$@" "$tests" --test-threads 1 programs::memory_of programs::programs_together programs::the_kernel
    echo "memory.events: $(tr '\n' ' ' <"$group/memory.events")"
    [ ! -s /tmp/skipped ] || { cat /tmp/skipped; return 1; }
    # Four programs of the tests want too much at a time.
    [ "$(sed -n 's/^oom_group_kill //p' "$group/memory.events")" -ge 4 ] || { echo "it was not the kernel that ended programs"; return 1; }
    ! compgen -G "$group/windlass-*" || { echo "groups of programs stay"; return 1; }
}

# The console is slow, and the kernel lists all that it kills.
dmesg -n 1
echo "+memory +pids" >$groups/cgroup.subtree_control
mkdir -p $groups/beside.service/main $groups/inside.service $groups/container
delegate $groups/beside.service
delegate $groups/inside.service
try "under systemd, with DelegateSubgroup=" $groups/beside.service within $groups/beside.service/main
try "under systemd, without" $groups/inside.service within $groups/inside.service
try "in a container" $groups/container within $groups/container contained
dmesg | grep 'oom-kill:' | tail -3
