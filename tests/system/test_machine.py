"""What of a machine falls to this process."""

from __future__ import annotations

import os

import pytest

from gencond_fast.system import machine

KIB = 1024


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A machine with 1000 KiB free, whose baseline groups are files that a test writes."""
    (tmp_path / "meminfo").write_text("MemTotal: 2000 kB\nMemAvailable: 1000 kB\n")
    (tmp_path / "membership").write_text("")
    monkeypatch.setattr(machine, "_MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(machine, "_MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(machine, "_GROUPS", tmp_path / "groups")
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    return tmp_path


def group(host, place, limit, usage, spare, legacy=False):
    folder = host / "groups" / place
    folder.mkdir(parents=True, exist_ok=True)
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    names = names if legacy else ("memory.max", "memory.current", "inactive_file")
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{usage}\n")
    (folder / "memory.stat").write_text(f"anon 17\n{names[2]} {spare}\n")


def test_without_limits_it_is_what_is_free(host):
    assert machine.own_memory() == 1000 * KIB
    (host / "membership").write_text("4:memory:/a/b\n0::/c\n")  # which nobody can see
    assert machine.own_memory() == 1000 * KIB


@pytest.mark.parametrize("legacy", [False, True])
def test_the_tightest_group_counts_and_files_in_memory_do_not(host, legacy):
    root = "memory/" if legacy else ""
    (host / "membership").write_text("4:memory:/a/b\n" if legacy else "0::/a/b\n")
    group(host, f"{root}a/b", 900 * KIB, 500 * KIB, 100 * KIB, legacy)
    assert machine.own_memory() == 500 * KIB
    group(host, f"{root}a", 600 * KIB, 550 * KIB, 150 * KIB, legacy)
    assert machine.own_memory() == 200 * KIB
    group(host, f"{root}a", 600 * KIB, 900 * KIB, 0, legacy)
    assert machine.own_memory() == 0
    group(host, f"{root}a", 2**63 - 4096 if legacy else "max", 900 * KIB, 0, legacy)
    assert machine.own_memory() == 500 * KIB


def test_the_limit_of_a_container_that_sees_its_own_group_as_the_root(host):
    (host / "membership").write_text("4:memory:/outside/name\n")
    group(host, "memory", 300 * KIB, 0, 0, legacy=True)
    assert machine.own_memory() == 300 * KIB


def test_ranks_of_a_machine_share_it(host, monkeypatch):
    cores = len(os.sched_getaffinity(0))
    assert machine.own_cores() == cores
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert machine.own_memory() == 250 * KIB
    assert machine.own_cores() == max(1, cores // 4)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(cores + 1))
    assert machine.own_cores() == 1


def test_this_machine_has_some():
    assert machine.own_memory() > 0


CORES = len(os.sched_getaffinity(0))


def quota(host, place, cores, version=2):
    folder = host / "groups" / place
    folder.mkdir(parents=True, exist_ok=True)
    share = None if cores is None else int(50_000 * cores)
    if version == 2:
        (folder / "cpu.max").write_text(f"{'max' if share is None else share} 50000\n")
    else:
        (folder / "cpu.cfs_quota_us").write_text(f"{-1 if share is None else share}\n")
        (folder / "cpu.cfs_period_us").write_text("50000\n")


MEMBERSHIPS = {
    "0::/a/b\n": ("", 2),
    "3:cpu,cpuacct:/a/b\n0::/\n": ("cpu,cpuacct/", 1),
    "3:cpuacct,cpu:/a/b\n": ("cpu/", 1),
    "3:cpu:/outside/a\n": ("cpu/", 1),
}


@pytest.mark.parametrize("membership", MEMBERSHIPS)
def test_a_quota_is_so_many_cores(host, membership, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)))
    root, version = MEMBERSHIPS[membership]
    inner = root if "outside" in membership else f"{root}a/b"
    (host / "membership").write_text(membership)
    assert machine.own_cores() == 16
    for cores, expected in ((None, 16), (1, 1), (0.25, 1), (2.5, 3), (64, 16)):
        quota(host, inner, cores, version)
        assert machine.own_cores() == expected
    quota(host, root, 4, version)
    assert machine.own_cores() == 4
    quota(host, inner, 3, version)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert machine.own_cores() == 1 if "outside" in membership else 1


@pytest.mark.parametrize("text", ["", "max", "100000", "a b", "1 0", "-1 100000"])
def test_a_quota_that_says_nothing_is_none(host, text):
    (host / "membership").write_text("0::/\n")
    (host / "groups").mkdir()
    (host / "groups" / "cpu.max").write_text(text)
    assert machine.own_cores() == CORES
