"""What people write into the files of dput and apt, to use an archive that the farm publishes."""

from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from buildmaster.apt_sources import Suite, keyring_of
from buildmaster.config import MasterConfig

# dput 1.2 cuts the port off for all of its methods, and gives it back to FTP only.
_PORTLESS = "# dput of Debian 13 (1.2) cannot upload by {method} to a port: {instead}"
_NOT_DPUT = "# For dput-ng. With dput, method = scp, and in place of the port: ssh_config_options = Port {port}"


def for_dput(config: MasterConfig, archive: str) -> str:
    """Sections of ~/.dput.cf, one for each way to upload.

    :param archive: DISTRIBUTION/NAME.
    """
    return "\n\n".join("\n".join(section) for section in _sections(config, archive))


def _sections(config: MasterConfig, archive: str) -> Iterator[list[str]]:
    place, name = urlsplit(config.url_for_archives()), archive.partition("/")[2]
    incoming = f"incoming = {place.path}/upload/{archive}"
    web = [f"[{name}]", f"method = {place.scheme}", f"fqdn = {place.netloc}", incoming, "allow_unsigned_uploads = 0"]
    if place.port is not None:
        instead = f"dput {name}-ftp, or dput-ng" if config.ftp_port else "take dput-ng"
        web.insert(0, _PORTLESS.format(method=place.scheme, instead=instead))
    yield web
    own = f"incoming = /upload/{archive}"
    if config.ftp_port:
        host = f"fqdn = {place.hostname}:{config.ftp_port}"
        yield [f"[{name}-ftp]", "method = ftp", host, "login = anonymous", "passive_ftp = 1", own]
    if config.sftp_port:
        host, port = f"fqdn = {place.hostname}", f"port = {config.sftp_port}"
        other = _NOT_DPUT.format(port=config.sftp_port)
        yield [other, f"[{name}-sftp]", "method = sftp", host, port, "login = anybody", own]


def for_apt(base: str, archive: str, suites: Sequence[str]) -> str:
    """How to have the key, and files for /etc/apt/sources.list.d, of either form.

    :param base: where our archives are, without a slash at the end.
    """
    url, label, key = f"{base}/{archive}", archive.replace("/", "-"), keyring_of(archive)
    lines = "\n".join(Suite(archive, each, ("main",)).line(base, keyring=key) for each in suites)
    return (
        f"the key:\n\nwget -O {key} {url}/key.asc\n\nand /etc/apt/sources.list.d/{label}.sources:\n\n"
        f"Types: deb deb-src\nURIs: {url}\nSuites: {' '.join(suites)}\nComponents: main\nSigned-By: {key}\n\n"
        f"or, as lines of /etc/apt/sources.list.d/{label}.list:\n\n{lines}"
    )
