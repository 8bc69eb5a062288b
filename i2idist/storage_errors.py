"""What storage backends raise, put into words that say what to do; and which of it passes when one waits.

Backends raise OSError, botocore's, aiohttp's and their own errors; none of their messages holds a secret.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from i2idist.errors import StorageError

_KEYS = (
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to this store's, or AWS_SHARED_CREDENTIALS_FILE to the file that "
    "holds them."
)
_WRONG_KEY = frozenset(
    ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "InvalidSecurity", "403")
)
_BUSY = frozenset(("InternalError", "ServiceUnavailable", "SlowDown", "RequestTimeout", "OperationAborted"))


def explained(error: BaseException, action: str, url: str) -> StorageError:
    """The error that callers see: what failed, where, why, and what to do."""
    detail = (str(error) or type(error).__name__).rstrip(".")
    code = s3_code(error)
    kind = code if code and not code.isdigit() else type(error).__name__
    return StorageError(f"Can't {action} {url}: {kind}: {detail}. {_mend(error, code, url)}")


def passes(error: BaseException) -> bool:
    """Whether the same request may succeed later, with nothing changed but time: the store is away, or too busy."""
    if isinstance(error, (ConnectionError, TimeoutError)):
        return True
    cut_off = (
        *_kinds("botocore.exceptions", "ConnectionError", "HTTPClientError", "IncompleteReadError"),
        *_kinds("botocore.parsers", "ResponseParserError"),
        *_kinds("aiohttp", "ClientError"),
    )
    if isinstance(error, cut_off):
        return True
    response = _s3_response(error)
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return bool(status >= 500) or s3_code(error) in _BUSY


def s3_code(error: BaseException) -> str:
    """S3's own name for what went wrong, or for requests whose answer has no body its HTTP status; "" if not S3's."""
    return str(_s3_response(error).get("Error", {}).get("Code", ""))


def _s3_response(error: BaseException) -> dict[str, Any]:
    """The answer that botocore raised an error for, which s3fs translates and keeps as the cause."""
    for found in (error, error.__cause__):
        if found is not None and isinstance(found, _kinds("botocore.exceptions", "ClientError")):
            response: dict[str, Any] = vars(found).get("response") or {}
            return response
    return {}


def _kinds(module: str, *names: str) -> tuple[type[BaseException], ...]:
    """Error classes of a library that is imported late; () while it isn't, for then none of them was raised."""
    return tuple(vars(sys.modules[module])[name] for name in names) if module in sys.modules else ()


def _mend(error: BaseException, code: str, url: str) -> str:
    if url.startswith("s3://"):
        mend = _mend_s3(error, code, url)
        if mend:
            return mend
    if isinstance(error, FileNotFoundError):
        return "Check the spelling, and that the bucket or folder exists."
    if isinstance(error, PermissionError):
        return "Check the permissions, or the access key and secret in the environment."
    if isinstance(error, ImportError):
        return "Install the named package."
    return "Check that the storage is reachable and try again."


def _mend_s3(error: BaseException, code: str, url: str) -> str | None:
    place = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "AWS"
    bucket = url.removeprefix("s3://").split("/", 1)[0]
    if isinstance(error, _kinds("botocore.exceptions", "NoCredentialsError", "PartialCredentialsError")):
        return f"No keys for {place} were found, and it serves nobody without. {_KEYS}"
    if code in _WRONG_KEY:
        return f"The store at {place} refuses these keys. {_KEYS}"
    if code == "AccessDenied":
        return (
            f"These keys may not do that, or there is no bucket '{bucket}' at {place}. Check the bucket's name, or "
            "use keys that have the right."
        )
    if code == "NoSuchBucket":
        return f"There is no bucket '{bucket}' at {place}. Check its name, or make it."
    if passes(error):
        return f"Check that {place} is up and is the right store (AWS_ENDPOINT_URL), and try again."
    return None
