"""The settings: each one's meaning, type, bounds and default.

A setting is described once, here; the checks of a configuration, the example file and the
table in docs/configuration.md are made of that.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
import platformdirs
from msgspec import UNSET, Meta, Struct, field, inspect

from maxd.daemon.keys import ApiKeys
from maxd.daemon.profile_settings import ProfileName, Profiles, ProfileTable, make_profiles
from maxd.daemon.setting_types import AbsolutePath, Host, Origin, is_secret
from maxd.daemon.settings_notify import Notify
from maxd.workers.models import MAX_LENGTH, NAME_PATTERN
from maxd.workers.profiles import Profile

PREFIX: Final = "MAXD_"
"""What the environment variable of every setting begins with."""

PROFILE_TABLES: Final = "profile_tables"
"""The attribute of `Config` for the tables `[profiles.NAME]`."""

# `title` says in words what the pattern allows.
_ModelId = Annotated[
    str,
    Meta(
        title="a model id such as sonnet:chat",
        pattern=r"\A[A-Za-z0-9._@/:\[\]-]+\Z",
        max_length=MAX_LENGTH,
    ),
]
_ModelName = Annotated[
    str,
    Meta(
        title="a model name such as claude-sonnet-4",
        pattern=rf"\A(?:{NAME_PATTERN})\Z",
        max_length=MAX_LENGTH,
    ),
]


class Server(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The HTTP server."""

    host: Annotated[
        Host, Meta(description="Address to listen on; beyond loopback an API key is required.")
    ] = "127.0.0.1"
    port: Annotated[
        int, Meta(description="Port to listen on; 0 takes any free port.", ge=0, le=65535)
    ] = 3456
    unix_socket: Annotated[
        AbsolutePath,
        Meta(description="A UNIX socket to listen on as well, for this user alone (mode 0600)."),
    ] = ""
    admin_socket: Annotated[
        AbsolutePath,
        Meta(
            description="A UNIX socket for the operator's pages (`/`, `/status`, `/metrics`), "
            "which are then nowhere else."
        ),
    ] = ""
    max_body_bytes: Annotated[
        int,
        Meta(
            description="Largest request body in bytes; the default is the Messages API's limit.",
            ge=1024,
            le=2**30,
        ),
    ] = 32 * 2**20
    max_connections: Annotated[
        int, Meta(description="Most connections open at once.", ge=1, le=100_000)
    ] = 2000
    drain_seconds: Annotated[
        float,
        Meta(
            description="How long running turns may still take after a stop signal.", ge=0, le=3600
        ),
    ] = 20
    send_timeout_seconds: Annotated[
        float,
        Meta(description="How long a client may leave a reply unread.", ge=1, le=3600),
    ] = 30
    heartbeat_seconds: Annotated[
        float,
        Meta(
            description="How long a reply may be silent before a heartbeat is sent.", ge=1, le=300
        ),
    ] = 15
    hold_status_seconds: Annotated[
        float,
        Meta(
            description="How long a stream's status is held back, so that an early error "
            "still gets its own status.",
            ge=0,
            le=300,
        ),
    ] = 20
    allowed_hosts: Annotated[
        tuple[Host, ...],
        Meta(description="Host names accepted besides those of loopback.", max_length=64),
    ] = ()
    allowed_origins: Annotated[
        tuple[Origin, ...],
        Meta(
            description="Web origins that are let through; no CORS headers are sent, so only "
            "pages that a proxy serves together with maxd can use it.",
            max_length=64,
        ),
    ] = ()
    strict_fields: Annotated[
        bool,
        Meta(description="Whether a field that would have no effect is refused."),
    ] = False
    show_thinking: Annotated[
        tuple[ProfileName, ...],
        Meta(description="Profiles whose model's thinking is sent to the client.", max_length=64),
    ] = ("agent", "chat", "openclaw")


