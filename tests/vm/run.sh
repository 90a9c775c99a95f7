#!/usr/bin/env bash
# Runs the tests of programs where the kernel limits programs by control groups, which a machine of ours may not allow: in a virtual machine
# that sees the files of this one, read-only. It boots Debian's kernel; the package is fetched and not installed.
#
#   run.sh TESTS   TESTS: the executable of windlass-tests, beside which is the windlass binary
set -euo pipefail
[ $# -eq 1 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 2; }
tests=$(readlink -f "$1")
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${WINDLASS_CACHE_DIR:-$HOME/.cache/windlass}/vm

if [ ! -d "$cache/kernel" ]; then
    fetching=$(mktemp -d)
    package=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -1)
    (cd "$fetching" && apt-get download -qq "$package")
    mkdir -p "$cache"
    dpkg -x "$fetching"/*.deb "$cache/fetched"
    rm -r "$fetching"
    mv "$cache/fetched" "$cache/kernel"
fi

root=$(mktemp -d)
trap 'rm -r "$root"' EXIT
mkdir -p "$root"/{bin,modules}
cp "$(command -v busybox)" "$root/bin/busybox"
cp "$here/init" "$root/init"
find "$cache/kernel/lib/modules" '(' -name 'virtio*.ko' -o -name '9p*.ko' -o -name 'netfs.ko' -o -name 'fscache.ko' ')' -exec cp {} "$root/modules" ';'
(cd "$root" && find . | busybox cpio -o -H newc 2>/dev/null) >"$root.cpio"
trap 'rm -r "$root" "$root.cpio"' EXIT

# Emulated: slow, and works everywhere.
said=$(qemu-system-x86_64 -M q35,accel=tcg -cpu max -smp 2 -m 4G -nodefaults -nographic -serial stdio -no-reboot \
    -kernel "$(ls "$cache"/kernel/boot/vmlinuz-*)" -initrd "$root.cpio" \
    -virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap \
    -append "console=ttyS0 quiet panic=-1 inside=$here/inside.sh tests=$tests home=$HOME" | tee /dev/stderr)
grep -q "^ended with 0" <<<"$said"
