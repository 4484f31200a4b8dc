"""Amazon S3 as the place of the archive, or whatever speaks its protocol."""

from contextlib import AsyncExitStack
from typing import Any, Self

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from aiohttp import ClientError as WireError
from botocore.exceptions import BotoCoreError, ClientError

from ledger.errors import ArchiveUnavailableError

_ABSENT = frozenset({"NoSuchKey", "404"})
# What is read is compared with its own sha256; S3-compatible stores do not all know the newer checksums of Amazon's.
_CONFIG = AioConfig(
    connect_timeout=5,
    read_timeout=60,
    retries={"mode": "standard", "total_max_attempts": 3},
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)


class Bucket:
    """The shelf (ledger.archive.Shelf) below a prefix of a bucket. Its rights are PutObject and GetObject there, and
    ListBucket: without it S3 refuses what is absent.

    Credentials are those that the SDK finds (environment, container, instance).
    """

    def __init__(self, client: Any, resources: AsyncExitStack, *, bucket: str, prefix: str) -> None:
        self._client = client
        self._resources = resources
        self._bucket = bucket
        self._prefix = prefix

    @classmethod
    async def open(cls, *, bucket: str, prefix: str, region: str, endpoint_url: str | None = None) -> Self:
        """Open a client; `endpoint_url` is another address of S3."""
        resources = AsyncExitStack()
        client = await resources.enter_async_context(
            AioSession().create_client("s3", region_name=region or None, endpoint_url=endpoint_url, config=_CONFIG)
        )
        return cls(client, resources, bucket=bucket, prefix=prefix)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._resources.aclose()

    async def put(self, name: str, body: bytes) -> None:
        """Store an object; S3 shows it whole or not at all."""
        try:
            await self._client.put_object(Bucket=self._bucket, Key=self._key(name), Body=body)
        except (BotoCoreError, ClientError, WireError, TimeoutError) as exc:
            raise ArchiveUnavailableError(f"the archive cannot be written ({_named(exc)})") from exc

    async def get(self, name: str) -> bytes | None:
        """Return an object, None when there is none."""
        try:
            found = await self._client.get_object(Bucket=self._bucket, Key=self._key(name))
            async with found["Body"] as stream:
                return bytes(await stream.read())
        except ClientError as exc:
            if _named(exc) in _ABSENT:
                return None
            raise ArchiveUnavailableError(f"the archive cannot be read ({_named(exc)})") from exc
        except (BotoCoreError, WireError, TimeoutError) as exc:
            raise ArchiveUnavailableError(f"the archive cannot be read ({_named(exc)})") from exc

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix else name


def _named(error: Exception) -> str:
    """Name what went wrong, without the names of bucket or host."""
    return str(error.response["Error"].get("Code")) if isinstance(error, ClientError) else type(error).__name__
