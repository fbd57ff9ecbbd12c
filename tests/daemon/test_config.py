"""The configuration: defaults, layers, refusals, and the documentation made of the settings."""

import re
import tomllib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxd.daemon.config import Config, ConfigError, default_file, load
from maxd.daemon.settings import settings
from maxd.daemon.settings_doc import MARKERS, example_toml, markdown_table

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _no_file_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "maxd.toml"
    path.write_text(text)
    return path


def problems(
    path: Path | None = None,
    environ: dict[str, str] | None = None,
    overrides: dict[str, object] | None = None,
) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load(path, environ or {}, overrides or {})
    return caught.value.problems


def test_without_anything_the_defaults_hold() -> None:
    config = load(None, {"PATH": "/bin"}, {})
    assert config == Config()
    assert config.server.port == 3456
    assert config.server.max_body_bytes == 33_554_432
    assert config.pool.warm == ("sonnet", "sonnet:chat")


def test_each_layer_outranks_the_one_before(tmp_path: Path) -> None:
    path = write(tmp_path, "[server]\nport = 1\nmax_connections = 1\ndrain_seconds = 1\n")
    environ = {"MAXD_SERVER_MAX_CONNECTIONS": "2", "MAXD_SERVER_DRAIN_SECONDS": "2"}
    config = load(path, environ, {"server.drain_seconds": 3.0, "server.host": None})
    assert config.server.port == 1
    assert config.server.max_connections == 2
    assert config.server.drain_seconds == 3
    assert config.server.host == "127.0.0.1"


def test_the_file_in_the_usual_place_is_read() -> None:
    default_file().parent.mkdir(parents=True)
    default_file().write_text('[log]\nlevel = "debug"\n')
    assert load(None, {}, {}).log.level == "debug"


def test_the_environment_is_understood_by_type() -> None:
    config = load(
        None,
        {
            "MAXD_SERVER_PORT": "0",
            "MAXD_SERVER_ALLOWED_HOSTS": "box, box.lan ,",
            "MAXD_POOL_MEMORY_FRACTION": "0.25",
            "MAXD_POOL_FREEZE_IDLE": "false",
            "MAXD_POOL_WARM": "",
            "MAXD_MODELS": "gpt-4o=sonnet, o3=opus[1m]",
            "MAXD_LOG_FORMAT": "json",
            "MAXD_CLI_PATH": "/opt/claude",
        },
        {},
    )
    assert config.server.port == 0
    assert config.server.allowed_hosts == ("box", "box.lan")
    assert config.pool.memory_fraction == 0.25
    assert config.pool.freeze_idle is False
    assert config.pool.warm == ()
    assert config.models == {"gpt-4o": "sonnet", "o3": "opus[1m]"}
    assert config.log.format == "json"
    assert config.cli.path == "/opt/claude"


def test_text_of_the_command_line_is_understood_like_the_environment() -> None:
    config = load(None, {"MAXD_SERVER_PORT": "1"}, {"server.port": "8080", "log.level": "error"})
    assert (config.server.port, config.log.level) == (8080, "error")


