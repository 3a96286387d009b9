"""Old content or new, never half of it, never over somebody else's (FAULTS 1, 2; LESSONS 1, 3)."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from harness import PROJECT, eventually

from octopoid import durable


def changed(path: Path, before: int) -> bool:
    return path.exists() and path.stat().st_mtime_ns != before


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- write ---


@pytest.mark.parametrize("sync", [True, False])
@pytest.mark.parametrize("name", ["plain", "with blank", "ünïcode", "x" * 255])
def test_write_makes_and_replaces(tmp_path: Path, name: str, sync: bool) -> None:
    for data in (b"first", b"", b"\0\xff" * 100_000):
        durable.write(tmp_path / name, data, sync=sync)
        assert (tmp_path / name).read_bytes() == data
    assert names(tmp_path) == [name]


def test_write_takes_strings_and_names_without_a_folder(tmp_path: Path) -> None:
    code = "from octopoid import durable; durable.write('here', b'x'); durable.rename('here', 'there')"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert names(tmp_path) == ["there"]


def test_a_file_gets_the_times_that_it_is_given(tmp_path: Path) -> None:
    """Before it gets its name: that age is part of the order of tasks (`test_kills`, life `split`)."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    durable.write(path, b"new", times=(1, 2))
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (b"new", 2)


def test_a_new_file_is_readable_and_an_old_one_keeps_its_mode(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(0o755)
    path = folder / "file"
    durable.write(path, b"1")
    mask = os.umask(0o022)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644 & ~mask
    path.chmod(0o600)
    durable.write(path, b"2")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_write_replaces_a_link_and_not_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"mine")
    (tmp_path / "link").symlink_to("target")
    durable.write(tmp_path / "link", b"new")
    assert (tmp_path / "target").read_bytes() == b"mine"
    assert not (tmp_path / "link").is_symlink()


def test_write_over_a_folder_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        durable.write(tmp_path / "folder", b"x")
    with pytest.raises(FileNotFoundError):
        durable.write(tmp_path / "missing/file", b"x")
    assert names(tmp_path) == ["folder"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = shutil.which("mount")
    argv = [mount or "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if mount is None or subprocess.run(argv, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk; the limit on file sizes is tested without")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_leaves_the_old_content(small_disk: Path) -> None:
    path = small_disk / "task.md"
    durable.write(path, b"old")
    with pytest.raises(OSError, match="No space left") as caught:
        durable.write(path, b"n" * 200_000)
    assert caught.value.errno == errno.ENOSPC
    assert (names(small_disk), path.read_bytes()) == (["task.md"], b"old")
    durable.write(path, b"there is room again")


def test_a_line_cut_short_by_a_full_disk_spoils_no_other(small_disk: Path) -> None:
    path = small_disk / "events.jsonl"
    durable.append_line(path, b"one")
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * 50_000)
    with pytest.raises(OSError, match="No space left"):
        durable.append_line(path, b"n" * 40_000)
    filler.unlink()
    durable.append_line(path, b"two")
    lines = path.read_bytes().split(b"\n")
    assert (lines[0], lines[-2:]) == (b"one", [b"two", b""])


def test_a_limit_on_file_sizes_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "task.md"
    path.write_bytes(b"old")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    code = f"from octopoid import durable; durable.write({str(path)!r}, b'n' * 5000)"
    done = subprocess.run([sys.executable, "-c", code], preexec_fn=limit, capture_output=True, text=True, check=False)
    assert "File too large" in done.stderr
    assert (names(tmp_path), path.read_bytes()) == (["task.md"], b"old")


