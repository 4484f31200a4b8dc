"""How many segments an SMS takes: what it costs, and whether it fits. GSM-7 where its alphabet suffices, else UCS-2."""

from collections.abc import Iterable

# 3GPP TS 23.038, 6.2.1: the default alphabet in the order of its codes, less the escape (0x1b), which is no character.
_ALPHABET = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
# 6.2.1.1: its extension; each of these is an escape and a code.
_EXTENSION = "\f^{}\\[~]|€"
_SEPTETS = dict.fromkeys(_ALPHABET, 1) | dict.fromkeys(_EXTENSION, 2)

# What one message holds alone, and each part of several: a header takes 6 of its 140 octets (TS 23.040, 9.2.3.24.1).
_GSM_ALONE, _GSM_PART = 160, 153
_UCS_ALONE, _UCS_PART = 70, 67


def is_gsm7(text: str) -> bool:
    """Whether every character is in the GSM 7 bit default alphabet or its extension."""
    return all(character in _SEPTETS for character in text)


def segments_of(text: str) -> int:
    """Return the number of segments of an SMS, at least 1: of 160 or 153 septets, or of 70 or 67 UTF-16 units.

    What belongs together, an escape and its code or the two halves of a surrogate pair, is not parted: it begins the
    next segment. National language tables are not reckoned with; no provider of ours uses them.
    """
    if is_gsm7(text):
        return _parts((_SEPTETS[character] for character in text), alone=_GSM_ALONE, part=_GSM_PART)
    return _parts((1 + (character > "\uffff") for character in text), alone=_UCS_ALONE, part=_UCS_PART)


def _parts(widths: Iterable[int], *, alone: int, part: int) -> int:
    sizes = list(widths)
    if sum(sizes) <= alone:
        return 1
    number, room = 1, part
    for size in sizes:
        if size > room:
            number, room = number + 1, part
        room -= size
    return number
