"""What of the network a build may reach."""

import pytest

from buildd.reach import Reach, Refused, Target, archive_urls

REACH = Reach.of(
    [
        "http://deb.example/debian",
        "http://user:pass@Ports.Example.:8080/a/b/",
        "http://[2001:DB8:0::1]/six",
        "http://127.0.0.1:8001/mine/",
        "https://secret.example/private",
        "https://odd.example:8443/",
        "file:/srv/archive",
        "cdrom:[Debian]/",
    ]
)
HOSTS = Reach.of_hosts(["pypi.example", "git.example:9418", "[::1]:80"])


@pytest.mark.parametrize(
    "url",
    [
        "http://deb.example/debian/dists/bookworm/InRelease",
        "http://DEB.example./debian/x",
        "http://deb.example:80/debian/x",
        "http://deb.example/debian/",
        "http://deb.example/debian/./pool//x.deb",
        "http://deb.example/d%65bian/x_1%3a2%2b3%7e4_amd64.deb",
        "http://deb.example/debian/..x/x..y/z",
        "http://deb.example//debian/x",
        "http://ports.example:8080/a/b/c",
        "http://[2001:db8::0:1]/six/x",
        "http://127.0.0.1:8001/mine/x",
    ],
)
def test_below_an_archive(url: str) -> None:
    """All that is below an archive's URL is reached, in whatever way the URL is written."""
    assert REACH.check("GET", url).url.startswith("http://")
    REACH.check("HEAD", url)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://deb.example/", "none of the build's archives"),
        ("http://deb.example/debian", "none of the build's archives"),
        ("http://deb.example/debian-security/x", "none of the build's archives"),
        ("http://deb.example/Debian/x", "none of the build's archives"),
        ("http://deb.example:8080/debian/x", "none of the build's archives"),
        ("http://deb.example.evil.example/debian/x", "none of the build's archives"),
        ("http://127.0.0.1:8221/mine/x", "none of the build's archives"),
        ("http://127.1:8001/mine/x", "none of the build's archives"),
        ("http://localhost:8001/mine/x", "none of the build's archives"),
        ("http://[::ffff:127.0.0.1]:8001/mine/x", "none of the build's archives"),
        ("http://169.254.169.254/latest/meta-data/", "none of the build's archives"),
        ("http://secret.example/private/x", "none of the build's archives"),
        ("http://deb.example/./debian/x", "none of the build's archives"),
        ("http://deb.example/debian/../x", "'..'"),
        ("http://deb.example/debian/%2e%2e/x", "'..'"),
        ("http://deb.example/debian/.%2E/x", "'..'"),
        ("http://deb.example/debian/%252e%252e/x", "'..'"),
        ("http://deb.example/debian/..;/x", "'..'"),
        ("http://deb.example/debian/..", "'..'"),
        ("http://deb.example/debian/..%2fx", "percent-encoded"),
        ("http://deb.example/debian/..%5cx", "percent-encoded"),
        ("http://deb.example/debian%2fx", "percent-encoded"),
        ("http://deb.example/debian/%00", "percent-encoded"),
        ("http://deb.example/debian/%0d%0aHost:x", "percent-encoded"),
        ("http://deb.example/debian/%25252525252561", "again and again"),
        ("http://deb.example/debian/x?a=b", "no query"),
        ("http://deb.example/debian/\\..\\x", "not an http or https URL"),
        ("http://deb.example/debian/x#y", "not an http or https URL"),
        ("http://deb.example/debian/\u00e9", "not an http or https URL"),
        ("http://deb.example/debian/x y", "not an http or https URL"),
        ("http://user@deb.example/debian/x", "user or password"),
        ("http://deb.example@evil.example/debian/x", "user or password"),
        ("http://deb.example:0/debian/x", "a host and a port"),
        ("http://deb.example:99999/debian/x", "a host and a port"),
        ("http://deb.example:/debian/x", "a host and a port"),
        ("http://[::1%25eth0]/debian/x", "a host and a port"),
        ("http://[:::1]/debian/x", "a host and a port"),
        ("http:///debian/x", "a host and a port"),
        ("http://./debian/x", "a host and a port"),
        ("https://secret.example/private/x", "takes CONNECT"),
        ("ftp://deb.example/debian/x", "not an http or https URL"),
        ("/debian/x", "not an http or https URL"),
        ("*", "not an http or https URL"),
        ("", "not an http or https URL"),
    ],
)
def test_not_below_an_archive(url: str, why: str) -> None:
    """Whatever is not surely below an archive's URL is refused, and a sentence says why."""
    with pytest.raises(Refused) as refused:
        REACH.check("GET", url)
    assert why in refused.value.why


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get"])
def test_only_reading(method: str) -> None:
    """Archives are read, and nothing else is done with them."""
    with pytest.raises(Refused, match="only GET and HEAD"):
        REACH.check(method, "http://deb.example/debian/x")


