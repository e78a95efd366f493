"""What is written into the root of a build before apt and sbuild work in it. Pure."""

import io
import tarfile

from buildd import apt
from buildd.direct import PRIVATE
from buildd.dpkg import BUILD_PATH, BUILD_USER
from buildd.managers.plan import Plan
from buildd.sbuild import WRAPPER, WRAPPER_SCRIPT

# Beside them, at the top of the root: names that no package has.
DEPENDENCY_DSC = "build-dependencies.dsc"  # What apt-get build-dep is given.
CURRENTLY_BUILDING = "CurrentlyBuilding"

# Prints "ARCHITECTURE UID:GID" of a root in which packages can be built; of another something else, or nothing.
FIT = f"""
for path in {BUILD_PATH} /{PRIVATE}; do
    if [ -e "$path" ] || [ -L "$path" ]; then
        echo "$path is in the way"
        exit
    fi
done
echo "$(dpkg --print-architecture) $(id -u {BUILD_USER}):$(id -g {BUILD_USER})"
"""

# Runs inside, as the build's root, with the files as a tar archive on standard input; "$1" is "replace" when they bring
# a sources.list; "$2" may be an architecture to have packages of, too. Prints what FIT does. What it removes first may
# be a link, and tar would write through it.
PREPARE = f"""
set -eu
exec 3>&1 1>&2
rm -f /etc/resolv.conf /etc/hosts /usr/sbin/policy-rc.d
if [ "$1" = replace ]; then
    rm -f /etc/apt/sources.list
    rm -rf /etc/apt/sources.list.d
fi
tar --extract --file - --directory /
getent group {BUILD_USER} >/dev/null || echo '{BUILD_USER}:x:2001:' >>/etc/group
getent passwd {BUILD_USER} >/dev/null || echo '{BUILD_USER}:*:2001:2001:build user:/build:/bin/sh' >>/etc/passwd
getent group sbuild >/dev/null || echo 'sbuild:x:2002:' >>/etc/group
getent passwd sbuild >/dev/null || echo 'sbuild:*:2002:2002:sbuild:/build:/bin/sh' >>/etc/passwd
mkdir -p /build
chown {BUILD_USER}:sbuild /build
chmod 770 /build
if command -v debconf-set-selections >/dev/null; then
    # An index of manual pages, of which nobody has need, takes more than a second.
    echo 'man-db man-db/auto-update boolean false' | debconf-set-selections || :
fi
[ -z "$2" ] || dpkg --add-architecture "$2"
exec 1>&3
{FIT}
"""

_PROGRAMS = {
    "usr/sbin/policy-rc.d": b"#!/bin/sh\n# No service may be started in a root that is thrown away.\nexit 101\n",
    WRAPPER.lstrip("/"): WRAPPER_SCRIPT,
}


def root_files(plan: Plan) -> bytes:
    """A tar archive of the files, all of them root's. Keys may be megabytes: call it in a thread."""
    files = {
        "etc/apt/apt.conf.d/99debfarm": apt.CONFIGURATION.encode(),
        "etc/hosts": b"127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n",
        "etc/resolv.conf": b"# No name is looked up in here: what may be reached is reached by a proxy.\n",
        **_PROGRAMS,
        **{f"etc/apt/trusted.gpg.d/{name}": key for name, key in plan.key_files.items()},
    }
    if plan.sources:
        files["etc/apt/sources.list"] = "".join(f"{line}\n" for line in plan.sources).encode()
    if versions := plan.arguments.package_versions:
        files["etc/apt/apt.conf.d/98debfarm-versions"] = apt.DOWNGRADES.encode()
        files["etc/apt/preferences.d/debfarm-versions.pref"] = apt.preferences(versions).encode()
    return _tar(files)


def currently_building(plan: Plan) -> bytes:
    """What tools in the chroot may want to know of the build, such as a package mangler; as on other builders."""
    arguments = plan.arguments
    fields = {
        "Package": plan.dsc.source,
        "Component": arguments.ogrecomponent,
        "Suite": arguments.suite,
        "Purpose": arguments.archive_purpose,
        "Build-Debug-Symbols": "yes" if arguments.build_debug_symbols else "",
    }
    return "".join(f"{name}: {value}\n" for name, value in fields.items() if value).encode()


def _tar(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.mode = 0o755 if name in _PROGRAMS else 0o644
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()
