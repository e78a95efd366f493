"""What goes wrong with an S3 server, as the store's interface tells it: OSError, in words that help."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from buildmaster.store import StoreError

_CREDENTIALS = "the secrets s3-access-key and s3-secret-key are not good for this, or not for this bucket"
_ADVICE = {
    "InvalidAccessKeyId": _CREDENTIALS,
    "SignatureDoesNotMatch": _CREDENTIALS,
    "AccessDenied": _CREDENTIALS,
    "403": _CREDENTIALS,
    "NoSuchBucket": "make the bucket first; no master makes one",
    "RequestTimeTooSkewed": "this machine's clock and the server's differ too much",
}


@contextmanager
def failures_told(what: str) -> Iterator[None]:
    """Turn what botocore raises into StoreError.

    :param what: what is being done, as the beginning of the sentence.
    """
    try:
        yield
    except Exception as error:
        words = _words(error)
        if words is None:
            raise
        raise StoreError(f"{what}: {words}") from error


def code_of(error: Any) -> str:
    """The server's word for what is wrong; where it has none, the HTTP status."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _words(error: Exception) -> str | None:
    """What an error says; None when it is not one of the libraries'. Their own texts hold no secrets and no query."""
    from boto3.exceptions import Boto3Error  # noqa: PLC0415 - slow; who comes here has imported it already.
    from botocore import exceptions  # noqa: PLC0415
    from urllib3.exceptions import HTTPError  # noqa: PLC0415

    match error:
        case exceptions.ClientError():
            code = code_of(error)
            told = str(error.response.get("Error", {}).get("Message", "")).strip()
            advice = _ADVICE.get(code, "")
            return ": ".join(filter(None, (code, told))) + (f" ({advice})" if advice else "")
        case exceptions.EndpointConnectionError() | exceptions.ConnectTimeoutError():
            return "the server cannot be reached: is it up, and [store] endpoint right?"
        case exceptions.ReadTimeoutError():
            return "the server does not answer"
        case exceptions.BotoCoreError() | Boto3Error() | HTTPError():
            return f"{type(error).__name__}: {str(error).partition('?')[0]}"
    return None
