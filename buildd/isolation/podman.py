"""Builds in containers: each command has one of podman's, made of the root of its build, by a daemon that is root.

The root is an overlay of layers, as in the other backends, and podman takes it as it is (--rootfs): no image is made or
stored, and no layer is copied. Podman itself runs in namespaces of ours, and so do its containers, within: one ends
with them, at once, whoever is killed; and what podman notes down of it is on a tmpfs there, so that nothing is left,
neither for podman nor for us, and nobody else's containers are touched. Its "host's" network is the empty one of those
namespaces, in which the daemon's proxy listens.

By crun, as runc insists on control groups of its own: a container stays in those of its build, which have the limits.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from buildd.isolation import IsolationFailure
from buildd.isolation.chroot import check_is_root
from buildd.isolation.enter import CONTAINER_BEGAN
from buildd.isolation.layered import LayeredIsolation, Way
from buildd.isolation.mounted import MountedRoot
from buildd.isolation.namespaces import ENVIRONMENT, NAMESPACE_OF_ROOT
from buildd.process import Exit
from buildd.reach import Reach

_RUNTIME = "crun"
_CAPABILITIES = "chown,dac_override,fowner,fsetid,kill,setgid,setuid,setfcap,sys_chroot,net_bind_service"
_STORAGE = "/run/podman"  # See enter.clear_host_for_podman.
_PODMAN = (
    *("podman", "--root", f"{_STORAGE}/storage", "--runroot", f"{_STORAGE}/state", "--tmpdir", f"{_STORAGE}/tmp"),
    *("--storage-driver", "vfs", "--events-backend", "none", "--cgroup-manager", "cgroupfs", "--runtime", _RUNTIME),
)
_RUN = (
    *("run", "--rm", "--interactive", "--init", "--log-driver", "none", "--pidfile", CONTAINER_BEGAN),
    *("--network", "host", "--uts", "host", "--no-hosts", "--dns", "none"),
    *("--cgroups", "disabled", "--ulimit", "host", "--shm-size", "0"),
    *("--cap-drop", "all", "--cap-add", _CAPABILITIES, "--security-opt", "no-new-privileges"),
    *("--workdir", "/", "--unsetenv-all", *(f"--env={name}={value}" for name, value in ENVIRONMENT.items())),
)
# The machine's own settings of podman are for other containers.
_ENVIRONMENT = ENVIRONMENT | {"HOME": _STORAGE, "XDG_RUNTIME_DIR": _STORAGE, "CONTAINERS_CONF": "/dev/null"}


class ContainerRoot(MountedRoot):
    """See Root. Nothing runs beside it."""

    async def run(
        self,
        argv: Sequence[str],
        *,
        network: Reach | None,
        building: bool = False,
        stdin: bytes = b"",
        output: Callable[[bytes], None] | None = None,
    ) -> Exit:
        """See Root.run. The filter of system calls is podman's own, whatever is run."""
        command = [*_PODMAN, *_RUN, "--rootfs", str(self.path), *argv]
        settings = ["container=yes", "cwd=/"]
        filtered = self._entry.filters.always
        return await self._run(settings, command, network, filtered, env=_ENVIRONMENT, stdin=stdin, output=output)

    async def run_beside(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        visible: Sequence[Path],
        binds: Mapping[Path, Path] | None = None,
        network: Reach | None = None,
    ) -> Exit:
        """:raises IsolationFailure: always. sbuild would need /proc in a root within its container."""
        raise IsolationFailure(f"nothing runs beside a container, as {argv[0]} would have to")


PODMAN = Way(
    namespace=NAMESPACE_OF_ROOT,
    settings=("privileged=yes",),
    root=ContainerRoot,
    programs=("setpriv", "unshare", "tar", "podman", "conmon", "catatonit", _RUNTIME),
    advice="Install podman, conmon, catatonit and crun; overlayfs and a daemon that may mount it are needed as well",
    missing_command=1,
    beside=False,
)


class PodmanIsolation(LayeredIsolation):
    """The isolation by containers."""

    way = PODMAN

    async def recover(self) -> None:
        """See Isolation.recover."""
        check_is_root("podman")
        await super().recover()
