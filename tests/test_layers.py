"""The structure that ARCHITECTURE.md promises."""

import ast
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Which packages a module of each may import.
ALLOWED = {
    "workers": {"workers"},
    "daemon": {"daemon", "workers"},
    "http": {"http", "daemon", "workers"},
}
# The composition root joins them.
EXCEPTION = Path("daemon/main.py")
# Decisions are plain code: they are tested by calls, with neither tasks nor clocks.
PURE = (
    "workers/activity.py",
    "workers/account_limits.py",
    "workers/turn.py",
    "workers/faults.py",
    "workers/launch.py",
    "workers/lines.py",
    "workers/messages.py",
    "workers/binding.py",
    "workers/blocks.py",
    "workers/effort.py",
    "workers/functions.py",
    "workers/rounds.py",
    "workers/protocol.py",
    "workers/phases.py",
    "workers/policy.py",
    "workers/schemas.py",
    "workers/recorder.py",
    "workers/profiles.py",
    "workers/rules.py",
    "workers/tools.py",
    "workers/models.py",
    "workers/states.py",
    "workers/verdict.py",
    "workers/loopback/reply.py",
    "workers/loopback/script.py",
    "workers/loopback/wire.py",
    "daemon/abilities.py",
    "daemon/account.py",
    "daemon/backoff.py",
    "daemon/catalog.py",
    "daemon/chronicle.py",
    "daemon/config.py",
    "daemon/config_changes.py",
    "daemon/cut.py",
    "daemon/effects.py",
    "daemon/fair_queue.py",
    "daemon/keys.py",
    "daemon/lineage.py",
    "daemon/quotas.py",
    "daemon/reactions.py",
    "daemon/history.py",
    "daemon/in_force.py",
    "daemon/labels.py",
    "daemon/limits.py",
    "daemon/lineage.py",
    "daemon/notices.py",
    "daemon/metrics.py",
    "daemon/observer.py",
    "daemon/recent_keys.py",
    "daemon/refill.py",
    "daemon/renewal.py",
    "daemon/slots.py",
    "daemon/starts.py",
    "daemon/conversation.py",
    "daemon/conversations.py",
    "daemon/profile_settings.py",
    "daemon/release.py",
    "daemon/reply.py",
    "daemon/scheduler.py",
    "daemon/settings.py",
    "daemon/unit_files.py",
    "http/credentials.py",
    "http/account_headers.py",
    "daemon/status.py",
    "daemon/status_parts.py",
    "daemon/status_table.py",
    "daemon/turn_facts.py",
    "http/anthropic_body.py",
    "http/anthropic_conversation.py",
    "http/anthropic_errors.py",
    "http/anthropic_fields.py",
    "http/anthropic_messages.py",
    "http/anthropic_models.py",
    "http/anthropic_reply.py",
    "http/call_pairs.py",
    "http/client_functions.py",
    "http/content.py",
    "http/data_urls.py",
    "http/decoding.py",
    "http/dialect.py",
    "http/episodes.py",
    "http/error_headers.py",
    "http/errors_doc.py",
    "http/dialects.py",
    "http/field_table.py",
    "http/image_size.py",
    "http/token_estimate.py",
    "http/patience.py",
    "http/schemas.py",
    "http/openai_chat.py",
    "http/openai_errors.py",
    "http/openai_fields.py",
    "http/openai_messages.py",
    "http/openai_models.py",
    "http/openai_reply.py",
    "http/openai_tools.py",
    "http/openai_wire.py",
    "http/responses_fields.py",
    "http/responses_history.py",
    "http/responses_items.py",
    "http/responses_objects.py",
    "http/responses_reply.py",
    "http/responses_request.py",
    "http/responses_thinking.py",
    "http/responses_tools.py",
    "http/schemas.py",
    "http/streaming_header.py",
    "http/wishes.py",
)
# The modules of each dialect, by how their names begin.
DIALECTS = {
    "chat": ("openai_", "chat_"),
    "responses": ("responses_",),
    "messages": ("anthropic_", "messages_"),
}
# What OpenAI's two dialects have in common, and what joins all dialects to the app.
SHARED = frozenset(("openai_errors", "openai_models"))
JOINING = frozenset(("app", "serving", "dialects", "model_routes"))
# Tables with a row for each claim of one page, in its order: cut in two they would say no more.
TABLES = frozenset(
    (
        Path("tests/end_to_end/conformance/messages.py"),
        Path("tests/end_to_end/conformance/responses.py"),
    )
)