@pytest.mark.parametrize(
    "toml",
    [
        '[notify]\nurls = ["canary"]\n',
        "[notify]\nurls = 'json://canary'\n",
        '[notify]\nwebhook = "canary"\n',
        "[notify]\nwebhook_secret = ['canary']\n",
    ],
)
def test_a_secret_that_is_wrong_is_not_shown(tmp_path: Path, toml: str) -> None:
    file = tmp_path / "maxd.toml"
    file.write_text(toml)
    with pytest.raises(ConfigError, match="is not shown, but must be") as refused:
        load(file, {}, {})
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        ("[server]\n\nprot = 1\n", "maxd.toml:3: there is no setting server.prot; the nearest is "),
        ("[cli]\nport = 1\n", "maxd.toml:2: there is no setting cli.port; the nearest is server."),
        ("[serve]\nport = 1\n", "maxd.toml:1: there is no table [serve]; the nearest is [server]"),
        ("serve.port = 1\n", "maxd.toml:1: there is no table [serve]; the nearest is [server]."),
        ("server = 3\n", "maxd.toml:1: server must be a table, [server]."),
        ("models = 3\n", "maxd.toml:1: models is 3, but must be a table of name = model"),
        ("[server]\nport = 65536\n", "maxd.toml:2: server.port is 65536, but must be a whole"),
        ("server.port = -1\n", "maxd.toml:1: server.port is -1, but must be a whole number from 0"),
        ('[server]\nport = "1"\n', "server.port is '1', but must be a whole number from 0 to 655"),
        ("[server]\nport = true\n", "server.port is true, but must be a whole number"),
        ("[server]\nport = 1.5\n", "server.port is 1.5, but must be a whole number"),
        ("[server]\nport = {}\n", "server.port is {}, but must be a whole number"),
        ("[server]\nport = 1979-05-27\n", "server.port is a date, but must be a whole number"),
        ("[server]\ndrain_seconds = inf\n", "server.drain_seconds is inf, but must be a number"),
        ("[server]\ndrain_seconds = nan\n", "server.drain_seconds is nan, but must be a number"),
        ("[pool]\nfreeze_idle = 1\n", "pool.freeze_idle is 1, but must be true or false."),
        ('[pool]\nwarm = "sonnet"\n', "pool.warm is 'sonnet', but must be a list of at most 64"),
        ('[pool]\nwarm = ["a b"]\n', "pool.warm is ['a b'], but must be a list of at most 64, "),
        ('[log]\nlevel = "loud"\n', "log.level is 'loud', but must be one of debug, error, info"),
        ('[cli]\npath = "claude"\n', "cli.path is 'claude', but must be an absolute path"),
        ('[cli]\npath = "/a\\u0000b"\n', "cli.path is '/a\\x00b', but must be an absolute path"),
        ('[models]\n"gpt" = "--tools"\n', "maxd.toml:1: models is {'gpt' = '--tools'}, but must"),
        ('[models]\n"gpt" = "sonnet\\n"\n', "models is {'gpt' = 'sonnet\\n'}, but must be a table"),
        ('[server]\nallowed_origins = ["*"]\n', "server.allowed_origins is ['*'], but must be"),
        ('[server]\nhost = ""\n', "server.host is '', but must be a host name or an address."),
        ("[server\n", "maxd.toml: is not TOML: Expected ']'"),
        ("x = " + "[" * 5000, "maxd.toml: is nested too deeply."),
        ("x = " + "1" * 5000, "maxd.toml: is not TOML: "),
    ],
)
def test_what_is_wrong_in_the_file_is_named(tmp_path: Path, toml: str, expected: str) -> None:
    (problem,) = problems(write(tmp_path, toml))
    assert expected in problem


def test_everything_wrong_is_told_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, "[server]\nport = 70000\n[pool]\nspare = 2\n")
    found = problems(path, {"MAXD_SERVER_DRAIN": "3"}, {"pool.spares": 65, "x": 1})
    assert len(found) == 5


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("MAXD_SERVER_PRT", "secret", "there is no variable MAXD_SERVER_PRT; the nearest is MAXD_"),
        ("MAXD_PORT", "1", "there is no variable MAXD_PORT; the nearest is MAXD_SERVER_PORT."),
        ("MAXD_", "1", "there is no variable MAXD_; the nearest is "),
        ("MAXD_SERVER_PORT", "", "variable MAXD_SERVER_PORT: server.port is '', but must be a wh"),
        ("MAXD_SERVER_PORT", " 1", "server.port is ' 1', but must be a whole number"),
        ("MAXD_SERVER_PORT", "1_0", "server.port is '1_0', but must be a whole number"),
        ("MAXD_SERVER_PORT", "٣", "server.port is '٣', but must be a whole number"),
        ("MAXD_SERVER_PORT", "1" * 5000, "…, but must be a whole number"),
        ("MAXD_POOL_FREEZE_IDLE", "yes", "pool.freeze_idle is 'yes', but must be true or false."),
        ("MAXD_SERVER_DRAIN_SECONDS", "nan", "server.drain_seconds is 'nan', but must be a numb"),
        ("MAXD_SERVER_DRAIN_SECONDS", "1e3", "server.drain_seconds is '1e3', but must be a numb"),
        ("MAXD_MODELS", "gpt-4o", "models is 'gpt-4o', but must be a table of name = model"),
    ],
)
def test_what_is_wrong_in_the_environment_is_named(variable: str, text: str, expected: str) -> None:
    (problem,) = problems(environ={variable: text})
    assert expected in problem
    assert "secret" not in problem
    assert len(problem) < 300


