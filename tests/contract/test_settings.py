"""The settings others rely on: their names, defaults, and what is said when they are wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest

from shared.setting_values import driver_url, normal_database_url, without_password
from shared.settings import Settings, SettingsInvalid, example, read_settings

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Run where no `.env` lies and no setting stands in the environment."""
    monkeypatch.chdir(tmp_path)
    for line in example().splitlines():
        if not line.startswith("#"):
            monkeypatch.delenv(line.partition("=")[0], raising=False)


def problems(**environment: str) -> tuple[str, ...]:
    """Return what is said about the settings."""
    with pytest.raises(SettingsInvalid) as caught:
        read_settings(**environment)
    return caught.value.problems


def test_the_example_file_is_what_the_code_prints() -> None:
    assert (PROJECT / ".env.example").read_text() == example()


def test_the_example_file_sets_exactly_the_defaults(tmp_path: Path) -> None:
    defaults = read_settings()
    (tmp_path / ".env").write_text(example())
    assert read_settings() == defaults


def test_every_setting_says_what_it_means() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_addresses_and_directories_have_the_documented_defaults(tmp_path: Path) -> None:
    settings = read_settings()
    assert settings.audit_address == "127.0.0.1:50051"
    assert settings.catalog_address == "127.0.0.1:50052"
    assert settings.deployment_address == "127.0.0.1:50053"
    assert settings.data_dir == tmp_path / ".data"
    assert settings.key_dir == tmp_path / ".data" / "keys"


def test_the_environment_wins_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("WORKERS=2\nLOG_LEVEL=debug\n")
    monkeypatch.setenv("WORKERS", "3")
    settings = read_settings()
    assert (settings.workers, settings.log_level) == (3, "debug")


def test_all_wrong_settings_are_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {
        "DATABASE_URL": "mysql://root:hunter2@db/x",
        "AUDIT_ADDRESS": "somewhere",
        "WORKERS": "0",
        "REFLECTION": "perhaps",
        "TRUSTED_PROXIES": "10.0.0.0/8, 300.1.1.1",
        "TLS_KEY": "missing.pem",
        "OUTBOX_SOFT_ROWS": "2000000",
        "CATALOG_ADDRESS": "127.0.0.1:50053",
    }
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    found = "\n".join(problems())
    for name in wrong:
        assert name in found
    assert "hunter2" not in found
    assert "REFLECTION must be true or false." in found
    assert "CATALOG_ADDRESS and DEPLOYMENT_ADDRESS must differ" in found


def test_an_access_token_lives_an_hour_at_most() -> None:
    assert read_settings(access_token_seconds=3_600).access_token_seconds == 3_600
    (found,) = problems(access_token_seconds="3601")
    assert "ACCESS_TOKEN_SECONDS" in found


def test_relations_of_a_wrong_setting_are_not_guessed() -> None:
    assert problems(outbox_soft_rows="many") == ("OUTBOX_SOFT_ROWS must be a whole number.",)


def test_no_secret_is_shown() -> None:
    settings = read_settings(
        database_url="postgresql://u:hunter2@db/x",
        audit_token="rmt_hunter2",
    )
    assert "hunter2" not in repr(settings) + str(settings)
    assert settings.audit_token is not None
    assert without_password(settings.database_url) == "postgresql+asyncpg://u@db/x"


def test_a_service_without_a_database_is_told_so() -> None:
    with pytest.raises(SettingsInvalid, match="DATABASE_URL must be set"):
        _ = read_settings().database_url


def test_the_token_comes_from_the_setting_or_from_the_key_directory(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    settings = read_settings(release_manager_key_dir=keys)
    assert settings.token_for("catalog") is None
    keys.mkdir()
    (keys / "catalog.token").write_text("rmt_file\n")
    found = settings.token_for("catalog")
    assert found is not None
    assert found.get_secret_value() == "rmt_file"
    given = read_settings(release_manager_key_dir=keys, audit_token="rmt_given")
    chosen = given.token_for("catalog")
    assert chosen is not None
    assert chosen.get_secret_value() == "rmt_given"


@pytest.mark.parametrize("address", ["127.0.0.1:1", "[::1]:1", "localhost:1"])
def test_plaintext_is_served_on_loopback(address: str) -> None:
    read_settings().check_listening(address)


@pytest.mark.parametrize("address", ["0.0.0.0:1", "[::]:1", "audit.internal:1", "10.0.0.1:1"])
def test_plaintext_is_refused_elsewhere_unless_allowed(address: str) -> None:
    with pytest.raises(SettingsInvalid, match="ALLOW_PLAINTEXT"):
        read_settings().check_listening(address)
    read_settings(allow_plaintext=True).check_listening(address)


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("postgresql://u:p@h:5432/d", "postgresql+asyncpg://u:p@h:5432/d"),
        ("postgres://h/d", "postgresql+asyncpg://h/d"),
        ("postgresql://u@[::1]:1/d", "postgresql+asyncpg://u@[::1]:1/d"),
        ("postgresql://h/d?sslmode=require", "postgresql+asyncpg://h/d?ssl=require"),
        (
            "postgresql://u@h1:1,h2:2/d?target_session_attrs=read-write",
            "postgresql+asyncpg://u@/d?target_session_attrs=read-write&host=h1,h2&port=1,2",
        ),
        ("postgresql://p@/d?host=/a%20b&port=5", "postgresql+asyncpg://p@/d?host=/a%20b&port=5"),
    ],
)
def test_database_urls_have_one_form(given: str, normal: str) -> None:
    assert normal_database_url(given) == normal
    assert normal_database_url(normal) == normal
    assert normal_database_url(driver_url(normal)) in {
        normal,
        normal_database_url(driver_url(given)),
    }


@pytest.mark.parametrize(
    "url",
    [
        "",
        "postgresql://h",
        "postgresql://h/",
        "sqlite:///x",
        "postgresql+psycopg://h/d",
        "postgresql://h1:1,:2/d",
        "postgresql://h/d?sslrootcert=ca.pem",
    ],
)
@pytest.mark.parametrize("reader", [normal_database_url, driver_url])
def test_other_urls_are_refused(url: str, reader: Callable[[str], str]) -> None:
    with pytest.raises(ValueError, match=r"must look like|has "):
        reader(url)