def test_a_killed_writer_leaves_old_or_new(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = {bytes([letter]) * 50_000 for letter in b"ab"}
    code = (
        "from octopoid import durable\n"
        "while True:\n"
        f"    for letter in (b'a', b'b'): durable.write({str(path)!r}, letter * 50_000, sync=False)"
    )
    for _ in range(8):
        process = subprocess.Popen([sys.executable, "-c", code])
        before = path.stat().st_mtime_ns if path.exists() else 0
        eventually(partial(changed, path, before))
        process.kill()
        process.wait()
        assert path.read_bytes() in contents
    assert all(name == "file" or name.startswith(".tmp-") for name in names(tmp_path))


def test_readers_never_see_half(tmp_path: Path) -> None:
    path = tmp_path / "file"
    durable.write(path, b"0" * 30_000)
    done = threading.Event()

    def write() -> None:
        for number in range(200):
            durable.write(path, str(number % 10).encode() * 30_000, sync=False)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        data = path.read_bytes()
        assert len(data) == 30_000
        assert len(set(data)) == 1
    writer.join()


def test_signals_do_not_disturb_a_write(tmp_path: Path) -> None:
    """EINTR: the write goes on after the handler."""
    hits = []
    old = signal.signal(signal.SIGALRM, lambda *_: hits.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        for _ in range(20):
            durable.write(tmp_path / "file", b"x" * 2_000_000)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert hits
    assert (tmp_path / "file").stat().st_size == 2_000_000


# --- append_line ---


def test_append_line_ends_every_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    durable.append_line(path, b"one")
    durable.append_line(path, b"two\n")
    assert path.read_bytes() == b"one\ntwo\n"


def test_append_line_ends_a_torn_line_first(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'one\n{"half')
    durable.append_line(path, b"two")
    assert path.read_bytes() == b'one\n{"half\ntwo\n'


def test_lines_of_many_processes_never_mix(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    code = (
        "import sys; from octopoid import durable\n"
        "for _ in range(50): durable.append_line(sys.argv[1], sys.argv[2].encode() * 3000)"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, path, letter]) for letter in "abcd"]
    assert [writer.wait() for writer in writers] == [0] * 4
    lines = path.read_bytes().splitlines()
    assert sorted(lines) == sorted(letter * 3000 for letter in (b"a", b"b", b"c", b"d") for _ in range(50))


# --- rename ---


def test_rename_moves_files_and_folders(tmp_path: Path) -> None:
    for kind in ("in", "out"):
        (tmp_path / kind).mkdir()
    (tmp_path / "in/é 1.md").write_bytes(b"x")
    (tmp_path / "in/.new-entry").mkdir()
    durable.rename(tmp_path / "in/é 1.md", tmp_path / "out/é 1.md")
    durable.rename(str(tmp_path / "in/.new-entry"), str(tmp_path / "in/001"))
    assert (names(tmp_path / "in"), names(tmp_path / "out")) == (["001"], ["é 1.md"])


def test_rename_never_overwrites(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(b"old")
    for taken in (lambda: new.write_bytes(b"new"), lambda: new.symlink_to("nowhere"), lambda: os.link(old, new)):
        taken()
        with pytest.raises(FileExistsError) as caught:
            durable.rename(old, new)
        assert (caught.value.filename, caught.value.filename2) == (str(old), str(new))
        assert old.read_bytes() == b"old"
        new.unlink()
    new.mkdir()  # an empty folder is not replaced either
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileExistsError):
        durable.rename(tmp_path / "folder", new)


def test_rename_of_nothing_is_a_lost_race(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        durable.rename(tmp_path / "old", tmp_path / "new")
    (tmp_path / "old").touch()
    with pytest.raises(FileNotFoundError):
        durable.rename(tmp_path / "old", tmp_path / "missing/new")
    assert (tmp_path / "old").exists()


def test_rename_never_copies_to_another_mount(small_disk: Path) -> None:
    path = small_disk.parent / "file"
    path.touch()
    with pytest.raises(OSError, match="cross-device") as caught:
        durable.rename(path, small_disk / "file")
    assert caught.value.errno == errno.EXDEV
    assert path.exists()
    assert names(small_disk) == []


@pytest.mark.skipif(sys.platform != "linux", reason="strace")
def test_rename_works_where_the_flag_is_not_known(tmp_path: Path) -> None:
    """NFS and old kernels: look, then rename. strace makes the kernel say EINVAL."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("no strace")
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "taken").write_bytes(b"t")
    code = (
        "from octopoid import durable\n"
        "try: durable.rename('a', 'taken')\n"
        "except FileExistsError: durable.rename('a', 'b')"
    )
    argv = [strace, "-f", "-o", os.devnull, "-e", "inject=renameat2:error=EINVAL", sys.executable, "-c", code]
    subprocess.run(argv, cwd=tmp_path, check=True, env={**os.environ, "PYTHONPATH": str(PROJECT)})
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == {"b": b"a", "taken": b"t"}


def test_one_of_many_wins_a_file_and_nobody_overwrites(tmp_path: Path) -> None:
    """16 processes move 50 files to one of two places each; every content survives exactly once."""
    for number in range(50):
        (tmp_path / f"in-{number}").write_text(f"content {number}")
    code = (
        "import sys; from octopoid import durable\n"
        "for n in range(50):\n"
        "    try: durable.rename(f'in-{n}', f'out-{n // 2}-{int(sys.argv[1]) % 2}')\n"
        "    except OSError: pass"
    )
    movers = [subprocess.Popen([sys.executable, "-c", code, str(number)], cwd=tmp_path) for number in range(8)]
    assert [mover.wait() for mover in movers] == [0] * 8
    found = sorted(path.read_text() for path in tmp_path.iterdir())
    assert found == sorted(f"content {number}" for number in range(50))


def test_an_editor_that_saves_at_the_target_loses_nothing(tmp_path: Path) -> None:
    """No window: what somebody else puts at the target is never replaced, however close it comes."""
    target = tmp_path / "target"
    code = (
        "import os, time\n"
        "open('save', 'w').close(); number = os.stat('save').st_ino; end = time.monotonic() + 0.7\n"
        "while time.monotonic() < end:\n"
        "    try: os.link('save', 'target')\n"
        "    except FileExistsError: continue\n"
        "    assert os.stat('target').st_ino == number, 'what the editor saved is gone'\n"
        "    os.unlink('target')\n"
    )
    editor = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.PIPE)
    source = tmp_path / "ours"
    source.touch()
    moved = refused = 0
    while editor.poll() is None:
        try:
            durable._exclusive_rename(str(source), str(target))  # without the fsyncs, to be there more often
        except FileExistsError:
            refused += 1
        else:
            target.rename(source)
            moved += 1
    assert (editor.returncode, editor.communicate()[1]) == (0, b"")
    assert moved
    assert refused


# --- cost ---


def test_importing_durable_is_cheap() -> None:
    code = "import os, sys; before = set(sys.modules); import octopoid.durable; print(*set(sys.modules) - before)"
    argv = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.append({str(PROJECT)!r}); {code}"]
    loaded = set(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split())
    ours = {"octopoid", "octopoid.durable", "octopoid.lean", "octopoid.regular"}
    assert loaded <= ours | {"__future__", "_json", "_signal", "errno", "fcntl", "stat"}
