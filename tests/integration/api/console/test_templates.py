"""The pages of the templates over a socket: what is said, how versions differ in words, and how they look."""

from tests.integration.api.conftest import Service
from tests.integration.api.console.browser import Browser
from tests.integration.api.test_templates import drafted, published

PAGE = "/console/templates/password_reset"


async def test_what_is_said_is_listed_compared_in_words_and_shown_where_it_can_do_nothing(
    browser: Browser, service: Service
):
    version = await published(service, "Pick a <b>new</b> password")
    draft = await drafted(service, "Choose once more")
    await browser.sign_in("notifications:read")

    await browser.get("/console/templates")
    assert f'href="{PAGE}"' in browser.page
    await browser.get(PAGE)
    assert f"{version} (said now)" in browser.text
    assert "a kinder tone" in browser.text

    await browser.get(f"{PAGE}/diff")
    assert "1 line added, 1 line removed." in browser.text
    assert "Added Pick a <b>new</b> password" in browser.text
    assert "<b>new" not in browser.page
    await browser.get(f"{PAGE}/diff?from={version}&to={draft}")
    assert "Removed Pick a <b>new</b> password Added Choose once more" in browser.text

    await browser.get(f"{PAGE}/preview?version={version}")
    assert (
        f'sandbox title="What password_reset says, with made-up data" src="{PAGE}/preview/frame?version={version}"'
        in (browser.page)
    )
    answer = await browser.get(f"{PAGE}/preview/frame?version={version}")
    assert answer.headers["content-security-policy"].endswith("frame-ancestors 'self'; sandbox")
    assert "Subject: Pick a <b>new</b> password" in browser.text
    assert "srcdoc=" in browser.page

    for nowhere in ("/console/templates/owls", f"{PAGE}/diff?from=x&to=y", f"{PAGE}/preview/frame?version=x"):
        assert (await browser.get(nowhere)).status_code == 404, nowhere
