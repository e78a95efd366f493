"""Builds in containers: each command has one of podman's, made of the root of its build, by a daemon that is root.

The root is an overlay of layers, as in the other backends, and podman takes it as it is (--rootfs): no image is made or
stored, and no layer is copied. Podman itself runs in namespaces of ours, and so do its containers, within: one ends
with them, at once, whoever is killed; and what podman notes down of it is on a tmpfs there, so that nothing is left,
neither for podman nor for us, and nobody else's containers are touched. Its "host's" network is the empty one of those
namespaces, in which the daemon's proxy listens.

A chroot may also be an image, as `podman save` and `docker save` write it: podman makes one tree of its layers.

By crun, as runc insists on control groups of its own: a container stays in those of its build, which have the limits.
"""

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from buildd.isolation import BrokenChroot, LimitReached
from buildd.isolation.chroot import check_is_root
from buildd.isolation.enter import CONTAINER_BEGAN
from buildd.isolation.layered import LayeredIsolation
from buildd.isolation.layers import Layer
from buildd.isolation.mounted import Way
from buildd.isolation.namespaces import ENVIRONMENT, NAMESPACE_OF_ROOT
from buildd.process import Children
from buildd.protocol import Sha1

_RUNTIME = "crun"
_CAPABILITIES = "chown,dac_override,fowner,fsetid,kill,setgid,setuid,setfcap,sys_chroot,net_bind_service"
_STORAGE = "/run/podman"  # See enter.clear_host_for_podman.
_PODMAN = (
    *("podman", "--runroot", f"{_STORAGE}/state", "--tmpdir", f"{_STORAGE}/tmp"),
    *("--events-backend", "none", "--cgroup-manager", "cgroupfs", "--runtime", _RUNTIME),
)
_NO_IMAGES = ("--root", f"{_STORAGE}/storage", "--storage-driver", "vfs")
_RUN = (
    *("run", "--rm", "--interactive", "--init", "--log-driver", "none", "--pidfile", CONTAINER_BEGAN),
    *("--network", "host", "--uts", "host", "--no-hosts", "--dns", "none"),
    *("--cgroups", "disabled", "--ulimit", "host", "--shm-size", "0"),
    *("--cap-drop", "all", "--cap-add", _CAPABILITIES, "--security-opt", "no-new-privileges"),
    *("--workdir", "/", "--unsetenv-all", *(f"--env={name}={value}" for name, value in ENVIRONMENT.items())),
)
# Run where podman does not find what an earlier one left, nor the machine's control groups. It unpacks images in
# /var/tmp, whatever it is told: that is on the daemon's disk then, and goes with the rest.
_FLATTEN = f"""
mount -t proc proc /proc
for place in /run /dev/shm /sys/fs/cgroup; do mount -t tmpfs none "$place"; done
mkdir {_STORAGE} {_STORAGE}/work && mount --bind "$PWD" {_STORAGE}/work && cd {_STORAGE}/work
touch ../image && mount --bind "$0" ../image
mkdir big && mount --bind big /var/tmp
"$@" load --quiet --input ../image >&2
image=$("$@" images --quiet --no-trunc)
container=$("$@" create --network none "$image" true)
"$@" export --output flat.tar "$container"
"""
# How the first member of an image's archive is called, and none of a chroot's.
_IMAGE = re.compile(rb"(blobs(/[^\0]*)?|oci-layout|index\.json|manifest\.json|[0-9a-f]{64}(\.tar|\.json|/.*)?)\0")
# The machine's own settings of podman are for other containers.
_ENVIRONMENT = ENVIRONMENT | {"HOME": _STORAGE, "XDG_RUNTIME_DIR": _STORAGE, "CONTAINERS_CONF": "/dev/null"}


def _in_container(root: Path) -> Sequence[str]:
    """What runs a command in a container of this root. The filter of system calls is podman's own."""
    return [*_PODMAN, *_NO_IMAGES, *_RUN, "--rootfs", str(root)]


PODMAN = Way(
    namespace=NAMESPACE_OF_ROOT,
    settings=("privileged=yes", "container=yes"),
    programs=("setpriv", "unshare", "tar", "podman", "conmon", "catatonit", _RUNTIME),
    advice="Install podman, conmon, catatonit and crun; overlayfs and a daemon that may mount it are needed as well",
    inside=_in_container,
    environment=_ENVIRONMENT,
    missing_command=1,
    beside=False,  # sbuild would need a /proc in a root within its container.
)


class PodmanIsolation(LayeredIsolation):
    """The isolation by containers."""

    way = PODMAN

    async def unpack(self, tarball: Path, sha1: Sha1, children: Children) -> Layer:
        """See Isolation.unpack. The tarball may be an image's archive, not compressed as a whole."""
        if not is_image(tarball):
            return await super().unpack(tarball, sha1, children)
        if (base := await self._bases.find(sha1)) is not None:
            return base
        directory = Path(tempfile.mkdtemp(prefix="image-", dir=self._scratch))
        try:
            await self._flatten(tarball, directory, children)
            return await super().unpack(directory / "flat.tar", sha1, children)
        finally:
            await self.remove(directory)

    async def _flatten(self, image: Path, directory: Path, children: Children) -> None:
        """Make a tarball of what a container of this image would have for its root."""
        podman = [*_PODMAN, "--root", f"{_STORAGE}/work/storage", "--storage-driver", "overlay"]
        command = self._namespaces.command(["sh", "-ec", _FLATTEN, str(image), *podman])
        ended = await children.run(command, env=_ENVIRONMENT, cwd=directory)
        if ended.limit is not None:
            raise LimitReached(ended)
        if not ended.ok:
            raise BrokenChroot(f"podman cannot use the image: {ended}; the build's log has its words")

    async def recover(self) -> None:
        """See Isolation.recover."""
        check_is_root("podman")
        await super().recover()


def is_image(tarball: Path) -> bool:
    """Whether this is no chroot, but the layers of one, and what tells of them."""
    with tarball.open("rb") as file:
        return _IMAGE.match(file.read(512)) is not None
