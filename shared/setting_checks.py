"""What can be wrong with settings, in sentences: single values, and values that do not fit."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from shared.settings import Settings

Relation = tuple[tuple[str, ...], str]

_ENDS = {
    "bool_parsing": "must be true or false",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "literal_error": "must be {expected}",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
}


def sentence_end(detail: "ErrorDetails") -> str:
    """Return how the sentence goes on that starts with the name of the wrong setting."""
    if detail["type"] in _ENDS:
        return _ENDS[detail["type"]].format_map(detail.get("ctx", {}))
    text = detail["msg"].removeprefix("Value error, ").rstrip(".")
    return text if text.startswith(("must ", "has ")) else f"is wrong: {text}"


def relations(settings: "Settings") -> list[Relation]:
    """Return the problems between settings: the names involved and a sentence for each."""
    return [*_addresses(settings), *_certificates(settings), *_limits(settings)]


def _addresses(settings: "Settings") -> list[Relation]:
    taken: dict[str, str] = {}
    found: list[Relation] = []
    for name in ("audit_address", "catalog_address", "deployment_address", "metrics_address"):
        address: str | None = getattr(settings, name)
        if address is None:
            continue
        if address in taken:
            other = taken[address]
            sentence = f"{other.upper()} and {name.upper()} must differ: both are {address}."
            found.append(((other, name), sentence))
        taken.setdefault(address, name)
    return found


def _certificates(settings: "Settings") -> list[Relation]:
    found: list[Relation] = []
    pair = ("tls_certificate", "tls_key")
    if (settings.tls_certificate is None) != (settings.tls_key is None):
        found.append((pair, "TLS_CERTIFICATE and TLS_KEY belong together: set both or none."))
    if settings.tls_client_ca is not None and settings.tls_certificate is None:
        names = ("tls_client_ca", "tls_certificate")
        found.append((names, "TLS_CLIENT_CA needs TLS_CERTIFICATE and TLS_KEY."))
    for name in (*pair, "tls_server_ca", "tls_client_ca"):
        path = getattr(settings, name)
        if path is not None and not path.is_file():
            found.append(((name,), f"{name.upper()} names a file that cannot be found: {path}."))
    return found


def _limits(settings: "Settings") -> list[Relation]:
    found: list[Relation] = []
    for unit in ("rows", "seconds"):
        soft, hard = f"outbox_soft_{unit}", f"outbox_hard_{unit}"
        if getattr(settings, soft) > getattr(settings, hard):
            found.append(((soft, hard), f"{soft.upper()} must not exceed {hard.upper()}."))
    return found