@pytest.mark.parametrize("place", ["secret.example:443", "SECRET.example.:443", "odd.example:8443"])
def test_tunnel_to_an_https_archive(place: str) -> None:
    """A tunnel leads to exactly the host and port of an archive that has https."""
    assert REACH.check_tunnel(place).scheme == "https"


@pytest.mark.parametrize(
    "place",
    [
        *("secret.example", "secret.example:80", "odd.example:443", "deb.example:80", "deb.example:443"),
        *("127.0.0.1:8001", "x@secret.example:443", "https://secret.example:443", "secret.example:443/", ":443", ""),
    ],
)
def test_tunnel_elsewhere(place: str) -> None:
    """No tunnel leads to an archive that has http only, to another port, or to what is no HOST:PORT."""
    with pytest.raises(Refused):
        REACH.check_tunnel(place)


def test_listed_hosts() -> None:
    """A host on a list is reached by http and https; with a port, at that alone. Nothing else is."""
    assert HOSTS.check("GET", "http://pypi.example/simple/x?y=../z").host == "pypi.example"
    assert HOSTS.check("GET", "http://[::1]/").place == ("::1", 80)
    assert HOSTS.check_tunnel("pypi.example:443").place == ("pypi.example", 443)
    assert HOSTS.check_tunnel("git.example:9418").place == ("git.example", 9418)
    for url in ("http://git.example/", "http://other.example/", "http://sub.pypi.example/", "http://[::1]:81/"):
        with pytest.raises(Refused, match="not on the list"):
            HOSTS.check("GET", url)
    with pytest.raises(Refused, match="not on the list"):
        HOSTS.check_tunnel("git.example:443")


@pytest.mark.parametrize("host", ["", "a b", "http://a", "a/b", "a:b", "a:0", "::1", "a@b", "*", "*.example"])
def test_what_no_host_is(host: str) -> None:
    """A list of hosts has HOST and HOST:PORT in it, and nothing that could be taken for more."""
    with pytest.raises(Refused):
        Reach.of_hosts([host])


@pytest.mark.parametrize("url", ["http://", "http://a/../b", "http://a/b?c", "http://a b/"])
def test_what_no_archive_is(url: str) -> None:
    """An archive's URL that cannot be compared with is refused at once."""
    with pytest.raises(Refused):
        Reach.of([url])


def test_too_many_archives() -> None:
    """Each request is compared with all of them."""
    with pytest.raises(Refused, match="no more than 1000"):
        Reach.of(f"http://{number}.example/" for number in range(1001))
    assert len(Reach.of(["http://one.example/"] * 2000).archives) == 1


def test_nothing_is_reached_without_archives() -> None:
    """With no archives and no hosts, nothing is reached."""
    for reach in (Reach(), Reach.of([]), Reach.of(["file:/srv"]), Reach.of_hosts([])):
        with pytest.raises(Refused):
            reach.check("GET", "http://deb.example/")
        with pytest.raises(Refused):
            reach.check_tunnel("deb.example:443")


def _redirected(location: str, source: str = "http://deb.example/debian/x") -> Reach:
    return REACH.led_to(REACH.check("GET", source), location)


def test_a_redirect_opens_one_url() -> None:
    """Where an archive's answer leads to may be asked for: exactly that URL, however apt encodes it anew."""
    reach = _redirected("http://cdn.example/y%2Bz~1?key=a%2Fb#part")
    assert reach.check("GET", "http://cdn.example/y+z%7e1?key=a%2Fb").host == "cdn.example"
    for url in ("http://cdn.example/", "http://cdn.example/y", "http://cdn.example:8080/y+z~1?key=a%2Fb"):
        with pytest.raises(Refused):
            reach.check("GET", url)
    with pytest.raises(Refused):
        REACH.check("GET", "http://cdn.example/y+z~1?key=a%2Fb")
    with pytest.raises(Refused):
        reach.check_tunnel("cdn.example:80")


def test_a_redirect_is_relative_to_its_source() -> None:
    """A redirect to another place of the same server is understood, and opens that place alone."""
    assert _redirected("/elsewhere/y").check("GET", "http://deb.example/elsewhere/y").path == "/elsewhere/y"
    assert _redirected("//cdn.example/y").check("GET", "http://cdn.example/y").host == "cdn.example"


def test_a_redirect_to_https_opens_a_tunnel() -> None:
    """Where TLS hides the URL, host and port are what a redirect opens."""
    assert _redirected("https://cdn.example/y").check_tunnel("cdn.example:443").host == "cdn.example"


def test_redirects_lead_on() -> None:
    """What a redirect led to may redirect as well."""
    reach = _redirected("http://one.example/1")
    reach = reach.led_to(reach.check("GET", "http://one.example/1"), "http://two.example/2")
    assert reach.check("GET", "http://two.example/2").host == "two.example"


