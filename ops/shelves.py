"""Where the archive lies, opened as ARCHIVE_URL says: only here is the place chosen."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from ledger.archive import Shelf
from ops.settings import Settings
from providers.directory import Directory
from providers.s3 import Bucket


@asynccontextmanager
async def open_shelf(settings: Settings) -> AsyncIterator[Shelf | None]:
    """Open the place of the archive while the block runs; None where none is named."""
    place = urlsplit(settings.archive_url)
    if place.scheme != "s3":
        yield Directory(Path(url2pathname(place.path))) if place.path else None
        return
    bucket = await Bucket.open(
        bucket=place.netloc,
        prefix=place.path.strip("/"),
        region=settings.aws_region,
        endpoint_url=settings.archive_endpoint_url or None,
    )
    try:
        yield bucket
    finally:
        await bucket.aclose()
