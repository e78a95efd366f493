"""The build daemon: an XML-RPC server on each builder that builds packages with sbuild in throw-away chroots."""

__version__ = "0.1.0"
