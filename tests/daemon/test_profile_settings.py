"""The tables [profiles.NAME]."""

import tomllib
from pathlib import Path

import pytest

from maxd.daemon.config import ConfigError, load
from maxd.daemon.settings_doc import PROFILE_MARKERS, example_toml, profiles_table
from maxd.workers.profiles import AGENT, BUILT_IN, CHAT, OPENCLAW, Profile

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))


def profiles(tmp_path: Path, toml: str, **environ: str) -> dict[str, Profile]:
    path = tmp_path / "maxd.toml"
    path.write_text(toml)
    return load(path, environ, {}).make_profiles()


def test_three_exist_without_configuration(tmp_path: Path) -> None:
    made = profiles(tmp_path, "", MAXD_PROFILES_DIRECTORY="/work")
    assert list(made) == ["agent", "chat", "openclaw"]
    assert {profile.directory for profile in made.values()} == {"/work"}
    assert (AGENT.with_functions, CHAT.with_functions) == ("chat", "chat")
    assert OPENCLAW.lenient
    assert OPENCLAW.with_functions == "openclaw"
    assert (OPENCLAW.tools, OPENCLAW.streaming, OPENCLAW.system) == ("none", "live", "replace")


def test_a_field_changes_that_field_and_a_new_profile_is_made_of_its_base(tmp_path: Path) -> None:
    made = profiles(
        tmp_path,
        """
        [profiles]
        directory = "/all"
        [profiles.agent]
        streaming = "adaptive"
        deny = ["WebFetch"]
        [profiles.work]
        base = "agent"
        directory = "~/work"
        directories = ["~/more"]
        tools = ["Read", "Bash"]
        allow = ["Bash(git *)", "Read(~/work/**)"]
        activity_minutes = 30
        mcp = "~/servers.json"
        with_functions = "work"
        [profiles.brief]
        base = "chat"
        effort = "low"
        """,
    )
    assert made["agent"].streaming == "adaptive"
    assert made["agent"].tools == "all"
    work = made["work"]
    assert (work.streaming, work.deny) == ("adaptive", ("WebFetch",))
    assert work.tools == ("Read", "Bash")
    assert work.directory == f"{tmp_path}/work"
    assert work.directories == (f"{tmp_path}/more",)
    assert work.mcp == f"{tmp_path}/servers.json"
    assert (work.activity_minutes, work.turn_minutes) == (30, 0)
    assert (made["agent"].directory, made["chat"].directory) == ("/all", "/all")
    assert made["agent"].with_functions == "chat"
    assert (work.with_functions, made["brief"].with_functions) == ("work", "brief")


def test_the_list_of_lenient_profiles_goes_on_working(tmp_path: Path) -> None:
    made = profiles(tmp_path, '[profiles]\nlenient = ["chat"]\n[profiles.agent]\nlenient = true')
    assert [name for name, profile in made.items() if profile.lenient] == list(made)
    made = profiles(tmp_path, "", MAXD_PROFILES_LENIENT="agent")
    assert made["agent"].lenient
    assert not made["chat"].lenient


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        ("[profiles.work]\n", "profiles.work.base is missing: a new profile is made of one of"),
        ('[profiles.work]\neffort = "low"\n', "maxd.toml:2: profiles.work.base is missing"),
        ('[profiles.work]\nbase = "root"\n', "maxd.toml:2: profiles.work.base is 'root', but must"),
        ('[profiles.chat]\nbase = "agent"\n', "maxd.toml:2: profiles.chat.base cannot be set"),
        ("[profiles.Work]\n", "'Work' is no name for a profile"),
        ('[profiles."a b"]\n', "'a b' is no name for a profile"),
        ("[profiles.chat]\ntool = 1\n", "maxd.toml:2: there is no setting profiles.chat.tool; the"),
        ('[profiles.chat]\ntools = "some"\n', "must be one of all, none, or a list of at most 64"),
        ('[profiles.chat]\ntools = ["--x"]\n', "profiles.chat.tools is ['--x'], but must be"),
        ('[profiles.chat]\ntools = ["Read,Bash"]\n', "profiles.chat.tools is ['Read,Bash'], but"),
        ('[profiles.chat]\ndirectory = "work"\n', "profiles.chat.directory is 'work', but must be"),
        ('[profiles.chat]\nmcp = "{}"\n', "profiles.chat.mcp is '{}', but must be \"user\", "),
        ('[profiles.chat]\nmcp = "/a\\nb"\n', "profiles.chat.mcp is '/a\\nb', but must be"),
        ('[profiles.chat]\nsettings = ["all"]\n', "each one of local, project, user"),
        ('[profiles.chat]\neffort = "hard"\n', "profiles.chat.effort is 'hard', but must be one"),
        ("[profiles.chat]\nturn_minutes = -1\n", "turn_minutes is -1, but must be a number from 0"),
        ('[profiles.chat]\ndeny = ["Bash("]\n', "profiles.chat.deny is ['Bash('], but must be"),
        (
            '[profiles.chat]\ndeny = ["Bash", "WebSearch(x)"]\n',
            "maxd.toml:2: profiles.chat.deny has the rule 'WebSearch(x)', which has a pattern",
        ),
        ('[profiles.chat]\nwith_functions = "x"\n', "with_functions names x, which is no profile"),
        ('[profiles]\nlenient = ["x"]\n', "profiles.lenient names x, which is no profile"),
        ("[profiles.directory]\n", "profiles.directory is {}, but must be an absolute path"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, toml: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        profiles(tmp_path, toml)
    [problem] = caught.value.problems
    assert expected in problem


def test_the_example_shows_every_field_and_is_right(tmp_path: Path) -> None:
    shown = example_toml().partition("# [profiles.work]\n")[2].partition("\n\n")[0]
    lines = [line[2:] for line in shown.splitlines() if "=" in line]
    written = tomllib.loads("\n".join(lines))
    made = profiles(tmp_path, "[profiles.work]\n" + "\n".join(lines))
    assert set(written) == {*Profile.__struct_fields__, "base"} - {"name"}
    assert made["work"].tools == ("Read", "Edit", "Bash")


def test_the_readme_holds_the_table_of_fields() -> None:
    start, end = PROFILE_MARKERS
    written = (
        (ROOT / "docs" / "configuration.md")
        .read_text()
        .partition(start)[2]
        .partition(end)[0]
        .strip()
    )
    assert written == profiles_table().strip()
    assert all(f"`{name}`" in written for name in BUILT_IN)