class Cli(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The claude CLI."""

    path: Annotated[
        AbsolutePath, Meta(description="The claude program; empty searches the usual places.")
    ] = ""


class Pool(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The pool of workers and the queue before it."""

    max_workers: Annotated[
        int,
        Meta(description="Most workers at once; 0 takes it from the memory budget.", ge=0, le=1024),
    ] = 0
    memory_fraction: Annotated[
        float,
        Meta(
            description="Part of the memory available at start that workers may use.",
            ge=0.05,
            le=0.95,
        ),
    ] = 0.5
    spares: Annotated[
        int, Meta(description="Spares kept for each profile and model in use.", ge=0, le=64)
    ] = 1
    warm: Annotated[
        tuple[_ModelId, ...],
        Meta(description="Model ids that have spares from the start.", max_length=64),
    ] = ("sonnet", "sonnet:chat")
    warm_minutes: Annotated[
        float,
        Meta(
            description="How long after its last use a model id still has spares, in minutes.",
            ge=0,
            le=10_080,
        ),
    ] = 30
    freeze_idle: Annotated[
        bool,
        Meta(description="Whether workers that wait are stopped after 15 s, to use no CPU."),
    ] = True
    start_timeout_seconds: Annotated[
        float,
        Meta(description="How long a worker may take to become ready.", ge=1, le=600),
    ] = 30
    reuse: Annotated[
        bool,
        Meta(
            description="Whether a worker without tools is reset for another conversation of the "
            "same system text and API key, once a probe has shown that nothing stays behind."
        ),
    ] = True
    reuse_turns: Annotated[
        int, Meta(description="Turns after which a worker is not reset any more.", ge=1, le=100_000)
    ] = 200
    reuse_megabytes: Annotated[
        int,
        Meta(
            description="Resident memory above which a worker is not reset any more.",
            ge=100,
            le=100_000,
        ),
    ] = 600
    max_parked: Annotated[
        int,
        Meta(
            description="Most workers that wait for results of a client's functions; 0 is half of "
            "all, and beyond that the one that has waited longest makes room.",
            ge=0,
            le=1024,
        ),
    ] = 0
    queue_length: Annotated[
        int, Meta(description="Most requests that wait for a worker.", ge=0, le=100_000)
    ] = 256
    queue_seconds: Annotated[
        float, Meta(description="How long a request may wait for a worker.", ge=0, le=3600)
    ] = 120


class Conversations(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept of conversations between their turns."""

    keep_days: Annotated[
        float,
        Meta(
            description="How long after its last turn a conversation is known, in days.",
            ge=0,
            le=3650,
        ),
    ] = 30
    keep_count: Annotated[
        int,
        Meta(description="Most conversations known; the last used are kept.", ge=1, le=1_000_000),
    ] = 10_000
    idle_minutes: Annotated[
        float,
        Meta(
            description="How long a worker is kept for the next turn of its conversation, "
            "in minutes.",
            ge=0,
            le=10_080,
        ),
    ] = 60


class Responses(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept of the Responses API, texts included."""

    keep_days: Annotated[
        float,
        Meta(
            description="How long a response is stored after its last use, in days; 0 stores none.",
            ge=0,
            le=3650,
        ),
    ] = 30
    keep_count: Annotated[
        int, Meta(description="Most responses stored; the last used are kept.", ge=1, le=1_000_000)
    ] = 10_000
    keep_megabytes: Annotated[
        int,
        Meta(description="Most that the stored responses may hold, in MB.", ge=1, le=1_000_000),
    ] = 1024


class Log(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The log, which goes to stderr."""

    format: Annotated[
        Literal["auto", "text", "json"],
        Meta(description="Form of a log line; auto is text on a terminal and json elsewhere."),
    ] = "auto"
    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="The least level that is logged."),
    ] = "info"


class State(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept between two runs."""

    directory: Annotated[
        AbsolutePath,
        Meta(
            description="Where the lock and the ledger lie; empty is the user's state directory.",
        ),
    ] = ""


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings. The attributes are the tables of the file."""

    server: Server = field(default_factory=Server)
    cli: Cli = field(default_factory=Cli)
    pool: Pool = field(default_factory=Pool)
    models: Annotated[
        dict[_ModelName, _ModelName],
        Meta(description="Further model names, and the CLI's model word for each.", max_length=256),
    ] = field(default_factory=dict)
    keys: ApiKeys = field(default_factory=dict)
    conversations: Conversations = field(default_factory=Conversations)
    responses: Responses = field(default_factory=Responses)
    profiles: Profiles = field(default_factory=Profiles)
    profile_tables: dict[str, ProfileTable] = field(default_factory=dict)
    """The tables `[profiles.NAME]`, by name. They stand in the file only."""
    notify: Notify = field(default_factory=Notify)
    log: Log = field(default_factory=Log)
    state: State = field(default_factory=State)

    def state_directory(self) -> Path:
        """`state.directory`, or the place the platform has for it."""
        return _directory(self.state.directory, platformdirs.user_state_path("maxd"))

    def working_directory(self) -> Path:
        """`profiles.directory`, or a folder in the place the platform has for data."""
        return _directory(
            self.profiles.directory, platformdirs.user_data_path("maxd") / "workspace"
        )

    def make_profiles(self) -> dict[str, Profile]:
        """All profiles, by name. Raises ValueError that says what is wrong with them."""
        return make_profiles(
            self.profile_tables,
            directory=self.working_directory(),
            lenient=self.profiles.lenient,
        )


class Setting(Struct, frozen=True, kw_only=True):
    """One setting as `Config` describes it. `key` is None for a table that is free in its keys."""

    table: str
    key: str | None
    annotation: Any
    default: Any

    @property
    def path(self) -> str:
        return self.table if self.key is None else f"{self.table}.{self.key}"

    @property
    def variable(self) -> str:
        return PREFIX + self.path.replace(".", "_").upper()

    @property
    def description(self) -> str:
        info = inspect.type_info(self.annotation)
        assert isinstance(info, inspect.Metadata), f"{self.path} has no description"
        return str((info.extra_json_schema or {})["description"])

    @property
    def secret(self) -> bool:
        """Whether its value must not be shown."""
        return is_secret(self.annotation)

    @property
    def allowed(self) -> str:
        return _allowed(inspect.type_info(self.annotation))


def settings() -> Iterator[Setting]:
    """Every setting, in the order of the file."""
    for table in msgspec.structs.fields(Config):
        if table.name == PROFILE_TABLES:
            continue
        if not (isinstance(table.type, type) and issubclass(table.type, Struct)):
            yield Setting(table=table.name, key=None, annotation=table.type, default={})
            continue
        for entry in msgspec.structs.fields(table.type):
            yield Setting(
                table=table.name,
                key=entry.name,
                annotation=entry.type,
                default=entry.default,
            )


def profile_settings(name: str) -> Iterator[Setting]:
    """The settings of `[profiles.NAME]`."""
    for entry in msgspec.structs.fields(ProfileTable):
        yield Setting(
            table=f"profiles.{name}", key=entry.name, annotation=entry.type, default=UNSET
        )


def _allowed(info: inspect.Type) -> str:
    match info:
        case inspect.UnionType():
            return ", or ".join(_allowed(each) for each in info.types)
        case inspect.Metadata(extra_json_schema={"title": str(words)}):
            return words
        case inspect.Metadata():
            return _allowed(info.type)
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return f"a whole number from {info.ge} to {info.le}"
        case inspect.FloatType():
            return f"a number from {info.ge:g} to {info.le:g}"
        case inspect.LiteralType():
            return "one of " + ", ".join(str(value) or "empty" for value in info.values)
        case inspect.VarTupleType():
            return f"a list of at most {info.max_length}, each {_allowed(info.item_type)}"
        case inspect.DictType():
            return f"a table of name = model, each {_allowed(info.key_type)}"
        case _:
            raise NotImplementedError(info)


def _directory(configured: str, default: Path) -> Path:
    return Path(configured).expanduser() if configured else default
