import pytest

from templates.files import digest_of, finished
from templates.inlining import inline

CSS = "p { margin: 0 0 16px } .lead, td p { color: red } @media (max-width: 3px) { p { margin: 0 } }"


def test_rules_become_attributes_and_all_else_stays_byte_for_byte():
    page = """{% macro note(words) %}\n<p class="lead"  id='x'>{{ words }} &nbsp;&times;<br/>\n</p>{% endmacro %}\n"""
    styled = inline(page, CSS)
    assert styled == page.replace("id='x'>", "id='x' style=\"margin: 0 0 16px;color: red\">")


def test_what_an_attribute_says_is_stronger_than_a_rule():
    assert "color: blue" in inline('<p class="lead" style="color: blue">x</p>', CSS)
    assert "red" not in inline('<p class="lead" style="color: blue">x</p>', CSS)


@pytest.mark.parametrize(
    ("page", "styled"),
    [
        ('<p {% if a > 3 %}hidden{% endif %}>{{ "<p>" }}</p>', ' style="margin: 0 0 16px">{{ "<p>" }}</p>'),
        ("<table>{% for a in b %}<tr><td><p>x</p></td></tr>{% endfor %}</table>", "<p style="),
        ("<p style=\"color: {{ c | d('e') }}\">x</p>", "color: {{ c | d('e') }}"),
        ("<!--[if mso]><p>x</p><![endif]--><p>y</p>", '<!--[if mso]><p>x</p><![endif]--><p style="'),
        ("<!DOCTYPE html><html><body class=lead><p/></body></html>", '<body class=lead style="color: red">'),
    ],
)
def test_what_jinja_reads_may_stand_anywhere(page: str, styled: str):
    assert styled in inline(page, CSS)


def test_a_tag_that_no_parser_sees_stays_as_it_is():
    assert inline('<td style="color:red"><p>x</p>', "td { margin: 0 } p { margin: 0 }") == (
        '<td style="color:red"><p style="margin: 0">x</p>'
    )


def test_quotes_of_a_rule_do_not_end_the_attribute():
    assert inline("<p>x</p>", 'p { font-family: "A B", c; background: url("x?a&b") }') == (
        "<p style=\"font-family: 'A B', c;background: url('x?a&amp;b')\">x</p>"
    )


def test_a_version_holds_the_shared_files_that_it_uses_and_no_style_sheet():
    files = {
        "en/body.html": '{% extends "_shared/a.html" %}',
        "_shared/a.html": "{% include '_shared/b.html' %}<p>x</p>",
        "_shared/b.html": "y",
        "_shared/c.html": "z",
        "_shared/mail.css": "p { margin: 0 }",
    }
    whole = finished(files)
    assert list(whole) == ["_shared/a.html", "_shared/b.html", "en/body.html"]
    assert whole["_shared/a.html"].endswith('<p style="margin: 0">x</p>')
    assert finished(whole) == whole


@pytest.mark.parametrize(
    ("file", "moves"),
    [("_shared/a.html", True), ("_shared/mail.css", True), ("_shared/c.html", False), ("en/subject.txt", True)],
)
def test_a_version_moves_with_each_file_that_it_uses(file: str, *, moves: bool):
    files = {
        "en/subject.txt": "x",
        "en/body.html": '{% extends "_shared/a.html" %}',
        "_shared/a.html": "<p>x</p>",
        "_shared/c.html": "z",
        "_shared/mail.css": "p { margin: 0 }",
    }
    changed = {**files, file: f"{files[file]}\np {{ color: red }}"}
    assert (digest_of("note", finished(changed)) != digest_of("note", finished(files))) is moves