@pytest.mark.parametrize(
    "location",
    [
        *(
            "http://127.0.0.1/",
            "http://127.8.8.8:8221/rpc",
            "http://localhost/",
            "http://x.localhost/",
            "http://[::1]/",
        ),
        *(
            "http://0.0.0.0/",
            "http://0.1.2.3/",
            "http://[::]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[64:ff9b::7f00:1]/",
        ),
        *(
            "http://169.254.169.254/latest/meta-data/",
            "http://[fe80::1]/",
            "http://[fd00:ec2::254]/",
            "http://224.0.0.1/",
        ),
        *(
            "http://[ff02::1]/",
            "http://100.100.100.200/",
            "http://[2002:7f00:1::]/",
            "https://127.0.0.1/",
            "http://127.0.0.1:8002/",
        ),
        *("http://127.1/", "http://2130706433/", "http://0x7f.1:8221/rpc", "https://0251.0376.0251.0376/"),
        *("http://10.0.0.1/", "http://172.31.1.1/", "http://192.168.1.1/", "http://100.64.1.1/", "http://[fd00::1]/"),
        *("https://cdn.example:22/", "https://cdn.example:25/", "http://cdn.example:6/"),
        f"http://cdn.example/{'y' * 5000}",
        *(
            "ftp://cdn.example/",
            "file:///etc/passwd",
            "http://u:p@cdn.example/",
            "http://[",
            "http://a:b/",
            "http://\u00e9/",
        ),
    ],
)
def test_a_redirect_that_is_not_followed(location: str) -> None:
    """A redirect opens nothing that is this machine's or network's own, no other service, and nothing malformed."""
    with pytest.raises(Refused):
        _redirected(location)


def test_a_redirect_within_an_archive_of_this_machine() -> None:
    """An archive on the loopback may redirect to itself; the master knows where it is."""
    reach = _redirected("/other/y", "http://127.0.0.1:8001/mine/x")
    assert reach.check("GET", "http://127.0.0.1:8001/other/y").port == 8001


def test_a_redirect_within_a_private_network() -> None:
    """An archive that is in one itself may lead to its mirrors."""
    one = Target("http", "deb.example", 80, "/debian/x")
    assert (
        REACH.found_at(one, "192.0.2.1") == REACH.found_at(Target("http", "cdn.example", 80, "/"), "10.0.0.1") == REACH
    )
    reach = REACH.found_at(one, "10.0.0.1").led_to(one, "http://10.0.0.2:8080/x")
    assert reach.check("GET", "http://10.0.0.2:8080/x").port == 8080
    with pytest.raises(Refused):
        reach.led_to(one, "http://169.254.169.254/")


def test_listed_hosts_lead_nowhere_else() -> None:
    """A redirect opens nothing where hosts are listed: the list is complete."""
    reach = HOSTS.led_to(HOSTS.check("GET", "http://pypi.example/"), "http://cdn.example/")
    with pytest.raises(Refused):
        reach.check("GET", "http://cdn.example/")


def test_redirects_are_limited() -> None:
    """An archive that redirects without end fills no memory."""
    reach = REACH
    source = Target("http", "deb.example", 80, "/debian/x")
    with pytest.raises(Refused, match="no more than"):
        for number in range(6000):
            reach = reach.led_to(source, f"http://cdn.example/{number}")


def test_a_name_counts_when_it_is_resolved() -> None:
    """An archive's name may resolve to any address, a redirect's to none of this machine's or network's own."""
    archive, elsewhere = Target("http", "deb.example", 80, "/"), Target("http", "cdn.example", 80, "/")
    for address in ("127.0.0.1", "10.0.0.1", "192.0.2.1"):
        REACH.check_address(archive, address)
    for address in ("192.0.2.1", "2001:db8::1"):
        REACH.check_address(elsewhere, address)
    for address in (
        "127.0.0.1",
        "169.254.169.254",
        "::1",
        "fe80::1%eth0",
        "::ffff:7f00:1",
        "0.0.0.0",
        "10.0.0.1",
        "fd00::1",
    ):
        with pytest.raises(Refused):
            REACH.check_address(elsewhere, address)


def test_a_refusal_is_told_in_one_short_line() -> None:
    """What a build asked for is shown without control characters, and not at length."""
    with pytest.raises(Refused) as refused:
        REACH.check("GET", "http://x/\x1b[2J\n" + "y" * 100_000)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 400


def test_archives_of_a_sources_list() -> None:
    """The URLs of archives are found in sources.list's one-line style, with and without options."""
    lines = [
        "deb http://a/x bookworm main",
        "deb-src [arch=amd64 trusted=yes] http://b/ ./",
        "# deb http://c/ x main",
        "",
    ]
    assert archive_urls(lines) == ("http://a/x", "http://b/")
