"""What the pages are styled and driven by: files that are shipped, under names that change with what is in them."""

from functools import cache
from hashlib import sha256
from importlib import resources

import msgspec
from litestar import Response, get
from litestar.params import FromPath

from api.problems import NOT_FOUND, ProblemError
from api.sessions import PATH

_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
# The name is another as soon as the content is.
_FOR_GOOD = "public, max-age=31536000, immutable"


class Asset(msgspec.Struct, frozen=True):
    """A file: the name it is asked for by, what it holds, and what that is."""

    name: str
    content: bytes
    media_type: str


def url_of(file: str) -> str:
    """Return where a page finds a file of `static/`. Raises KeyError for one that is not there."""
    return f"{PATH}/static/{_by_file()[file].name}"


@get("/console/static/{name:str}", include_in_schema=False)
async def get_asset(name: FromPath[str]) -> Response[bytes]:
    found = _by_name().get(name)
    if found is None:
        raise ProblemError(NOT_FOUND)
    return Response(found.content, media_type=found.media_type, headers={"Cache-Control": _FOR_GOOD})


@cache
def _by_file() -> dict[str, Asset]:
    files = resources.files("api.console").joinpath("static").iterdir()
    return {file.name: _asset(file.name, file.read_bytes()) for file in files if _suffix(file.name) in _TYPES}


@cache
def _by_name() -> dict[str, Asset]:
    return {asset.name: asset for asset in _by_file().values()}


def _asset(file: str, content: bytes) -> Asset:
    stem, _, suffix = file.rpartition(".")
    return Asset(f"{stem}.{sha256(content).hexdigest()[:16]}.{suffix}", content, _TYPES[suffix])


def _suffix(name: str) -> str:
    return name.rpartition(".")[2]
