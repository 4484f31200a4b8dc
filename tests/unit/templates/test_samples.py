import json

import pytest

from templates.catalogue import load
from templates.entries import Kind
from templates.envelope import Fault
from templates.samples import largest, sample, variants
from templates.shapes import MAX_LIST, SCALARS, as_written, compile_record

KINDS = load().kinds


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_sample_is_what_its_declaration_asks_for(kind: Kind):
    for data in (*variants(kind.data), largest(kind.data)):
        faults: list[Fault] = []
        assert kind.data.read(json.loads(json.dumps(data)), "", faults) == data
        assert faults == []


def test_a_sample_of_each_scalar_passes_its_check():
    record = compile_record({name: name for name in SCALARS})
    faults: list[Fault] = []
    record.read(sample(record), "", faults)
    record.read(largest(record), "", faults)
    assert faults == []


def test_the_variants_are_all_none_empty_and_each_one_absent():
    record = compile_record({"a": "text", "b?": {"c?": "line", "d": "id"}, "items": [{"e?": "flag"}]})
    assert list(variants(record)) == [
        {"a": "A", "b": {"c": "C", "d": "D-1"}, "items": [{"e": True}] * 2},
        {"a": "A", "b": {"c": "C", "d": "D-1"}, "items": []},
        {"a": "A", "items": [{}]},
        {"a": "A", "items": [{"e": True}] * 2},
        {"a": "A", "b": {"d": "D-1"}, "items": [{"e": True}] * 2},
        {"a": "A", "b": {"c": "C", "d": "D-1"}, "items": [{}] * 2},
    ]


def test_a_sample_says_which_name_it_stands_for():
    record = compile_record({"productName": "text", "orderId": "id", "trackingLink": "link"})
    assert sample(record) == {
        "productName": "Product name",
        "orderId": "ORDER-ID-1",
        "trackingLink": "https://shop.example/tracking-link",
    }


def test_the_largest_data_fill_every_list_and_text():
    data = largest(compile_record({"rows": [{"cells": ["line"]}], "note": "text"}))
    assert (len(data["rows"]), len(data["rows"][0]["cells"])) == (MAX_LIST, MAX_LIST)
    assert (len(data["rows"][0]["cells"][0]), len(data["note"])) == (200, 2000)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_shape_is_spelled_as_it_was_written(kind: Kind):
    assert compile_record(as_written(kind.data)) == kind.data
