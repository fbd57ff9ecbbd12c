"""The ledger: one instance at a time, and what a crash leaves to the next start."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from maxd.daemon.ledger import (
    MOST_EARLIER,
    RECORD,
    SET_ASIDE,
    Instance,
    InstanceRunning,
    Ledger,
    StateError,
)

# Another process that takes the ledger and dies without closing it.
DIES = "import os,sys,pathlib; from maxd.daemon.ledger import *; \
l = Ledger(pathlib.Path(sys.argv[1])); print(l.instance.id, flush=True); os._exit(1)"
HOLDS = "import sys,pathlib; from maxd.daemon.ledger import *; \
l = Ledger(pathlib.Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
# A limit on the size of files stands for the full disk: the same error at the same place.
FULL = "import resource,sys,pathlib; from maxd.daemon.ledger import *\n\
resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))\n\
try: Ledger(pathlib.Path(sys.argv[1]))\n\
except StateError as error: print(error)"


def crash(directory: Path) -> str:
    run = subprocess.run(
        [sys.executable, "-c", DIES, directory], capture_output=True, text=True, check=False
    )
    return run.stdout.strip()


def test_a_clean_run_leaves_nothing_for_the_next(tmp_path: Path) -> None:
    state = tmp_path / "a" / "state"
    with Ledger(state) as first:
        assert first.instance.pid == os.getpid()
        assert (state.stat().st_mode & 0o777) == 0o700
        assert ((state / RECORD).stat().st_mode & 0o777) == 0o600
    assert not (state / RECORD).exists()
    with Ledger(state) as second:
        assert second.earlier == ()
        assert second.instance.id != first.instance.id


def test_an_existing_directory_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with Ledger(tmp_path):
        assert (tmp_path.stat().st_mode & 0o777) == 0o755


def test_a_second_instance_is_refused_and_told_the_pid(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(InstanceRunning, match=str(holder.pid)) as caught:
            Ledger(tmp_path)
        assert caught.value.pid == holder.pid
        assert caught.value.path == tmp_path / "lock"
        holder.kill()
        holder.wait()
        with Ledger(tmp_path) as ledger:
            assert [instance.pid for instance in ledger.earlier] == [holder.pid]


def test_the_lock_holds_within_a_process_and_ends_with_close(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    with pytest.raises(InstanceRunning):
        Ledger(tmp_path)
    ledger.close()
    ledger.close()
    Ledger(tmp_path).close()


def test_a_child_does_not_inherit_the_lock(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False):
        ledger.close()
        Ledger(tmp_path).close()


def test_what_crashed_is_kept_until_it_is_swept(tmp_path: Path) -> None:
    first, second = crash(tmp_path), crash(tmp_path)
    with Ledger(tmp_path) as ledger:
        assert [instance.id for instance in ledger.earlier] == [first, second]
    # Closed without having swept: still there.
    with Ledger(tmp_path) as ledger:
        assert [instance.id for instance in ledger.earlier] == [first, second]
        ledger.mark_swept()
    with Ledger(tmp_path) as ledger:
        assert ledger.earlier == ()


def test_a_crash_after_the_sweep_leaves_only_itself(tmp_path: Path) -> None:
    crash(tmp_path)
    ledger = Ledger(tmp_path)
    ledger.mark_swept()
    record = json.loads((tmp_path / RECORD).read_text())
    assert record == {
        "instance": {
            "id": ledger.instance.id,
            "pid": os.getpid(),
            "started_at": ledger.instance.started_at,
        },
        "earlier": [],
    }
    ledger.close()


def test_a_crash_loop_does_not_grow_the_record(tmp_path: Path) -> None:
    old = [{"id": str(number), "pid": 1, "started_at": 1.0} for number in range(100)]
    (tmp_path / RECORD).write_text(json.dumps({"instance": old[0], "earlier": old[1:]}))
    with Ledger(tmp_path) as ledger:
        assert len(ledger.earlier) == MOST_EARLIER
        assert ledger.earlier[-1] == Instance("0", 1, 1.0)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\x00" * 50, b"\xff", b'{"instance":{}}', b"[" * 70_000]
)
def test_a_corrupt_record_is_set_aside(tmp_path: Path, content: bytes) -> None:
    (tmp_path / SET_ASIDE).write_text("an older one")
    (tmp_path / RECORD).write_bytes(content)
    with Ledger(tmp_path) as ledger:
        assert ledger.earlier == ()
        assert ledger.set_aside == tmp_path / SET_ASIDE
        assert (tmp_path / SET_ASIDE).read_bytes() == content


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for directory in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/maxd")):
        with pytest.raises(StateError) as caught:
            Ledger(directory)
        assert caught.value.path == directory
    (tmp_path / RECORD).mkdir()
    with pytest.raises(StateError) as caught:
        Ledger(tmp_path)
    assert caught.value.path == tmp_path / RECORD
    (tmp_path / RECORD).rmdir()
    Ledger(tmp_path).close()  # the refused one has let go of the lock


def test_no_link_is_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for name in ("lock", RECORD, "ledger.new"):
        link = tmp_path / name
        link.symlink_to(victim)
        with pytest.raises(StateError):
            Ledger(tmp_path)
        link.unlink(missing_ok=True)
    assert victim.read_text() == "precious"


def test_a_full_disk_is_a_state_error_and_keeps_the_old_record(tmp_path: Path) -> None:
    before = crash(tmp_path)
    run = subprocess.run(
        [sys.executable, "-c", FULL, tmp_path], capture_output=True, text=True, check=True
    )
    assert run.stdout.startswith(str(tmp_path / RECORD)), run.stderr
    assert not (tmp_path / "ledger.new").exists()
    with Ledger(tmp_path) as ledger:
        assert [instance.id for instance in ledger.earlier] == [before]


def test_close_never_raises(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    (tmp_path / RECORD).unlink()
    ledger.close()
