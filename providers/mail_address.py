"""How an e-mail address and a sender go over the wire, whoever carries them."""

import re
from email.utils import formataddr, parseaddr
from functools import lru_cache

import idna

from ledger.values import Mail

# RFC 5321 4.1.2 without quoted local parts and address literals, which carriers do not take; dots stand anywhere,
# because some carriers hand such addresses out.
DOMAIN = r"@(?=.{1,253}\Z)(?:[\w-]{1,63}\.)+[\w-]{1,63}"
ADDRESS = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}" + DOMAIN, re.ASCII)
# RFC 6531 3.3 lets everything beyond ASCII into the local part, of which no space and no control is a letter.
INTERNATIONAL = re.compile(r"(?:[\w.!#$%&'*+/=?^`{|}~-]|[^\s\0-\x9f\ud800-\udfff]){1,64}(?a:" + DOMAIN + ")")
LINE_BREAKS = re.compile(r"[\r\n\0]")


def wire_address(address: str, *, international: bool = False) -> str | None:
    """Return the address with its domain in A-labels (RFC 5891), or None when it is none that can be written to.

    A local part beyond ASCII is taken only where the carrier may offer SMTPUTF8.
    """
    local, _, domain = address.rpartition("@")
    if not domain.isascii():
        try:
            domain = idna.encode(domain, uts46=True).decode("ascii")
        except idna.IDNAError:
            return None
    spec = f"{local}@{domain}"
    allowed = INTERNATIONAL if international else ADDRESS
    return spec if allowed.fullmatch(spec) else None


@lru_cache(maxsize=256)
def wire_sender(sender: str) -> str:
    """Return the sender with a display name beyond ASCII as encoded words (RFC 2047)."""
    return sender if sender.isascii() else formataddr(parseaddr(sender))


def unsendable(address: str, content: Mail) -> str | None:
    """Return why no request is made of this: a line break that would end a header, or what UTF-8 cannot carry."""
    if any(LINE_BREAKS.search(text) for text in (address, content.sender, content.subject)):
        return "header_injection"
    try:
        for text in (content.sender, content.subject, content.html, content.text):
            text.encode()
    except UnicodeEncodeError:
        return "content_not_unicode"
    return None
