#!/usr/bin/env bash
# `apptainer` and `singularity` on a bare Debian 12, as root, from Debian's packages. Installed already?
# Then it does nothing. Another system: apptainer.org has packages and says how to build it.
#
# Debian 12 has no Apptainer; the one in Debian's unstable suite wants a newer C library. So that package
# is repacked with that suite's C library in a folder of its own, which only Apptainer's two programs use.
# The repacked package is kept in ~/.cache/recaffe: unstable moves on, a machine that works shouldn't.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
kept=${XDG_CACHE_HOME:-$HOME/.cache}/recaffe/apptainer_bookworm_amd64.deb
folder=/usr/lib/x86_64-linux-gnu/apptainer
glibc=$folder/glibc
here=$(cd "$(dirname "$0")" && pwd)

fail() {
    echo "apptainer.sh: $*" >&2
    exit 1
}

install_() {
    apt-get -o DPkg::Lock::Timeout=900 -q install -y --no-install-recommends "$@"
}

# An apt of our own: unstable never enters the system's lists. Signatures are checked as ever; dates
# aren't, because a mirror may serve an older state of the suite.
download() {
    local apt=$1/apt mirror
    mirror=$("$here/mirror.sh")
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror sid main" >"$apt/sources.list"
    cat >"$apt/apt.conf" <<END
Dir::Etc::sourcelist "$apt/sources.list"; Dir::Etc::sourceparts "-"; Dir::Etc::preferencesparts "-";
Dir::State::lists "$apt/lists"; Dir::Cache "$apt/cache"; APT::Sandbox::User "root";
Acquire::Languages "none"; Acquire::Check-Valid-Until "false"; Acquire::Check-Date "false";
END
    (cd "$1" && export APT_CONFIG=$apt/apt.conf && apt-get -q update && apt-get -q download apptainer libc6)
}

repack() {
    local work program library libraries
    work=$(mktemp -d)
    # shellcheck disable=SC2064 # this folder, as it's called now
    trap "rm -rf '$work'" EXIT
    download "$work"
    dpkg-deb -R "$work"/apptainer_*.deb "$work/package"
    dpkg-deb -x "$work"/libc6_*.deb "$work/libc"
    libraries=$work/libc/usr/lib/x86_64-linux-gnu
    mkdir -p "$work/package$glibc"
    # What a C program may load: its own needs, and name services on demand.
    for library in ld-linux-x86-64.so.2 libc.so.6 libm.so.6 libdl.so.2 libpthread.so.0 librt.so.1 \
        libresolv.so.2 libnss_files.so.2 libnss_dns.so.2; do
        cp -L "$libraries/$library" "$work/package$glibc/"
    done
    for program in /usr/bin/apptainer "$folder/bin/starter"; do
        patchelf --set-interpreter "$glibc/ld-linux-x86-64.so.2" --force-rpath --set-rpath "$glibc" "$work/package$program"
    done
    # The C library that it now brings is no reason to refuse Debian 12's.
    sed -i -E 's/libc6 \(>= [0-9.]+\)/libc6/; s/^Version: .*/&+bookworm/' "$work/package/DEBIAN/control"
    rm -f "$work/package/DEBIAN/md5sums"
    mkdir -p "$(dirname "$kept")"
    dpkg-deb --root-owner-group -Zgzip -b "$work/package" "$work/apptainer.deb" >/dev/null
    cp "$work/apptainer.deb" "$kept.$$" && mv "$kept.$$" "$kept"
}

# Inside another container root may lack a capability, and Apptainer, which asks for all, then refuses to
# start anything. Give it those that Docker's containers have.
capabilities() {
    local bound all
    bound=$(awk '/^CapBnd/ {print $2}' /proc/self/status)
    all=$(((1 << ($(cat /proc/sys/kernel/cap_last_cap) + 1)) - 1))
    [ $((0x$bound)) -ne $all ] || return 0
    apptainer config global --set "root default capabilities" file
    apptainer capability add --user root CAP_AUDIT_WRITE,CAP_CHOWN,CAP_DAC_OVERRIDE,CAP_FOWNER,CAP_FSETID,CAP_KILL,CAP_MKNOD,CAP_NET_BIND_SERVICE,CAP_NET_RAW,CAP_SETFCAP,CAP_SETGID,CAP_SETPCAP,CAP_SETUID,CAP_SYS_CHROOT
}

if command -v apptainer >/dev/null; then
    exit 0
fi
[ "$(id -u)" = 0 ] || fail "Apptainer isn't installed, and only root can do it."
if [ "$(dpkg --print-architecture 2>/dev/null)" != amd64 ] || ! grep -q '^VERSION_CODENAME=bookworm' /etc/os-release; then
    fail "this recipe is for Debian 12 on amd64. apptainer.org says how to install Apptainer elsewhere."
fi
apt-get -o DPkg::Lock::Timeout=900 -q update
if [ ! -s "$kept" ]; then
    install_ debian-archive-keyring ca-certificates patchelf
    repack
fi
# /etc/localtime, from tzdata, is bound into each container. The FUSE programs serve users who aren't root.
# The package lies in root's home, where apt's own user can't read: copied to where it can.
deb=$(mktemp -d)
chmod 755 "$deb" && cp "$kept" "$deb/apptainer.deb"
install_ "$deb/apptainer.deb" fuse-overlayfs fuse2fs squashfuse tzdata
rm -rf "$deb"
capabilities
apptainer --version
