"""Every place of the archive keeps what it is given, word for word, and says clearly when it cannot."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from ledger.archive import Shelf
from ledger.errors import ArchiveUnavailableError
from ops.settings import Settings
from ops.shelves import open_shelf
from tests.support import ports

NAME = "2026w30/0a1b.jsonl.zst"
MISSING = "<Error><Code>NoSuchKey</Code><Message>no</Message></Error>"
DENIED = "<Error><Code>AccessDenied</Code><Message>no</Message></Error>"


class FakeS3:
    """PutObject and GetObject of one bucket; `denies` stands for a role without the rights."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.denies = False

    async def answer(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"].startswith("AWS4-HMAC-SHA256 ")
        if self.denies:
            return web.Response(status=403, text=DENIED, content_type="application/xml")
        if request.method == "PUT":
            self.objects[request.path] = await request.read()
            return web.Response()
        body = self.objects.get(request.path)
        if body is None:
            return web.Response(status=404, text=MISSING, content_type="application/xml")
        return web.Response(body=body)


@pytest.fixture
async def s3(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[FakeS3, Settings]]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    fake, port, app = FakeS3(), ports.free(), web.Application()
    app.router.add_route("*", "/{path:.*}", fake.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield (
        fake,
        Settings(
            archive_url="s3://facts/of/shop/",
            archive_endpoint_url=f"http://127.0.0.1:{port}",
            aws_region="eu-west-1",
        ),
    )
    await runner.cleanup()


@pytest.fixture(params=["file", "s3"])
async def shelf(request: pytest.FixtureRequest, s3: tuple[FakeS3, Settings], tmp_path: Path) -> AsyncIterator[Shelf]:
    _, bucket = s3
    settings = {"file": Settings(archive_url=f"file://{tmp_path}/an%20archive"), "s3": bucket}[request.param]
    async with open_shelf(settings) as opened:
        assert opened is not None
        yield opened


async def test_what_is_put_is_got_as_it_was_and_what_was_not_is_none(shelf: Shelf):
    body = os.urandom(100_000)
    assert await shelf.get(NAME) is None
    for _ in range(2):
        await shelf.put(NAME, body)
        assert await shelf.get(NAME) == body
    assert await shelf.get("2026w30/other") is None


async def test_a_bucket_is_written_below_its_prefix_and_one_that_refuses_is_named_by_its_code(
    s3: tuple[FakeS3, Settings],
):
    fake, settings = s3
    async with open_shelf(settings) as shelf:
        assert shelf is not None
        await shelf.put(NAME, b"facts")
        assert fake.objects == {f"/facts/of/shop/{NAME}": b"facts"}
        fake.denies = True
        for work in (shelf.put(NAME, b"facts"), shelf.get(NAME)):
            with pytest.raises(ArchiveUnavailableError, match="AccessDenied"):
                await work


async def test_a_directory_that_cannot_be_written_says_so_without_its_name(tmp_path: Path):
    (tmp_path / "file").write_text("no directory")
    async with open_shelf(Settings(archive_url=f"file://{tmp_path}/file/archive")) as shelf:
        assert shelf is not None
        for work in (shelf.put(NAME, b"facts"), shelf.get(NAME)):
            with pytest.raises(ArchiveUnavailableError) as raised:
                await work
            assert str(tmp_path) not in str(raised.value)


async def test_a_file_that_could_not_be_finished_does_not_stay(tmp_path: Path):
    (tmp_path / NAME).mkdir(parents=True)
    async with open_shelf(Settings(archive_url=f"file://{tmp_path}")) as shelf:
        assert shelf is not None
        with pytest.raises(ArchiveUnavailableError):
            await shelf.put(NAME, b"facts")
    assert [path.name for path in (tmp_path / NAME).parent.iterdir()] == [Path(NAME).name]


async def test_without_a_place_there_is_no_shelf():
    async with open_shelf(Settings()) as shelf:
        assert shelf is None