def test_variables_that_are_no_settings_may_be_named() -> None:
    load(None, {"MAXD_WORKER": "x"}, {}, not_settings={"MAXD_WORKER"})


def test_what_is_wrong_on_the_command_line_is_named() -> None:
    (problem,) = problems(overrides={"server.prot": 1})
    assert problem.startswith("command line: there is no setting server.prot; the nearest is ")
    (problem,) = problems(overrides={"server.port": 70_000})
    assert problem.startswith("command line: server.port is 70000, but must be a whole number")


def test_a_named_file_must_be_readable(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path / "none.toml")
    assert problem.endswith("none.toml: there is no such file.")
    (problem,) = problems(tmp_path)
    assert "cannot be read: Is a directory" in problem
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    (problem,) = problems(binary)
    assert problem.endswith("is not UTF-8 text.")


def test_directories_default_to_the_places_of_the_platform(tmp_path: Path) -> None:
    assert Config().state_directory().is_relative_to(tmp_path)
    assert Config().working_directory().is_relative_to(tmp_path)
    config = load(None, {"MAXD_STATE_DIRECTORY": "~/s", "MAXD_PROFILES_DIRECTORY": "/d"}, {})
    assert config.state_directory() == tmp_path / "s"
    assert config.working_directory() == Path("/d")


@given(st.dictionaries(st.sampled_from([s.variable for s in settings()]), st.text(max_size=40)))
def test_any_environment_gives_a_configuration_or_a_config_error(environ: dict[str, str]) -> None:
    try:
        config = load(None, environ, {})
    except ConfigError:
        return
    assert msgspec.convert(msgspec.to_builtins(config), Config) == config


def test_every_setting_has_a_sentence_and_its_bounds() -> None:
    for setting in settings():
        assert setting.description.endswith("."), setting.path
        assert ". " not in setting.description, setting.path
        assert setting.allowed, setting.path
        assert "None" not in setting.allowed, setting.path


def test_the_example_is_the_defaults_with_and_without_its_comment_signs(tmp_path: Path) -> None:
    assert load(write(tmp_path, example_toml()), {}, {}) == Config()
    uncommented = re.sub(r"(?m)^#(?! )", "", example_toml())
    assert load(write(tmp_path, uncommented), {}, {}) == Config()
    written = tomllib.loads(uncommented)
    assert [f"{table}.{key}" for table in written for key in written[table]] == [
        setting.path for setting in settings() if setting.key
    ]
    assert load(write(tmp_path, example_toml().replace('# "gpt', '"gpt')), {}, {}).models


def test_the_readme_holds_the_table_of_settings() -> None:
    readme = ROOT / "docs" / "configuration.md"
    assert readme.exists(), "docs/configuration.md is missing"
    start, end = MARKERS
    text = readme.read_text()
    assert start in text, f"docs/configuration.md lacks the line {start}"
    assert end in text, f"docs/configuration.md lacks the line {end}"
    written = text.partition(start)[2].partition(end)[0].strip()
    assert written == markdown_table().strip(), (
        f"between {start} and {end} must stand what settings_doc.markdown_table() gives"
    )
