#!/bin/sh
# Runs a command, such as /sbin/init, as the first process of the Debian system in a directory, in namespaces of its own,
# which share only the network with this machine. When this is killed, so is everything in it.
#
# usage: boot.sh ROOT CGROUP COMMAND [ARGUMENT ...], as root
# CGROUP is a directory in a cgroup2 file system; it becomes the root of the system's own control groups.
set -eu
root=$1
echo $$ >"$2/cgroup.procs"
shift 2
exec unshare --mount --pid --cgroup --ipc --uts --fork --kill-child --propagation private sh -euc '
    mount --bind "$0" "$0"
    cd "$0"
    mount -t proc proc proc
    mount -t sysfs sysfs sys
    mount -t cgroup2 cgroup sys/fs/cgroup
    mount -t tmpfs -o mode=755 dev dev
    for device in null zero full random urandom tty; do
        : >"dev/$device"
        mount --bind "/dev/$device" "dev/$device"
    done
    mkdir dev/pts dev/shm
    mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
    ln -s pts/ptmx dev/ptmx
    ln -s /proc/self/fd dev/fd
    mount -t tmpfs -o mode=755 run run
    hostname debfarm-test
    # Not chroot: a chrooted process may not make the user namespaces that builds need.
    pivot_root . .
    umount -l .
    exec "$@"
' "$root" "$@"
