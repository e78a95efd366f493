"""What people write into the files of dput and apt, to use an archive that the farm publishes."""

from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from buildmaster.apt_sources import Suite, keyring_of
from buildmaster.config import MasterConfig

# dput 1.2 cuts the port off for all of its methods, and gives it back to FTP only. dput 1.1 and dput-ng know a port in
# both: so by FTP there is one section for all of them.
_PORTLESS = "# Not for dput of Debian 13 (1.2), which knows no port but with FTP"
_NOT_DPUT = "# For dput-ng. With dput, method = scp, and in place of the port: ssh_config_options = Port {port}"


def for_dput(config: MasterConfig, archive: str) -> str:
    """Sections of ~/.dput.cf, one for each way to upload; the one that is called as the archive does for most clients.

    :param archive: DISTRIBUTION/NAME.
    """
    return "\n\n".join("\n".join(section) for section in _sections(config, archive))


def _sections(config: MasterConfig, archive: str) -> Iterator[list[str]]:
    place, name = urlsplit(config.url_for_archives()), archive.partition("/")[2]
    incoming, own = f"incoming = {place.path}/upload/{archive}", f"incoming = /upload/{archive}"
    web = [f"method = {place.scheme}", f"fqdn = {place.netloc}", incoming, "allow_unsigned_uploads = 0"]
    others, host = _is_offered(config, place.hostname or ""), f"fqdn = {place.hostname}"
    ftp = ["method = ftp", f"{host}:{config.ftp_port}", "login = anonymous", "passive_ftp = 1", own]
    has_ftp = others and config.ftp_port
    if place.port is None:
        yield [f"[{name}]", *web]
        if has_ftp:
            yield [f"[{name}-ftp]", *ftp]
    elif has_ftp:
        yield [f"[{name}]", *ftp]
        yield [_PORTLESS, f"[{name}-http]", *web]
    else:
        yield [_PORTLESS, f"[{name}]", *web]
    if others and config.sftp_port:
        port, other = f"port = {config.sftp_port}", _NOT_DPUT.format(port=config.sftp_port)
        yield [other, f"[{name}-sftp]", "method = sftp", host, port, "login = anybody", own]


def _is_offered(config: MasterConfig, host: str) -> bool:
    """Whether who reaches the archives at this host finds FTP and SFTP there."""
    return not _is_here(config.uploads_host) or _is_here(host)


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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
