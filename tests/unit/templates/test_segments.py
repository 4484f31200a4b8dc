import pytest

from templates.segments import is_gsm7, segments_of

# 3GPP TS 23.038, table of 6.2.1, row by row as it is printed: b4..b1 down, b7..b5 across; ESC stands for 0x1b.
TABLE = """
@ Δ SP 0 ¡ P ¿ p
£ _ !  1 A Q a q
$ Φ "  2 B R b r
¥ Γ #  3 C S c s
è Λ ¤  4 D T d t
é Ω %  5 E U e u
ù Π &  6 F V f v
ì Ψ '  7 G W g w
ò Σ (  8 H X h x
Ç Θ )  9 I Y i y
LF Ξ * : J Z j z
Ø ESC + ; K Ä k ä
ø Æ ,  < L Ö l ö
CR æ - = M Ñ m ñ
Å ß .  > N Ü n ü
å É /  ? O § o à
"""
NAMED = {"SP": " ", "LF": "\n", "CR": "\r"}
DEFAULT = [NAMED.get(cell, cell) for cell in TABLE.split() if cell != "ESC"]
# The same, 6.2.1.1; FF is the page break at 0x0a.
EXTENSION = ["\f", "^", "{", "}", "\\", "[", "~", "]", "|", "€"]


def test_the_alphabet_is_that_of_the_standard():
    everything = {chr(code) for code in range(0x10000) if not 0xD800 <= code < 0xE000}
    assert len(DEFAULT) == 127
    assert {character for character in everything if is_gsm7(character)} == {*DEFAULT, *EXTENSION}


@pytest.mark.parametrize("character", DEFAULT)
def test_a_character_of_the_default_alphabet_is_one_septet(character: str):
    assert (segments_of(character * 160), segments_of(character * 161)) == (1, 2)


@pytest.mark.parametrize("character", EXTENSION)
def test_a_character_of_the_extension_counts_twice(character: str):
    assert (segments_of(character * 80), segments_of(character * 81)) == (1, 2)


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("", 1),
        ("a" * 160, 1),
        ("a" * 161, 2),
        ("a" * 306, 2),
        ("a" * 307, 3),
        ("a" * 459, 3),
        ("a" * 460, 4),
        ("ж" * 70, 1),
        ("ж" * 71, 2),
        ("ж" * 134, 2),
        ("ж" * 135, 3),
        ("ж" * 201, 3),
        ("ж" * 202, 4),
        ("a" * 70 + "ж", 2),
        ("🎉" * 35, 1),
        ("🎉" * 36, 2),
    ],
)
def test_segments_are_counted_as_they_are_sent(text: str, segments: int):
    assert segments_of(text) == segments


@pytest.mark.parametrize("character", ["`", "\t", "ç", "\u2019", "\u2013", "…", "\u00a0", "ё", "中", "🎉", "\u200b"])
def test_one_character_beyond_the_alphabet_makes_the_whole_of_it_ucs2(character: str):
    assert not is_gsm7(character)
    assert segments_of("a" * 70 + character) == 2


def test_an_escape_is_not_parted_from_its_code():
    """152 septets and a euro: its two would straddle the border of the first segment, and so begin the second."""
    assert segments_of("a" * 152 + "€" + "a" * 151) == 2
    assert segments_of("a" * 152 + "€" + "a" * 152) == 3


def test_a_surrogate_pair_is_not_parted():
    assert segments_of("ж" * 66 + "🎉" + "ж" * 65) == 2
    assert segments_of("ж" * 66 + "🎉" + "ж" * 66) == 3
