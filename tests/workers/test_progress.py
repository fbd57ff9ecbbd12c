"""What is read of a process tree."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from maxd.workers.activity import Sample
from maxd.workers.progress import began_now, sample_by_psutil, sample_tree

# Uses 0.3 s and writes a megabyte itself, lets a child do the same and end, and leaves one that
# waits. The name of the last has what could be taken for the end of a name.
TREE = """
import os, sys, time
def work():
    while time.process_time() < 0.3: pass
    with open(os.devnull, "wb", buffering=0) as file: file.write(bytes(1_000_000))
if os.fork() == 0:
    work()
    os._exit(0)
os.wait()
work()
if os.fork() == 0:
    with open("/proc/self/comm", "w") as file: file.write(") S 1 (")
    os.write(1, b"x"); time.sleep(60)
    os._exit(0)
time.sleep(60)
"""


@contextmanager
def tree() -> Iterator[int]:
    """A process whose tree has done all of that."""
    command = [sys.executable, "-S", "-c", TREE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        try:
            yield process.pid
        finally:
            os.killpg(process.pid, 9)


@pytest.mark.parametrize("sample", [sample_tree, sample_by_psutil])
def test_use_of_a_tree_and_of_what_has_ended(sample: Callable[[int], Sample]) -> None:
    began = began_now()
    with tree() as root:
        found = sample(root)
    assert len(found) == 2
    by_pid = {pid: used for (pid, _), used in found.items()}
    waiting = by_pid.keys() - {root}
    assert by_pid[root].cpu == pytest.approx(0.6, abs=0.2)
    assert all(by_pid[pid].cpu < 0.1 for pid in waiting)
    if sample is sample_tree:
        assert 2_000_000 <= by_pid[root].written < 2_100_000
        assert by_pid[root].read > 0
        # A tick earlier at most: the system rounds down.
        assert all(began - 0.02 <= start <= began + 20 for _, start in found)


@pytest.mark.parametrize("sample", [sample_tree, sample_by_psutil])
def test_a_tree_that_is_gone_has_used_nothing(sample: Callable[[int], Sample]) -> None:
    with tree() as root:
        pass
    assert sample(root) == {}
