"""The pages about the contract: in step with it, complete, and true."""

import pytest
from buf.validate import validate_pb2
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, ServiceDescriptorProto

from docs.generate import API
from docs.generator.api_pages import INDEX, api_pages, page_of
from docs.generator.blocks import changed_wholes
from docs.generator.contract import Proto, protos
from docs.generator.rules_in_words import RuleWithoutWords, field_rules

PAGES = api_pages()
SERVICES = [
    (proto, number, service)
    for proto in protos()
    for number, service in enumerate(proto.file.service)
]


def section(page: str, heading: str) -> str:
    """Return what stands under a heading of the third level."""
    _, found, rest = PAGES[page].partition(f"\n### {heading}\n")
    assert found, f"{page} says nothing of {heading}"
    return rest.partition("\n### ")[0].partition("\n## ")[0]


def test_the_pages_are_in_step() -> None:
    stale = [path.name for path in changed_wholes(API, PAGES)]
    assert stale == [], "run `python -m docs.generate`"


@pytest.mark.parametrize("proto", protos(), ids=lambda proto: proto.file.name)
def test_every_message_and_field_is_shown_with_its_comment(proto: Proto) -> None:
    for number, message in enumerate(proto.file.message_type):
        text = section(page_of(proto), message.name)
        assert proto.of_message(number) in text
        rows = [line for line in text.splitlines() if line.startswith("| `")]
        assert len(rows) == len(message.field)
        for index, (field, row) in enumerate(zip(message.field, rows, strict=True)):
            comment = " ".join(proto.of_message(number, index).split()).replace("|", "\\|")
            assert row.startswith(f"| `{field.name}` | ")
            assert f" | {comment} | " in row


@pytest.mark.parametrize(
    ("proto", "number", "service"), SERVICES, ids=[service.name for _, _, service in SERVICES]
)
def test_every_call_is_shown_with_its_comment_and_who_may_make_it(
    proto: Proto, number: int, service: ServiceDescriptorProto
) -> None:
    for index, method in enumerate(service.method):
        text = section(page_of(proto), method.name)
        assert proto.of_service(number, index) in text
        for name in ("Request", "Answer", "Who", "Repeating"):
            assert f"\n* {name}: " in text
        assert f"[{method.name}]({page_of(proto)}#{method.name.lower()})" in PAGES[INDEX]


def test_rules_are_told_in_words() -> None:
    fields = section("catalog.md", "CreateServiceRequest").splitlines()
    rules = {line.split(" | ")[0]: line.split(" | ")[-1] for line in fields if " | " in line}
    assert rules["| `team`"] == "1 to 256 characters |"
    assert rules["| `request_id`"] == "a UUID; not checked when empty |"
    assert rules["| `labels`"].startswith("at most 32 pairs; each key matches `^[a-z]")
    assert rules["| `tier`"] == "a value of the enum |"


def test_what_is_told_of_a_call_is_what_the_contract_says() -> None:
    created = section("catalog.md", "CreateTeam")
    assert "* Who: `admin`\n" in created
    assert "* While the ledger lags: refused beyond the soft limit\n" in created
    assert "[AUDIT_BACKLOG](../errors.md#audit_backlog)" in created
    logged = section("audit.md", "LogAction")
    assert "service accounts with the scope `audit.write`" in logged
    assert "* Answer: a stream of [" in section("audit.md", "FollowAuditLogs")


def test_a_rule_without_words_is_refused() -> None:
    field = FieldDescriptorProto(name="about", type=FieldDescriptorProto.TYPE_STRING)
    field.options.Extensions[validate_pb2.field].string.prefix = "x"
    with pytest.raises(RuleWithoutWords, match=r"StringRules\.prefix"):
        field_rules(field, lambda name: pytest.fail(f"{name} is no enum"))