def modules() -> list[Path]:
    return sorted(
        path.relative_to(ROOT) for folder in ALLOWED for path in (ROOT / folder).rglob("*.py")
    )


def of_tests() -> list[Path]:
    return sorted(path.relative_to(ROOT) for path in (ROOT / "tests").rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", modules(), ids=str)
def test_imports_go_one_way(path: Path) -> None:
    if path == EXCEPTION:
        return
    ours = {name.split(".")[1] for name in imports(path) if name.startswith("maxd.")}
    assert ours <= ALLOWED[path.parts[0]]


@pytest.mark.parametrize("path", PURE)
def test_pure_modules_import_no_trio(path: str) -> None:
    assert not {
        name for name in imports(Path(path)) if name.split(".")[0] in ("trio", "quart_trio")
    }


def dialect_of(module: str) -> str | None:
    """The dialect that a module of `http/` belongs to, None for those that all of them may use."""
    if module in SHARED:
        return None
    return next((name for name, begins in DIALECTS.items() if module.startswith(begins)), None)


@pytest.mark.parametrize("path", [path for path in modules() if path.parts[0] == "http"], ids=str)
def test_dialects_know_nothing_of_one_another(path: Path) -> None:
    imported = {
        dialect_of(name.removeprefix("maxd.http.").split(".")[0])
        for name in imports(path)
        if name.startswith("maxd.http.")
    }
    if path.stem not in JOINING:
        assert imported <= {dialect_of(path.stem), None}


def test_each_dialect_has_modules() -> None:
    found = {dialect_of(path.stem) for path in modules() if path.parts[0] == "http"}
    assert found == {None, *DIALECTS}


@pytest.mark.parametrize("path", modules(), ids=str)
def test_modules_stay_small(path: Path) -> None:
    assert lines(path) <= 400


@pytest.mark.parametrize("path", modules(), ids=str)
def test_functions_stay_short(path: Path) -> None:
    assert not [
        node.name
        for node in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= 80
    ]


def test_tests_stay_small() -> None:
    assert {path for path in of_tests() if lines(path) > 400} == TABLES


@pytest.mark.parametrize("path", of_tests(), ids=str)
def test_what_tests_share_is_in_no_test(path: Path) -> None:
    assert not [name for name in imports(path) if name.startswith("tests.") and ".test_" in name]


def lines(path: Path) -> int:
    return len((ROOT / path).read_text().splitlines())


def test_nothing_shadows_the_standard_library_or_the_package() -> None:
    for wrong in ("http/__init__.py", "tests/http/__init__.py", "maxd"):
        assert not (ROOT / wrong).exists()


def test_the_wheel_holds_every_module(tmp_path: Path) -> None:
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"][
        "packages"
    ]
    folders = {"maxd." + ".".join(path.parent.parts) for path in modules()}
    assert folders == set(packages)
    # A copy: what an earlier build has left beside the sources would get into the wheel.
    source = tmp_path / "source"
    for folder in ALLOWED:
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("*.pyc"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.endswith(".py")}
        pages = {name for name in archive.namelist() if name.startswith("maxd/http/dashboard/")}
        archive.extractall(tmp_path / "installed")
    assert held == {f"maxd/{path}" for path in modules()}
    files = (path for path in (ROOT / "http/dashboard").iterdir())
    assert pages == {f"maxd/http/dashboard/{path.name}" for path in files}
    names = sorted(name[:-3].replace("/", ".").removesuffix(".__init__") for name in held)
    code = [
        "import sys",
        # An editable installation answers before sys.path is looked at.
        "sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]",
        f"sys.path.insert(0, {str(tmp_path / 'installed')!r})",
        *(f"import {name}" for name in names if not name.endswith(("__main__", "keeper"))),
        "assert 'installed' in maxd.daemon.__file__, maxd.daemon.__file__",
    ]
    subprocess.run(
        [sys.executable, "-I", "-c", "\n".join(code)], check=True, cwd=tmp_path, timeout=60
    )
