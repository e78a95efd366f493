#!/bin/sh
# Builds a package with plain tools, as root of the machine: what our builds are compared with. Runs in a mount namespace
# of its own, so that what it mounts over the machine's configuration nobody else sees.
#
# usage: as_root.sh HOW WORK TARBALL SUITE DSC
# HOW is one of
#   reference        as launchpad-buildd does it: unpack the chroot, update and upgrade it, run sbuild in its schroot mode on
#                    it as a plain directory, with sbuild's own resolver, remove it
#   prepare-schroot  unpack a chroot into WORK, to be used many times
#   schroot          sbuild in its schroot mode on an overlay on that one, with the steps that sbuild has by default
#   prepare-bare     unpack a chroot into WORK, bring it up to date, install the build-dependencies of DSC
#   bare             dpkg-buildpackage in that one, and nothing around it
set -eu
how=$1 work=$2 tarball=$3 suite=$4 dsc=$5
root=$work/chroot-autobuild
architecture=$(dpkg --print-architecture)
name=$(sed -n 's/^Source: //p' "$dsc")
export DEB_BUILD_OPTIONS="parallel=$(nproc)" LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive

heading() { printf '| %-76s |\n' "$1"; }

unpack() {
    mkdir -p "$work"
    tar -C "$work" --numeric-owner -xf "$tarball"
}

mount_root() {
    mount -t proc proc "$root/proc"
    mount -t tmpfs -o mode=755 dev "$root/dev"
    mkdir "$root/dev/pts" "$root/dev/shm"
    mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
    mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
    ln -s pts/ptmx "$root/dev/ptmx"
    ln -s /proc/self/fd "$root/dev/fd"
    make_devices
    cp /etc/resolv.conf /etc/hosts "$root/etc/"
}

make_devices() {
    for device in null zero full random urandom tty; do cp -a "/dev/$device" "$root/dev/"; done
}

umount_root() {
    umount "$root/dev/shm" "$root/dev/pts" "$root/dev" "$root/proc"
}

upgrade() {
    chroot "$root" apt-get -q update
    chroot "$root" apt-get -q -y -o DPkg::Options::=--force-confold --purge dist-upgrade
}

# The users that sbuild and schroot need, in the chroot and here.
arrange_sbuild() {
    grep -q '^sbuild:' "$root/etc/group" || echo 'sbuild:x:105:' >>"$root/etc/group"
    grep -q '^sbuild:' "$root/etc/passwd" || echo 'sbuild:*:105:105::/build:/bin/sh' >>"$root/etc/passwd"
    { grep -v '^sbuild:' /etc/group; echo 'sbuild:x:105:root,buildd'; } >"$work/group"
    { grep -v '^buildd:' /etc/passwd; grep '^buildd:' "$root/etc/passwd"; } >"$work/passwd"
    printf '%s\n' 'auth sufficient pam_rootok.so' 'account required pam_permit.so' 'session required pam_permit.so' \
        >"$work/pam"
    rm -rf "$work/state" "$work/chroot.d" "$work/build" "$work/out"
    mkdir -p "$work/state/union/overlay" "$work/state/union/underlay" "$work/state/session" "$work/state/mount" \
        "$work/state/unpack" "$work/chroot.d" "$work/build" "$work/out"
    chown 105:105 "$work/build"
    chmod 2770 "$work/build"
    mount --bind "$work/pam" /etc/pam.d/schroot
    mount --bind "$work/group" /etc/group
    mount --bind "$work/passwd" /etc/passwd
    mount --bind "$work/chroot.d" /etc/schroot/chroot.d
    mount --bind "$work/state" /var/lib/schroot
    mount --bind "$work/build" /var/lib/sbuild/build
}

# usage: run_sbuild SCHROOT-LINES SBUILDRC-LINES
run_sbuild() {
    printf '%s\n' '[bench]' "directory=$root" users=root root-users=root "$1" >"$work/chroot.d/bench"
    printf '%s\n' "\$chroot_mode = 'schroot';" "\$build_user = 'buildd';" '$run_lintian = 0;' '$run_piuparts = 0;' \
        '$run_autopkgtest = 0;' '$nolog = 1;' '$log_colour = 0;' "$2" '1;' >"$work/sbuildrc"
    cd "$work/out"
    SBUILD_CONFIG=$work/sbuildrc HOME=$work sbuild --dist "$suite" --chroot bench --arch "$architecture" --arch-all "$dsc"
    cd /
}

case $how in
reference)
    heading "Unpack chroot"
    unpack
    mount_root
    heading "Update chroot"
    upgrade
    arrange_sbuild
    run_sbuild "type=plain" "\$apt_update = 0; \$apt_distupgrade = 0; \$apt_clean = 0;
        \$purge_build_deps = 'never'; \$purge_build_directory = 'never';"
    heading "Remove"
    umount_root
    rm -rf --one-file-system "$root"
    ;;
prepare-schroot)
    unpack
    make_devices
    ;;
schroot)
    arrange_sbuild
    run_sbuild "type=directory
union-type=overlay
profile=sbuild" ""
    ;;
prepare-bare)
    unpack
    mount_root
    upgrade
    cp "$dsc" "$root/tmp/"
    chroot "$root" apt-get -q -y --no-install-recommends build-dep "/tmp/${dsc##*/}"
    ;;
bare)
    mount_root
    heading "Unpack source"
    rm -rf "$root/build/$name"
    mkdir -p "$root/build/$name"
    cp "${dsc%/*}"/* "$root/build/$name/"
    chown -R 2001:2501 "$root/build/$name"
    as_buildd='setpriv --reuid=2001 --regid=2501 --clear-groups --'
    # shellcheck disable=SC2086
    chroot "$root" $as_buildd sh -c 'cd "/build/$1" && dpkg-source --extract "$2" tree' sh "$name" "${dsc##*/}"
    heading "Build"
    # The niceness of the daemon's children, so that others' work costs both the same.
    # shellcheck disable=SC2086
    nice -n 5 chroot "$root" $as_buildd sh -c 'cd "/build/$1/tree" && dpkg-buildpackage --sanitize-env -us -uc -b' \
        sh "$name"
    heading "Remove"
    umount_root
    ;;
*)
    echo "as_root.sh: $how?" >&2
    exit 2
    ;;
esac
