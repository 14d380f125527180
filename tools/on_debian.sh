#!/usr/bin/env bash
# Runs a command, by default the tests, on another release of Debian: the work
# tree is copied into a root of its own under build/, which debootstrap fills once.
# Needs root, and the network for packages.
#
#   tools/on_debian.sh trixie                      make test, with libcurl 8.14 and Python 3.13
#   tools/on_debian.sh trixie make test-py PYTEST="-k guard"
set -euo pipefail
cd "$(dirname "$0")/.."

if [ $# -eq 0 ] || [ "$(id -u)" -ne 0 ]; then
    echo "usage, as root: tools/on_debian.sh SUITE [COMMAND...]" >&2
    exit 2
fi
suite=$1
shift
[ $# -gt 0 ] || set -- make test
root=$PWD/build/debian-$suite

if [ ! -e "$root/complete" ]; then
    command -v debootstrap >/dev/null || apt-get -qy install --no-install-recommends debootstrap
    rm -rf "$root"
    debootstrap --variant=minbase \
        --include=ca-certificates,gcc,git,iproute2,libc6-dev,libcurl4-openssl-dev,make,openssl,python3,python3-dev,python3-venv,zlib1g-dev \
        "$suite" "$root"
    touch "$root/complete"
fi

# How this machine reaches the network holds there too.
for file in /etc/resolv.conf /etc/hosts /etc/pip.conf /etc/ssl/certs/ca-certificates.crt; do
    [ ! -e "$file" ] || cp -L "$file" "$root$file"
done
# Nothing of an earlier copy stays but what was built there.
mkdir -p "$root/src" "$root/shared/data"
find "$root/src" -mindepth 1 -maxdepth 1 ! -name .venv ! -name build -exec rm -rf {} +
rm -f "$root/src/.venv/.core"
git ls-files -z --cached --others --exclude-standard | xargs -0 -r ls -d 2>/dev/null | tar -cf - -T - | tar -xf - -C "$root/src"

# The mounts end with the command. Recorded pages, where there are any, are seen as they are here.
unshare -m sh -c '
    root=$1
    data=$2
    shift 2
    mount --bind "$root" "$root" # so that a mount namespace can be made inside
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount -t sysfs -o ro sysfs "$root/sys" 2>/dev/null || true
    [ ! -d "$data" ] || mount --bind "$data" "$root/shared/data"
    exec chroot "$root" env HOME=/root LC_ALL=C.UTF-8 sh -c "cd /src && exec \"\$@\"" sh "$@"
' sh "$root" "${SGLANG_COLLECT_DATA:-$PWD/../shared/data}" "$@"
