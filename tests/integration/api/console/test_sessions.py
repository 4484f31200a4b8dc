from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
from litestar.handlers import HTTPRouteHandler

from api.app import make_app
from api.auth import PUBLIC, declared, operations
from api.services import Services
from api.sessions import LONGEST_TOKEN, Sessions, is_console, is_here
from tests.integration.api.conftest import PUBLIC_URL, Service, served
from tests.integration.api.console.browser import Browser
from tests.integration.api.test_auth import filled
from tests.integration.api.tokens import claims, signed, token

READ = "notifications:read"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)


def pages(services: Services) -> Iterator[tuple[str, str, HTTPRouteHandler]]:
    for path, method, handler in operations(make_app(services)):
        if is_console(path):
            yield path, method, handler


async def test_i17_whoever_is_not_signed_in_is_sent_to_the_sign_in_and_back(browser: Browser, services: Services):
    for path, method, _ in pages(services):
        if path in PUBLIC or method != "GET":
            continue
        asked = filled(path)
        answer = await browser.get(f"{asked}?version=3")
        assert answer.status_code == 303, path
        target = urlsplit(answer.headers["location"])
        assert target.path == "/console/sign-in"
        assert httpx.QueryParams(target.query)["to"] == f"{asked}?version=3"


async def test_i17_each_page_opens_to_its_scopes_alone(browser: Browser, services: Services):
    await browser.sign_in("nothing:at-all")
    for path, method, handler in pages(services):
        if declared(handler) and method == "GET":
            answer = await browser.get(filled(path))
            assert answer.status_code == 403, path
            assert "Your sign-in does not allow it." in browser.text
            assert min(declared(handler) or ()) in browser.text


async def test_the_cookie_opens_nothing_but_the_console_and_the_bearer_token_not_the_console(
    browser: Browser, service: Service
):
    await browser.sign_in(READ)
    stolen = {"Cookie": f"console_session={token(READ)}"}
    assert (await browser.client.get("/v1/notifications", headers=stolen)).status_code == 401
    assert (await service.client.get("/v1/pauses")).status_code == 200
    assert (await service.client.get("/console")).status_code == 303


async def test_no_form_is_taken_from_another_site_from_another_session_or_from_none(
    browser: Browser, service: Service, services: Services
):
    """Every route that changes something, whatever it is, and whoever asks."""
    await browser.sign_in("notifications:read notifications:act pii:read recipients:write operations")
    other = Browser(browser.client)
    csrf = browser.page.partition('name="csrf" value="')[2][:32]
    origin = {"Origin": service.url}
    refused: list[tuple[str, dict[str, str], dict[str, str]]] = [
        ("another site", {"csrf": csrf}, {"Origin": "https://evil.example"}),
        ("a page without an address", {"csrf": csrf}, {"Origin": "null"}),
        ("nowhere", {"csrf": csrf}, {}),
        ("a page without a token", {"csrf": ""}, origin),
        ("a page of another session", {"csrf": "0" * 32}, origin),
    ]
    changing = [(path, method) for path, method, _ in pages(services) if method != "GET"]
    assert len(changing) >= 3
    for path, method in changing:
        for name, fields, headers in refused:
            answer = await other.client.request(method, filled(path), data=fields, headers=headers)
            assert answer.status_code == 403, (path, name)
            assert "This form was not taken" in answer.text, (path, name)
    assert (await browser.get("/console")).status_code == 200
    answer = await browser.client.post("/console/sign-out", data={"csrf": csrf}, headers={"Origin": PUBLIC_URL})
    assert answer.status_code == 303


async def test_the_sign_in_leaves_a_cookie_that_ends_with_the_token_and_that_no_script_reads(browser: Browser):
    answer = await browser.sign_in(READ, to="/console?x=1")
    assert answer.headers["location"] == "/console?x=1"
    (cookie,) = [one for one in answer.headers.get_list("set-cookie") if one.startswith("console_session=")]
    attributes = {part.strip().partition("=")[0].lower(): part.partition("=")[2] for part in cookie.split(";")[1:]}
    assert {"httponly", "samesite", "path", "max-age"} <= set(attributes)
    assert attributes["samesite"].lower() == "strict"
    assert attributes["path"] == "/console"
    assert 500 < int(attributes["max-age"]) <= 600
    # Plain HTTP on this machine alone has no use for the attribute.
    assert "secure" not in attributes
    elsewhere = await browser.client.get(
        "/console/sign-in", headers={"Host": "notifications.acme.example", "Cookie": ""}
    )
    assert all("; secure" in one.lower() for one in elsewhere.headers.get_list("set-cookie"))


