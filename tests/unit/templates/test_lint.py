from typing import Any

import pytest

from templates.drafts import Draft
from templates.examining import examine
from templates.rules import FAULTS, WARNINGS
from tests.unit.templates.drafts import draft

TEXT = "en/body.txt"


def faults(given: Draft) -> list[str]:
    return [str(fault) for fault in examine(given).faults]


def warnings(given: Draft) -> list[str]:
    return [str(warning) for warning in examine(given).warnings]


def test_a_draft_in_order_has_nothing_to_be_said_of_it():
    vetted = examine(draft())
    assert (vetted.faults, vetted.warnings) == ([], [])
    assert [one.mail.subject for one in vetted.previews if one.mail] == ["Your order ORDER-ID-1"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a\n{% if %}", "en/body.txt:2: Expected an expression, got 'end of statement block' (syntax)"),
        ("{{ orderId | nothing }}", "en/body.txt:1: there is no filter nothing (unknown-filter)"),
        ("{{ orderId | replace('a', 'b') }}", "en/body.txt:1: there is no filter replace (unknown-filter)"),
        ("\n{{ orderid }}", "en/body.txt:2: orderid is not among the data (undeclared)"),
        ("{% if orderid is defined %}{% endif %}x", "en/body.txt:1: orderid is not among the data (undeclared)"),
        ("{{ to.town }}", "en/body.txt:1: town is not among the members of to (undeclared)"),
        ("{{ orderId.x }}", "en/body.txt:1: orderId has no members, and so no x (undeclared)"),
        (
            "{% for item in items %}\n{{ item.nme }}{% endfor %}",
            "en/body.txt:2: nme is not among the members of item (undeclared)",
        ),
        ("{% for a in items %}{% endfor %}{{ a.name }}", "en/body.txt:1: a is not among the data (undeclared)"),
        ("{{ items[0].nme }}", "en/body.txt:1: nme is not among the members of it (undeclared)"),
        ("{{ items[0]['nme'] }}", "en/body.txt:1: nme is not among the members of it (undeclared)"),
        ("{% macro m(a) %}{{ b }}{% endmacro %}{{ m(1) }}", "en/body.txt:1: b is not among the data (undeclared)"),
        ("{{ orderId | safe }}", "en/body.txt:1: the filter safe is not for templates (unsafe)"),
        ("{{ orderId | attr('x') }}", "en/body.txt:1: the filter attr is not for templates (unsafe)"),
        ("{% autoescape false %}x{% endautoescape %}", "en/body.txt:1: changes how HTML is escaped (unsafe)"),
        ("{{ orderId.__class__ }}", "en/body.txt:1: __class__ is behind a value, not of it (unsafe)"),
        ("{{ orderId['__class__'] }}", "en/body.txt:1: __class__ is behind a value, not of it (unsafe)"),
        ("{{ orderId.upper() }}", "en/body.txt:1: calls something that is no macro (unsafe)"),
        ("{{ 2 ** 8 }}", "en/body.txt:1: raises to a power (costly)"),
        ("{{ orderId * 8 }}", "en/body.txt:1: * is for numbers (costly)"),
        ("{{ '%9d' % count }}", "en/body.txt:1: % is for numbers (costly)"),
        ("{% for a in items recursive %}{{ loop(a) }}{% endfor %}", "en/body.txt:1: is a loop that calls itself"),
        (
            "{% macro m() %}{% if count > 3 %}{{ m() }}{% endif %}{% endmacro %}{{ m() }}",
            "en/body.txt:1: m calls itself, or is called before it is defined (costly)",
        ),
        (
            "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}x",
            "en/body.txt:1: b calls itself, or is called before it is defined (costly)",
        ),
        (
            "{% include 'en/subject.txt' %}",
            "en/body.txt:1: takes in en/subject.txt: only shared files can be (include)",
        ),
        ("{% include '_shared/none.txt' %}", "takes in _shared/none.txt: only shared files can be (include)"),
        ("{% include orderId %}", "en/body.txt:1: takes in what is named at run time: only shared files can be"),
        ("a\nsee http://shop.example", "en/body.txt:2: links by http: write https (http-link)"),
        ("{{ day }}", "en/body.txt:1: fails with data as they are declared (missing-data)"),
        ("{{ to.city }}", "en/body.txt:1: fails with data as they are declared (missing-data)"),
        ("{{ orderId | day }}", "en/body.txt:1: fails with data as they are declared (template-failed)"),
        ("{% if count > 99 %}x{% endif %}", "en/body.txt: fails with data as they are declared (empty)"),
        ("{% for a in items %}x{% endfor %}", "en/body.txt: fails with data as they are declared (empty)"),
        ("x" * 100_001, "en/body.txt: is over 100000 bytes (file)"),
        (
            "{% set x = orderId %}" + "{% set x = x ~ x %}" * 15 + "{{ x }}",
            "en: body.txt is over 200000 bytes (too-large)",
        ),
    ],
)
def test_a_fault_names_file_line_and_rule(text: str, fault: str):
    found = faults(draft({TEXT: text}))
    assert any(fault in one for one in found), found


