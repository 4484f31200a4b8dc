"""The look that the inboxes of all fakes share."""

from html import escape

from aiohttp import web

STYLE = """
body { font: 16px/1.5 system-ui; margin: 2rem auto; max-width: 60rem; padding: 0 1rem }
table { width: 100%; border-collapse: collapse }
td, th { text-align: left; padding: .3rem; border-bottom: 1px solid #ccc }
iframe { width: 100%; height: 30rem; border: 1px solid #ccc }
pre { white-space: pre-wrap }
form { display: inline }
"""
PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'; form-action 'self'; base-uri 'none'"


def page(title: str, content: str) -> web.Response:
    html = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
        f"<h1>{escape(title)}</h1>{content}</html>"
    )
    return web.Response(text=html, content_type="text/html", headers={"Content-Security-Policy": PAGE_POLICY})
