"""A lock lives as long as the last process that holds its descriptor, and no longer (LESSONS 14; FAULTS 15, 16, 23)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness import eventually

from octopoid import locks
from octopoid.errors import Conflict

HOLD = "import sys; from octopoid import locks; fd = locks.take(sys.argv[1]); print(fd, flush=True); sys.stdin.read()"


def holder(path: Path) -> subprocess.Popen[str]:
    """A process that holds the lock at `path` until its stdin ends."""
    argv = [sys.executable, "-c", HOLD, str(path)]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline().strip() != "None"
    return process


def test_only_one_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not locks.is_held(path)
    fd = locks.take(path)
    assert fd is not None
    assert not os.get_inheritable(fd)
    assert locks.take(path) is None
    assert locks.is_held(path)
    os.close(fd)
    assert not locks.is_held(path)
    again = locks.take(path)
    assert again is not None
    os.close(again)


def test_a_probe_makes_no_file_and_holds_nothing(tmp_path: Path) -> None:
    assert not locks.is_held(tmp_path / "missing")
    assert not locks.is_held(tmp_path / "missing/lock")
    (tmp_path / "file").touch()
    assert not locks.is_held(tmp_path / "file/lock")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_content_of_the_file_is_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text("pid 1, garbage")
    assert not locks.is_held(path)
    fd = locks.take(path)
    assert fd is not None
    os.close(fd)
    assert path.read_text() == "pid 1, garbage"


def test_it_dies_with_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    process = holder(path)
    assert locks.is_held(path)
    process.kill()
    process.communicate()
    assert not locks.is_held(path)


def test_whoever_inherits_the_descriptor_holds_it_too(tmp_path: Path) -> None:
    """The scheduler passes it on and closes its copy; the lock stays until the child is gone."""
    path = tmp_path / "lock"
    fd = locks.take(path)
    assert fd is not None
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=(fd,))
    os.close(fd)
    assert locks.is_held(path)
    child.communicate()
    assert not locks.is_held(path)


def test_it_moves_with_its_folder(tmp_path: Path) -> None:
    (tmp_path / ".new-1").mkdir()
    fd = locks.take(tmp_path / ".new-1/lock")
    assert fd is not None
    (tmp_path / ".new-1").rename(tmp_path / "001")
    assert locks.is_held(tmp_path / "001/lock")
    os.close(fd)


def test_one_of_sixteen_wins(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(16)
    ]
    answers = [racer.stdout.readline().strip() for racer in racers if racer.stdout]
    for racer in racers:
        racer.communicate()
    assert len(answers) == 16
    assert sum(answer != "None" for answer in answers) == 1


def test_waiting_gets_it_as_soon_as_it_is_free(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    process = holder(path)
    waiter = "import sys; from octopoid import locks\nwith locks.waiting(sys.argv[1], 20): print('mine')"
    waiting = subprocess.Popen([sys.executable, "-c", waiter, str(path)], stdout=subprocess.PIPE, text=True)
    assert waiting.poll() is None
    process.communicate()
    assert waiting.communicate()[0].strip() == "mine"
    with locks.waiting(path, 0):
        assert locks.is_held(path)
    assert not locks.is_held(path)


def test_waiting_gives_up_with_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locks.waiting(path, 1):
        began = time.monotonic()
        with pytest.raises(Conflict, match="still locked") as caught, locks.waiting(path, 0.1):
            pass
        assert time.monotonic() - began >= 0.1
    assert caught.value.hint
    assert caught.value.exit_code == 5
    assert not locks.is_held(path)


def test_it_is_free_after_an_error_inside(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with pytest.raises(KeyError), locks.waiting(path, 1):
        raise KeyError
    assert not locks.is_held(path)


@pytest.mark.parametrize("error", ["ENOSYS", "ENOLCK"])
def test_without_flock_nothing_is_granted(tmp_path: Path, error: str) -> None:
    """Never a soft lock (FAULTS 23). strace makes the kernel say what NFS says."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("no strace")
    code = f"from octopoid import locks; print(locks.take({str(tmp_path / 'lock')!r}))"
    argv = [strace, "-f", "-o", os.devnull, "-e", f"inject=flock:error={error}", sys.executable, "-c", code]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "OSError" in done.stderr


def test_a_crowd_waits_its_turn(tmp_path: Path) -> None:
    """Eight processes count to 20 each in a file under the lock; none is lost."""
    counter = tmp_path / "counter"
    counter.write_text("0")
    code = (
        "import sys, pathlib; from octopoid import locks; counter = pathlib.Path(sys.argv[1])\n"
        "for _ in range(20):\n"
        "    with locks.waiting(sys.argv[1] + '.lock', 60, 0.001):\n"
        "        counter.write_text(str(int(counter.read_text()) + 1))"
    )
    crowd = [subprocess.Popen([sys.executable, "-c", code, str(counter)]) for _ in range(8)]
    assert [one.wait() for one in crowd] == [0] * 8
    assert counter.read_text() == "160"
    eventually(lambda: not locks.is_held(f"{counter}.lock"))