@pytest.mark.parametrize(
    "text",
    [
        "{{ brand }} {{ name or '' }} {{ lang }}",
        "{% for item in items %}{{ loop.index }}{{ loop.cycle('a', 'b') }}{{ item.name }}{% else %}none{% endfor %}",
        "{% for item in items %}{% if item.price is defined %}{{ item.price }}{% endif %}{% endfor %}x",
        "{% if to is defined %}{{ to.city }}{{ to.lines[0] if to.lines else '' }}{% endif %}x",
        "{% if day is defined %}{{ day | day }}{% endif %}{{ count * 2 + 1 }}{{ items | length * count }}",
        "{% macro a(x) %}{{ x.y }}{% endmacro %}{% macro b(x) %}{{ a({'y': x}) }}{% endmacro %}{{ b(count) }}",
        "{% set n = count %}{{ n }} {{ orderId | truncate(5) | upper }}",
        '{% import "_shared/m.txt" as m %}{% from "_shared/m.txt" import one as uno %}{{ m.one(1) }}{{ uno(2) }}',
        "<html xmlns='http://www.w3.org/1999/xhtml'>",
    ],
)
def test_what_templates_need_is_no_fault(text: str):
    shared = {"_shared/m.txt": "{% macro one(x) %}{{ x }}{% endmacro %}"}
    assert faults(draft({TEXT: text, **shared})) == []


def test_every_fault_is_told_at_once():
    found = faults(
        draft(
            {TEXT: "{{ a }}\n{{ b | c }}", "en/subject.txt": "{{ orderId | safe }}", "xx/sms.txt": "http://x", "y": ""}
        )
    )
    assert [fault.rpartition("(")[2] for fault in found] == [
        "language)",
        "undeclared)",
        "undeclared)",
        "unknown-filter)",
        "unsafe)",
        "http-link)",
        "file)",
    ]


def test_a_shared_file_that_takes_itself_in_by_way_of_another_is_a_fault():
    circle = {"_shared/a.txt": "{% include '_shared/b.txt' %}", "_shared/b.txt": "{% include '_shared/a.txt' %}"}
    assert faults(draft({TEXT: "{% include '_shared/a.txt' %}", **circle})) == [
        "_shared/a.txt: takes itself in (include)",
        "_shared/b.txt: takes itself in (include)",
    ]


