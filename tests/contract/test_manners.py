"""That every RPC has what all of its kind have, or stands in a list with the reason."""

from collections.abc import Callable, Iterator

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from tests.support.manners import (
    EXCEPTIONS,
    READING_VERBS,
    REFERENCES,
    WORDS,
    called,
    only_reads,
    subject,
)
from tests.support.platform import product_methods

METHODS = sorted(product_methods().values(), key=called)
PAGED = {"page_size", "page_token"}
# What these fields are, in every request that has one.
SAME = {
    "page_size": {"int32"},
    "page_token": {"string"},
    "request_id": {"string"},
    "validate_only": {"bool"},
    "etag": {"string"},
    "update_mask": {"google.protobuf.FieldMask"},
    "filter": {"string", "release_manager.audit.v1.AuditLogFilter"},
    "order_by": {"string"},
}
# The ends of an interval of days, a deadline, and a beginning: words that say more than "at".
OTHER_TIMES = {
    *("start_date", "end_date", "decide_by", "live_since"),
    *("deadline", "cancel_by"),
    *("start", "end", "commit_time"),
    *("not_before", "start_by", "earliest", "earliest_start", "as_of", "changed_since"),
}
# Times by the clock on a wall, which are no moments before somebody says where the wall is.
LOCAL_TIMES = {
    *("WeeklySchedule.opens_at", "WeeklySchedule.closes_at"),
    "RecurringSchedule.first_opens_at",
}


def is_change(method: MethodDescriptor) -> bool:
    """Say whether a method changes something, by its name."""
    return not str(method.name).startswith(READING_VERBS)


def changes_what_is_there(method: MethodDescriptor) -> bool:
    """Say whether a method changes the thing that its first field names."""
    makes_another = str(method.name).startswith("Create") and method.name != "CreateApiToken"
    about = subject(method)
    deploys = method.name == "PromoteRelease"
    return is_change(method) and not (makes_another or deploys) and about is not None


OWING: dict[str, Callable[[MethodDescriptor], bool]] = {
    "request_id": is_change,
    "validate_only": is_change,
    "etag": changes_what_is_there,
    "update_mask": lambda method: str(method.name).startswith("Update"),
}


@pytest.mark.parametrize("field", OWING)
def test_who_lacks_a_field_says_why(field: str) -> None:
    lacking = {
        called(method)
        for method in METHODS
        if OWING[field](method) and field not in method.input_type.fields_by_name
    }
    assert lacking == EXCEPTIONS[field].keys()
    assert all(EXCEPTIONS[field].values())


@pytest.mark.parametrize("field", OWING)
def test_who_owes_no_field_has_none(field: str) -> None:
    having = {called(method) for method in METHODS if field in method.input_type.fields_by_name}
    owing = {called(method) for method in METHODS if OWING[field](method)}
    assert having <= owing


def test_there_are_no_other_exceptions() -> None:
    assert EXCEPTIONS.keys() == OWING.keys()


def test_what_only_reads_says_so() -> None:
    assert [called(method) for method in METHODS if only_reads(method) == is_change(method)] == []


def test_what_only_reads_has_nothing_that_a_change_has() -> None:
    for method in filter(only_reads, METHODS):
        assert not OWING.keys() & names(method.input_type), called(method)
        assert "audit" not in names(method.output_type), called(method)


def test_lists_have_pages_and_nothing_else_has() -> None:
    for method in METHODS:
        fields, answer = names(method.input_type), names(method.output_type)
        if str(method.name).startswith(("List", "Diff")):
            assert fields >= PAGED, called(method)
            assert "next_page_token" in answer, called(method)
            first = method.output_type.fields[0]
            assert first.is_repeated, called(method)
            assert first.message_type is not None, called(method)
        else:
            assert not PAGED & fields, called(method)
            assert "next_page_token" not in answer, called(method)


def test_fields_that_many_requests_have_are_the_same_everywhere() -> None:
    for method in METHODS:
        for field in method.input_type.fields:
            if field.name in SAME:
                assert type_of(field) in SAME[field.name], field.full_name
                assert not field.is_repeated, field.full_name


def test_an_update_names_its_thing_first_and_answers_with_it() -> None:
    for method in METHODS:
        if "update_mask" not in names(method.input_type):
            continue
        thing, answer = subject(method), method.output_type.fields[0]
        assert thing is not None, called(method)
        assert answer.name == thing.name, called(method)
        assert answer.message_type is not None, called(method)
        assert answer.message_type.name == str(method.name).removeprefix("Update")
        assert "etag" in names(answer.message_type), called(method)


def test_every_text_either_names_something_or_does_not() -> None:
    """A new field is put into one of the two sets, and so is tried with what is not there."""
    texts = {
        str(field.name)
        for method in METHODS
        for message in messages(method.input_type)
        for field in message.fields
        if field.type == FieldDescriptor.TYPE_STRING
    }
    assert texts - {"key", "value"} == REFERENCES | WORDS
    assert not REFERENCES & WORDS


def test_times_and_ids_are_called_alike() -> None:
    for method in METHODS:
        for message in (*messages(method.input_type), *messages(method.output_type)):
            for field in message.fields:
                kind, name = type_of(field), str(field.name)
                is_time = kind == "google.protobuf.Timestamp" and name not in OTHER_TIMES
                is_time |= f"{message.name}.{name}" in LOCAL_TIMES
                assert is_time == name.endswith("_at"), field.full_name
                if name.endswith("_id") or name == "id":
                    assert kind == "string", field.full_name


def names(message: Descriptor) -> set[str]:
    """Return the names of the fields of a message."""
    return {str(field.name) for field in message.fields}


def messages(descriptor: Descriptor, seen: set[str] | None = None) -> Iterator[Descriptor]:
    """Yield a message of the product and those in it, each once."""
    seen = set() if seen is None else seen
    if descriptor.full_name in seen or not descriptor.full_name.startswith("release_manager."):
        return
    seen.add(descriptor.full_name)
    if not descriptor.GetOptions().map_entry:
        yield descriptor
    for field in descriptor.fields:
        if field.message_type is not None:
            yield from messages(field.message_type, seen)


def type_of(field: FieldDescriptor) -> str:
    """Return the type of a field as the proto says it."""
    named = field.message_type or field.enum_type
    if named is not None:
        return str(named.full_name)
    return {
        FieldDescriptor.TYPE_STRING: "string",
        FieldDescriptor.TYPE_BOOL: "bool",
        FieldDescriptor.TYPE_INT32: "int32",
    }.get(field.type, "another")
