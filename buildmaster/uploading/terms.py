"""What is accepted of strangers: how much, and for how long it is kept."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Terms:
    """What an upload may be."""

    file_bytes: int = 4 << 30  # One file.
    upload_bytes: int = 10 << 30  # All files of an upload; all that is there from one address.
    spool_bytes: int = 40 << 30  # All that is there of uploads that are not complete.
    unpacked_bytes: int = 20 << 30  # What a tarball may unpack to.
    keep_s: float = 86400.0  # What was not completed by then vanishes.
    signature_s: float = 7 * 86400.0  # How old the signature of a .changes may be.
    signed: bool = True  # No: whoever brings it vouches for it.
    builds: bool = True  # No: of a source with packages nothing is built, whichever of them did not come.
    tells: bool = False  # Uploaders are told, by mail or as the farm does otherwise.