def test_a_block_that_is_said_within_itself_is_a_fault():
    layout = {"_shared/l.html": "<h1>{{ self.t() }}</h1>{% block t %}x{% endblock %}"}
    page = "{% extends '_shared/l.html' %}{% block t %}{% if count > 3 %}{{ self.t() }}{% endif %}y{% endblock %}"
    assert faults(draft({"en/body.html": page, **layout})) == [
        "en/body.html:1: calls something that is no macro (unsafe)"
    ]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"data": {"x": "colour"}}, "a shape is one of id"),
        ({"data": {"a b": "id"}}, "is no name that a template could use (data)"),
        ({"sample": {"orderId": 7}}, "orderId must be a string of 1 to 200 printable characters (data)"),
        ({"files": {"fr/body.html": "x"}}, "fr/subject.txt: is not there, and email needs it (missing-part)"),
        ({"channels": ("email", "sms")}, "en/sms.txt: is not there, and sms needs it (missing-part)"),
        ({"files": {"de/sms.txt": "x"}}, "de: days and money are written in en, fr (language)"),
        ({"files": {"en/sms.txt": "x" * 500}}, "en: 4, where 3 may be (too-many-segments)"),
        ({"files": {"en/push_title.txt": "x"}}, "en/push_body.txt: is not there, and push needs it (missing-part)"),
        ({"files": {"en-gb/sms.txt": "x"}}, "en-gb/sms.txt: is none of a template"),
        ({"files": {"en_GB/sms.txt": "x"}}, "en_GB/sms.txt: is none of a template"),
        ({"files": {"en/notes.md": "x"}}, "en/notes.md: is none of a template: LANGUAGE/ and body.html"),
        ({"files": {"_shared/x.css": "p {", "en/body.html": "<p>x</p>"}}, None),
        ({"files": {f"_shared/{n}.txt": "x" for n in range(201)}}, "has more than 200 files (file)"),
    ],
)
def test_a_fault_of_the_whole(changes: dict[str, Any], fault: str | None):
    found = faults(draft(changes.pop("files", None), **changes))
    assert found == [] if fault is None else any(fault in one for one in found), found


@pytest.mark.parametrize(
    ("files", "warning"),
    [
        ({"en/subject.txt": "x" * 71}, "en/subject.txt: 71 characters (long-subject)"),
        ({"en/body.html": "<p>{% for a in items %}" + "x" * 60_000 + "{% endfor %}"}, "bytes (clipped)"),
        ({"en/sms.txt": "x" * 161}, "en/sms.txt: takes 2 segments (segments)"),
        ({"en/sms.txt": "prêt ê ç"}, "en/sms.txt: has çê (not-gsm7)"),
        (
            {"en/push_title.txt": "x" * 51, "en/push_body.txt": "x"},
            "en/push_title.txt: is cut on many screens (long-push)",
        ),
        (
            {"en/push_title.txt": "x", "en/push_body.txt": "x" * 151},
            "en/push_body.txt: is cut on many screens (long-push)",
        ),
        ({"fr/sms.txt": "x"}, "fr has no email: en is used (missing-language)"),
    ],
)
def test_a_warning_hinders_nobody(files: dict[str, str], warning: str):
    given = draft(files)
    assert any(warning in one for one in warnings(given)), warnings(given)
    assert faults(given) == []


def test_a_text_that_is_not_written_is_made_and_said_so():
    given = draft()
    del given.files[TEXT]
    vetted = examine(given)
    assert [str(one) for one in vetted.warnings] == [
        "en/body.txt: is not there: the text is made from the HTML (text-made)"
    ]
    assert [one.mail.text for one in vetted.previews if one.mail] == ["ORDER-ID-1: £1,234.50\n"]


def test_it_is_shown_with_the_data_that_are_given():
    data = {"orderId": "A-1", "total": 2, "currency": "EUR", "count": 1, "items": []}
    vetted = examine(draft({TEXT: "{{ name }} {{ orderId }}"}, sample=data, sample_name="Zoë"))
    assert [one.mail.text for one in vetted.previews if one.mail] == ["Zoë A-1"]


def test_every_rule_has_one_name():
    assert not FAULTS.keys() & WARNINGS.keys()
