#!/bin/sh
# Runs as root of fresh user, mount, pid, ipc and uts namespaces: mounts the root of a build and runs a command in it, or
# beside it. What is mounted here nobody else sees, and it goes with the namespace.
#
# usage: enter.sh inside|beside COMMAND [ARGUMENT ...]
# DEBFARM_ROOT, DEBFARM_LOWER, DEBFARM_UPPER and DEBFARM_WORK say where the overlay goes and what it is made of.
#
# This shell stays as the first process of the pid namespace, to reap what loses its parent: tests wait for daemons that
# they ended to be gone. When it exits, the kernel ends everything else in the namespace.
#
# Exit status 125: this script could not do its part; any other is the command's.
set -eu
trap 'exit 125' EXIT
mode=$1
shift
root=$DEBFARM_ROOT

mount -t overlay overlay -o "userxattr,lowerdir=$DEBFARM_LOWER,upperdir=$DEBFARM_UPPER,workdir=$DEBFARM_WORK" "$root"
unset DEBFARM_ROOT DEBFARM_LOWER DEBFARM_UPPER DEBFARM_WORK

# Only real directories are mounted on: a chroot's symbolic link would be followed on the host's side.
for directory in dev proc sys; do
    if [ -L "$root/$directory" ] || ! [ -d "$root/$directory" ]; then
        rm -f "$root/$directory"
        mkdir -m 755 "$root/$directory"
    fi
done

mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
# A fresh sysfs needs a network namespace of one's own; builds look into it for the number of processors.
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys" 2>/dev/null || :
mount -t tmpfs -o nosuid,mode=755 dev "$root/dev"
for device in null zero full random urandom tty; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs -o nosuid,nodev,mode=1777 shm "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
ln -s fd/0 "$root/dev/stdin"
ln -s fd/1 "$root/dev/stdout"
ln -s fd/2 "$root/dev/stderr"

# Builds may talk to themselves. Fails, and need not succeed, in the host's network namespace.
ip link set dev lo up 2>/dev/null || :

if [ "$mode" = inside ]; then
    # pivot_root, not chroot: there must be no way back, and nested user namespaces must work (a chrooted process may not
    # make one). The old root is stacked under the new one and taken away: pivot_root(2), "." and ".".
    cd "$root"
    pivot_root . .
    umount -l .
    cd /
fi
trap - EXIT
set +e
"$@"
exit $?
