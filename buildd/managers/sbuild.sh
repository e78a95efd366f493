#!/bin/sh
# Runs beside the root of a build, in its namespaces: gives sbuild the host's view that it needs, then runs it. What is
# mounted here goes with the mount namespace.
#
# usage: sbuild.sh DIRECTORY UID:GID SBUILD [ARGUMENT ...]
# DIRECTORY holds sbuildrc, schroot/ (the whole of /etc/schroot for this build) and home/; UID:GID is the build user's in
# the root: sbuild and schroot need the same user on both sides.
set -eu
directory=$1
uid=${2%:*}
gid=${2#*:}
shift 2
case "$uid$gid" in '' | *[!0-9]*) echo "sbuild.sh: not a user: $uid:$gid" >&2; exit 125 ;; esac

# "*" and not "x": nobody here may read the host's /etc/shadow, where PAM would look for an "x".
cat >"$directory/passwd" <<END
root:*:0:0:root:$directory/home:/bin/sh
buildd:*:$uid:$gid:build user:/build:/bin/sh
nobody:*:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
END
cat >"$directory/group" <<END
root:*:0:
buildd:*:$gid:
sbuild:*:2002:root
nogroup:*:65534:
END
cat >"$directory/pam" <<END
auth sufficient pam_rootok.so
account required pam_permit.so
session required pam_permit.so
END
mount --bind "$directory/passwd" /etc/passwd
mount --bind "$directory/group" /etc/group
mount --bind "$directory/pam" /etc/pam.d/schroot
mkdir -p "$directory/schroot/setup.d"
mount --bind "$directory/schroot" /etc/schroot
mkdir /var/lib/schroot/session /var/lib/schroot/mount /var/lib/schroot/unpack

export SBUILD_CONFIG="$directory/sbuildrc" HOME="$directory/home" USER=root LOGNAME=root
exec "$@"
