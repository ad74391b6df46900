"""Every setting of the product, read from the environment once and never changed afterwards.

`read_settings` is the only door: it reports all wrong settings together, in sentences that repeat
no secret. `python -m shared.settings` prints `.env.example`, which a test keeps equal to this file.
"""

import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from shared.setting_checks import relations, sentence_end
from shared.setting_values import Address, DatabaseUrl, LogLevel, Names, Networks, is_loopback

ENV_FILE = ".env"
EXAMPLE_HEADING = """\
# All settings with their defaults, printed by `python -m shared.settings`.
# Copy to .env, which every command reads, or set them in the environment, which wins.
# An empty value means the same as none.
"""


class SettingsInvalid(Exception):
    """One or more settings are wrong; `problems` has one sentence for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        """Keep the problems, one sentence each."""
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class Settings(BaseSettings):
    """The settings of one process. Names in the environment are the field names in capitals."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        env_file=ENV_FILE,
        env_ignore_empty=True,
        validate_default=True,
        hide_input_in_errors=True,
    )

    chosen_database_url: DatabaseUrl | None = Field(
        default=None,
        validation_alias="DATABASE_URL",
        repr=False,
        description="PostgreSQL 16 to 18, as postgresql://user:password@host:5432/database. Several"
        " hosts are separated by commas; with target_session_attrs=read-write a fail-over needs no"
        " restart. When not set, `python -m services` starts an embedded PostgreSQL.",
    )
    database_pool_size: int = Field(
        default=10,
        ge=2,
        le=200,
        description="Connections that one process holds at most for each of its database roles:"
        " catalog and deployment have one, audit has five.",
    )
    release_manager_data_dir: Path = Field(
        default=Path(".data"),
        description="Where the embedded PostgreSQL and, unless said otherwise, the keys live.",
    )
    release_manager_key_dir: Path | None = Field(
        default=None,
        description="Keys and tokens of the services. Default: `keys` in RELEASE_MANAGER_DATA_DIR.",
    )
    ledger_checkpoint_file: Path | None = Field(
        default=None,
        description="File to which every signed checkpoint of the ledger is appended. Best on"
        " another machine's disk, where whoever may change the database cannot. Default:"
        " `checkpoints` in the key directory.",
    )
    ledger_verify_days: int = Field(
        default=30,
        ge=0,
        le=3_650,
        description="Days within which the audit service verifies every entry of the ledger once"
        " more, in the background; new ones within ten minutes. 0 switches it off.",
    )
    audit_address: Address = Field(
        default="127.0.0.1:50051",
        description="host:port where the audit service listens and where the others find it.",
    )
    catalog_address: Address = Field(
        default="127.0.0.1:50052", description="host:port of the catalog service."
    )
    deployment_address: Address = Field(
        default="127.0.0.1:50053", description="host:port of the deployment service."
    )
    metrics_address: Address | None = Field(
        default=None,
        description="host:port where this process serves /metrics for Prometheus; one for each"
        " process: `python -m services` counts the port up. When not set, none is served.",
    )
    audit_token: SecretStr | None = Field(
        default=None,
        description="API token with which this service writes audit entries. When not set, it is"
        " read from `<service>.token` in the key directory.",
    )
    log_level: LogLevel = Field(default="info", description="debug, info, warning or error.")
    log_format: Literal["console", "json", "auto"] = Field(
        default="auto", description="console, json, or auto: console in a terminal, else json."
    )
    reflection: bool = Field(
        default=True, description="Serve gRPC reflection, so that grpcurl needs no proto files."
    )
    workers: int = Field(
        default=1, ge=1, le=64, description="Processes of one service that share its port."
    )
    grace_seconds: float = Field(
        default=20, ge=0, le=600, description="After SIGTERM, how long running calls may finish."
    )
    max_message_bytes: int = Field(
        default=4_194_304,
        ge=65_536,
        description="Lowers the longest message accepted, in bytes: without it 1 MiB by catalog,"
        " 2 MiB by deployment and 4 MiB by audit.",
    )
    max_concurrent_calls: int = Field(
        default=1_000,
        ge=1,
        description="Calls that one process serves at a time; more are refused.",
    )
    max_connection_age_seconds: float = Field(
        default=1_800,
        ge=10,
        description="After this time clients are asked to connect anew, which spreads them over"
        " replicas.",
    )
    trusted_proxies: Networks = Field(
        default=(),
        description="Networks (CIDR, separated by commas) of proxies whose x-forwarded-for is"
        " believed, for the client address in audit entries and when failed log-ins are counted.",
    )
    allow_plaintext: bool = Field(
        default=False,
        description="Listen without TLS on addresses other than loopback. Only behind something"
        " that encrypts.",
    )
    tls_certificate: Path | None = Field(
        default=None, description="Certificate chain (PEM) of the services; switches TLS on."
    )
    tls_key: Path | None = Field(
        default=None, description="Private key (PEM) that belongs to TLS_CERTIFICATE."
    )
    tls_server_ca: Path | None = Field(
        default=None,
        description="Certificate authorities (PEM) by which a service checks another one; when not"
        " set, those of the system.",
    )
    tls_client_ca: Path | None = Field(
        default=None,
        description="Certificate authorities (PEM) of clients; when set, every client must show a"
        " certificate.",
    )
    bcrypt_rounds: int = Field(
        default=12, ge=4, le=16, description="Cost of a password hash; each step doubles it."
    )
    access_token_seconds: int = Field(
        default=900, ge=60, le=3_600, description="Life of an access token, an hour at most."
    )
    session_days: float = Field(
        default=30, gt=0, le=365, description="Life of a session, however often it is refreshed."
    )
    user_cache_seconds: float = Field(
        default=2,
        ge=0,
        le=2,
        description="How long a changed role or a revoked token may go unnoticed, at most 2.",
    )
    audit_wait_milliseconds: int = Field(
        default=250,
        ge=0,
        le=10_000,
        description="How long a committed change waits for its audit entry before it answers"
        " DEFERRED.",
    )
    outbox_soft_rows: int = Field(
        default=250_000, ge=1, description="Undelivered entries beyond which new work is refused."
    )
    outbox_soft_seconds: float = Field(
        default=1_800, gt=0, description="Age of the oldest one beyond which new work is refused."
    )
    outbox_hard_rows: int = Field(
        default=1_000_000,
        ge=1,
        description="Undelivered entries beyond which most changes are.",
    )
    outbox_hard_seconds: float = Field(
        default=7_200,
        gt=0,
        description="Age of the oldest one beyond which most changes are.",
    )
    webhook_source: str = Field(
        default="/release-manager",
        pattern=r"^[!-~]{1,200}$",
        description="What events of webhooks call this installation: a URL or a path.",
    )
    webhook_allowed_hosts: Names = Field(
        default=(),
        description="Hosts, separated by commas, to which webhooks may be sent although their"
        " addresses are not public, such as hooks.internal,127.0.0.1.",
    )
    webhook_allow_http: bool = Field(
        default=False, description="Let webhooks be sent without TLS to URLs of http://."
    )
    webhook_timeout_seconds: float = Field(
        default=10, gt=0, le=60, description="Time within which a receiver must answer."
    )
    webhook_retry_hours: float = Field(
        default=24,
        gt=0,
        le=720,
        description="For how long one event is sent again and again before it is given up.",
    )
    webhook_pause_hours: float = Field(
        default=72,
        gt=0,
        le=2_160,
        description="After this time in which its receiver took nothing a webhook is paused.",
    )
    reconcile_seconds: float = Field(
        default=300,
        ge=1,
        description="Time between two comparisons of all versions with the audit.",
    )

    @property
    def data_dir(self) -> Path:
        """The data directory, absolute."""
        return self.release_manager_data_dir.absolute()

    @property
    def key_dir(self) -> Path:
        """The key directory, absolute."""
        return (self.release_manager_key_dir or self.data_dir / "keys").absolute()

    @property
    def checkpoint_file(self) -> Path:
        """The file of the ledger's checkpoints, absolute."""
        return (self.ledger_checkpoint_file or self.key_dir / "checkpoints").absolute()

    @property
    def database_url(self) -> str:
        """The database's URL, `postgresql+asyncpg://…`; raises SettingsInvalid without one."""
        if self.chosen_database_url is None:
            sentence = (
                "DATABASE_URL must be set: only `python -m services` brings its own database."
            )
            raise SettingsInvalid([sentence])
        return self.chosen_database_url

    def token_for(self, service: str) -> SecretStr | None:
        """Return the API token of `service` for writing audit entries: setting, file or None."""
        if self.audit_token is not None:
            return self.audit_token
        try:
            return SecretStr((self.key_dir / f"{service}.token").read_text().strip())
        except OSError:
            return None

    def check_listening(self, address: str) -> None:
        """Raise SettingsInvalid when `address` would be served to a network without TLS."""
        if self.tls_certificate is None and not self.allow_plaintext and not is_loopback(address):
            sentence = (
                f"{address} is not a loopback address: set TLS_CERTIFICATE and TLS_KEY, or"
                " ALLOW_PLAINTEXT=true where something in front of it encrypts."
            )
            raise SettingsInvalid([sentence])

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  (the signature is pydantic's)
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read arguments first, then the environment, then `.env`."""
        return (init_settings, env_settings, dotenv_settings)


def read_settings(**given: Any) -> Settings:  # noqa: ANN401  (each setting has its own type)
    """Read all settings; `given` ones, by the names of the fields, win over the environment.

    Raises SettingsInvalid with every problem at once: those of single values and, for values that
    are right in themselves, those between two of them.
    """
    problems: dict[str, str] = {}
    if "database_url" in given:
        given["DATABASE_URL"] = given.pop("database_url")
    try:
        settings = Settings(**given)
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_input=False):
            name = str(detail["loc"][0])
            problems.setdefault(name, f"{name.upper()} {sentence_end(detail)}.")
        defaults = {name: field.default for name, field in _fields() if name in problems}
        settings = Settings(**(given | defaults))
    sentences = list(problems.values())
    sentences += [
        sentence for names, sentence in relations(settings) if problems.keys().isdisjoint(names)
    ]
    if sentences:
        raise SettingsInvalid(sentences)
    return settings


def settings_or_exit() -> Settings:
    """Return the settings, or print what is wrong with them and leave with exit code 2."""
    try:
        return read_settings()
    except SettingsInvalid as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)  # noqa: T201  (before logging is set up)
        raise SystemExit(2) from None


def example() -> str:
    """Return the text of `.env.example`: every setting, what it means and its default."""
    blocks = [EXAMPLE_HEADING]
    for name, setting in _fields():
        meaning = textwrap.fill(
            setting.description or "", 98, initial_indent="# ", subsequent_indent="# "
        )
        blocks.append(f"{meaning}\n{name.upper()}={_spelled(setting.default)}\n")
    return "\n".join(blocks)


def _fields() -> list[tuple[str, FieldInfo]]:
    """Return the fields with the names by which pydantic takes them: alias or own name."""
    fields = Settings.model_fields.items()
    return [(str(field.validation_alias or name), field) for name, field in fields]


def _spelled(default: object) -> str:
    """Return a default as one would write it in the environment."""
    if default is None or default == ():
        return ""
    return str(default).lower() if isinstance(default, bool) else str(default)


if __name__ == "__main__":
    sys.stdout.write(example())
