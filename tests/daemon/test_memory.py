"""The memory budget."""

from pathlib import Path

import psutil
import pytest

from maxd.daemon.memory import available_memory, memory_is_below, worker_budget
from tests.scarcity import no_file_left

MIB = 2**20


@pytest.mark.parametrize(
    ("available", "fraction", "workers"),
    [
        (0, 0.5, 1),
        (439 * MIB, 0.5, 1),
        (880 * MIB, 0.5, 2),
        (8 * 2**30, 0.5, 18),
        (2**42, 0.95, 64),
    ],
)
def test_the_budget(available: int, fraction: float, workers: int) -> None:
    assert worker_budget(available, fraction) == workers


def test_a_measured_need_can_be_given() -> None:
    assert worker_budget(1000, 0.5, per_worker=100) == 5


def group(path: Path, **files: str) -> None:
    path.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (path / name.replace("_", ".", 1)).write_text(text + "\n")


def available(tmp_path: Path, own: str) -> int:
    (tmp_path / "own").write_text(own)
    return available_memory(cgroups=tmp_path / "fs", own_cgroup=tmp_path / "own")


def test_the_tightest_limit_on_the_way_to_the_root_counts(tmp_path: Path) -> None:
    fs = tmp_path / "fs"
    group(fs, memory_max="max", memory_current="0")
    group(fs / "a", memory_max="9000", memory_high="5000", memory_current="1000")
    group(fs / "a/b", memory_max="8000", memory_high="max", memory_current="500")
    group(fs / "other", memory_max="1", memory_current="0")
    assert available(tmp_path, "4:memory:/other\n0::/a/b\n") == 4000
    group(fs / "a", memory_stat="anon 7\ninactive_file 600\nfile 900")
    assert available(tmp_path, "0::/a/b\n") == 4600
    group(fs, memory_max="3000", memory_current="2999")
    assert available(tmp_path, "0::/a/b\n") == 1
    assert available(tmp_path, "0::/\n") == 1


def test_a_group_over_its_limit_has_nothing(tmp_path: Path) -> None:
    group(tmp_path / "fs", memory_high="100", memory_current="500")
    assert available(tmp_path, "0::/\n") == 0


@pytest.mark.parametrize("own", ["", "garbage", "4:memory:/a\n", "0::/gone\n", "0::/../x\n"])
def test_without_readable_limits_the_machine_counts(tmp_path: Path, own: str) -> None:
    group(tmp_path / "fs", memory_max="nonsense", memory_current="-1", memory_stat="x")
    group(tmp_path / "x", memory_max="1", memory_current="0")
    assert 0 < available(tmp_path, own) <= psutil.virtual_memory().total


def test_this_machine_has_some() -> None:
    assert 0 < available_memory() <= psutil.virtual_memory().total


def test_memory_that_cannot_be_read_is_not_short() -> None:
    assert memory_is_below(2**60)
    assert not memory_is_below(0)
    with no_file_left():
        assert not memory_is_below(2**60)
