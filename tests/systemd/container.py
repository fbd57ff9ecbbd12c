"""A Debian container with systemd as its first process, and maxd installed in it.

`make test-systemd` makes the tree it boots from. Nothing that is done in it stays: what is written
goes to memory. Whoever runs this is root.
"""

import os
import subprocess
import time
from pathlib import Path
from types import TracebackType

import psutil

BIN = "/opt/maxd/bin"
TESTS = "/tests"
BOOT_SECONDS = 60.0
COMMAND_SECONDS = 150.0

# The control groups of this process are not systemd-nspawn's to rearrange, so where no systemd of
# the host makes a scope for it, it is started in groups of its own.
LAUNCHER = """
for folder in /sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/systemd; do
    if test -f $folder/cgroup.procs; then
        mkdir -p $folder/maxd-test && echo $$ > $folder/maxd-test/cgroup.procs
    fi
done
exec "$@"
"""


class Container:
    """A container booted from the tree `root`, without any network but loopback. Leaving it powers
    it off."""

    def __init__(self, root: Path) -> None:
        command = [
            "systemd-nspawn",
            f"--directory={root}",
            "--boot",
            "--volatile=overlay",
            "--private-network",
            "--machine=maxd-test",
            "--console=pipe",
            f"--bind-ro={Path(__file__).parent}:{TESTS}",
        ]
        if not Path("/run/systemd/system").exists():
            command += ["--register=no", "--keep-unit"]
            command = ["sh", "-c", LAUNCHER, "sh", *command]
        self._nspawn = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
        )
        self._init = 0

    def __enter__(self) -> "Container":
        deadline = time.monotonic() + BOOT_SECONDS
        while not self._booted():
            if self._nspawn.poll() is not None or time.monotonic() > deadline:
                self._nspawn.kill()
                said, _ = self._nspawn.communicate()
                raise RuntimeError(f"the container does not boot: {said}")
            time.sleep(0.1)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # To systemd-nspawn it means: tell the system in it to power off.
        self._nspawn.terminate()
        try:
            self._nspawn.communicate(timeout=BOOT_SECONDS)
        except subprocess.TimeoutExpired:
            self._nspawn.kill()
            self._nspawn.communicate()

    def command(self, *argv: str, user: str = "root") -> list[str]:
        """What is to be run out here so that `argv` runs in there."""
        home = "/root" if user == "root" else f"/home/{user}"
        variables = {
            "PATH": f"{BIN}:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": home,
            "LANG": "C.UTF-8",
        }
        if user != "root":
            number = self.run("id", "-u", user)
            variables["XDG_RUNTIME_DIR"] = f"/run/user/{number}"
        spaces = ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]
        become = [] if user == "root" else ["setpriv", f"--reuid={user}", f"--regid={user}"]
        become += ["--init-groups"] if become else []
        words = [f"{name}={value}" for name, value in variables.items()]
        enter = ["nsenter", f"--target={self._init}", *spaces, "--wd=/"]
        return [*enter, "env", "--ignore-environment", *words, *become, *argv]

    def try_run(
        self, *argv: str, user: str = "root", given: str | None = None
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.command(*argv, user=user),
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )

    def run(self, *argv: str, user: str = "root", given: str | None = None) -> str:
        """What the command prints. Fails the test if the command fails."""
        done = self.try_run(*argv, user=user, given=given)
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def write(self, path: str, text: str, user: str = "root") -> None:
        self.run("sh", "-c", f'mkdir -p "$(dirname {path})" && cat > {path}', user=user, given=text)

    def systemctl(self, *words: str, user: str = "root") -> str:
        return self.run("systemctl", *_manager(user), *words, user=user)

    def show(self, unit: str, what: str, user: str = "root") -> str:
        """One property of a unit."""
        return self.systemctl("show", unit, f"--property={what}", "--value", user=user)

    def wait(self, unit: str, what: str, wanted: str, seconds: float, user: str = "root") -> None:
        """Wait until a property of a unit has a value."""
        deadline = time.monotonic() + seconds
        while (found := self.show(unit, what, user)) != wanted:
            assert time.monotonic() < deadline, f"{what} of {unit} is {found!r}, not {wanted!r}"
            time.sleep(0.2)

    def _booted(self) -> bool:
        if not self._init:
            children = psutil.Process(self._nspawn.pid).children()
            self._init = next((each.pid for each in children if each.name() == "systemd"), 0)
        if not self._init:
            return False
        state = self.try_run("systemctl", "is-system-running").stdout.strip()
        return state in ("running", "degraded")


def _manager(user: str) -> list[str]:
    return [] if user == "root" else ["--user"]