async def test_whoever_signs_out_is_out(browser: Browser):
    await browser.sign_in(READ)
    assert (await browser.post("/console/sign-out")).headers["location"] == "/console/sign-in"
    assert (await browser.get("/console")).status_code == 303


async def test_a_token_that_will_not_do_is_answered_in_a_sentence(browser: Browser):
    refused = {
        "": "the field is empty",
        "not a token": "The token is not valid: ",
        signed(claims(READ, aud="billing")): "The token is not valid: invalid_claim: aud",
        signed(claims(READ, exp=1)): "The token is not valid: expired_token",
        "x" * (LONGEST_TOKEN + 1): "too long to be kept by a browser",
    }
    await browser.get("/console/sign-in")
    for bad, said in refused.items():
        answer = await browser.post("/console/sign-in", token=bad, to="/console")
        assert answer.status_code == 401
        assert said in browser.text
        assert "console_session" not in browser.client.cookies


async def test_nobody_is_sent_to_another_place_than_the_console(browser: Browser):
    evil = (
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "/console\\evil",
        "/v1/positions",
        "/consoles",
        "",
    )
    assert [target for target in evil if is_here(target)] == []
    answer = await browser.sign_in(READ, to=evil[0])
    assert answer.headers["location"] == "/console"


async def test_an_installation_offers_no_token_and_a_sandbox_does_on_its_own_machine(
    browser: Browser, services: Services
):
    await browser.get("/console/sign-in")
    assert "sandbox" not in browser.text
    assert (await browser.post("/console/sign-in/sandbox", to="/console")).status_code == 404
    sessions = Sessions(services.ledger.identity, public_url=PUBLIC_URL, offered=lambda: token(READ))
    sandbox = msgspec.structs.replace(services, sessions=sessions)
    async with served(make_app(sandbox)) as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        asking = Browser(client)
        # By a name that was made to lead here.
        stranger: Any = {"Host": "evil.example", "Origin": "http://evil.example"}
        await asking.get("/console/sign-in")
        csrf = asking.page.partition('name="csrf" value="')[2][:32]
        refused = await client.post("/console/sign-in/sandbox", data={"csrf": csrf}, headers=stranger)
        assert refused.status_code == 404
        answer = await asking.post("/console/sign-in/sandbox", to="/console")
        assert answer.status_code == 303
        assert (await asking.get("/console")).status_code == 200


async def test_every_answer_of_the_console_says_what_may_run_and_that_nothing_is_kept(browser: Browser):
    await browser.sign_in(READ)
    for path in ("/console", "/console/", "/console/sign-in", "/console/nowhere", "/console/notifications/none"):
        answer = await browser.get(path)
        assert answer.headers["content-security-policy"] == POLICY
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"


async def test_what_is_not_there_is_said_on_a_page_and_to_programs_as_a_problem(browser: Browser, service: Service):
    await browser.sign_in(READ)
    answer = await browser.get("/console/nowhere")
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")
    assert "There is no such thing" in browser.text
    assert answer.headers["x-correlation-id"] in browser.text
    assert (await browser.get("/console/static/console.css")).status_code == 404
    assert (await service.client.get("/v1/nowhere")).headers["content-type"] == "application/problem+json"


async def test_what_htmx_asks_for_is_answered_so_that_it_is_seen(browser: Browser):
    answer = await browser.get("/console", **{"HX-Request": "true"})
    assert (answer.status_code, answer.headers["hx-redirect"]) == (200, "/console/sign-in?to=%2Fconsole")
    await browser.sign_in("nothing:at-all")
    assert (await browser.get("/console", **{"HX-Request": "true"})).headers["hx-retarget"] == "main"


async def test_files_are_kept_for_good_under_names_that_change_with_them(browser: Browser):
    await browser.get("/console/sign-in")
    for kind, start in (("css", ":root"), ("js", "var htmx"), ("svg", "<svg")):
        named = (part for part in browser.page.split('"') if part.startswith("/console/static/"))
        answer = await browser.client.get(next(url for url in named if url.endswith(kind)))
        assert answer.text.startswith(start)
        assert "immutable" in answer.headers["cache-control"]


async def test_the_console_is_no_part_of_the_interface_for_programs(service: Service):
    document = (await service.client.get("/schema")).json()
    assert not [path for path in document["paths"] if is_console(path)]
