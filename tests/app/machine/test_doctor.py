from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from yuwen.app.machine import doctor, probe, resources
from yuwen.cli import main


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def compiler_that(tmp_path: Path, does: str) -> str:
    path = tmp_path / "c++"
    path.write_text(f"#!/bin/sh\n{does}\n")
    path.chmod(0o755)
    return str(path)


def test_without_a_compiler_the_verdict_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    verdict = probe.compiler_works()
    assert not verdict and "install g++" in verdict.reason


def test_a_verdict_is_kept_and_can_be_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, empty_cache: Path
) -> None:
    monkeypatch.setenv("CXX", compiler_that(tmp_path, "echo broken 1.0"))
    monkeypatch.setattr(probe, "TRIAL", "pass")
    assert probe.compiler_works()
    (kept,) = (empty_cache / "yuwen").iterdir()
    kept.write_text(json.dumps({"works": False, "reason": "as kept"}))
    assert probe.compiler_works() == probe.Verdict(False, "as kept")
    assert probe.compiler_works(again=True)
    kept.write_text("{torn")
    assert probe.compiler_works()


def test_a_failed_trial_names_the_cause(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", compiler_that(tmp_path, "echo broken 1.0"))
    monkeypatch.setattr(probe, "TRIAL", "raise RuntimeError('x.cpp:1: fatal error: Python.h: No such file')")
    verdict = probe.compiler_works()
    assert not verdict and "Python.h: No such file" in verdict.reason


def test_an_impatient_trial_is_not_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, empty_cache: Path) -> None:
    monkeypatch.setenv("CXX", compiler_that(tmp_path, "echo slow 1.0"))
    monkeypatch.setattr(probe, "TRIAL", "import time; time.sleep(60)")
    monkeypatch.setattr(probe, "PATIENCE", 0.2)
    assert "did not finish" in probe.compiler_works().reason
    assert not empty_cache.exists()


def test_a_cache_that_cannot_be_written_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, empty_cache: Path
) -> None:
    monkeypatch.setenv("CXX", compiler_that(tmp_path, "echo good 1.0"))
    monkeypatch.setattr(probe, "TRIAL", "pass")
    empty_cache.write_text("a file where the folder should be")
    assert probe.compiler_works()


@pytest.mark.slow
def test_the_real_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    if probe.compiler() is None:
        pytest.skip("no C++ compiler installed")
    assert probe.compiler_works()


def test_bfloat16_only_where_the_processor_multiplies_it() -> None:
    sets = resources.instruction_sets()
    native = sets["avx512_bf16"] or sets["amx"]
    assert doctor.examine()["precision"]["name"] == ("bfloat16" if native else "float32")


def groups(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, membership: str, files: dict[str, str]) -> None:
    """A made-up tree of control groups, and a process that is in some of them."""
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    read = resources._read
    monkeypatch.setattr(resources, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(
        resources, "_read", lambda path: membership if path == Path("/proc/self/cgroup") else read(path)
    )


def test_limits_of_a_container(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = {
        "a/b/cpu.max": "max 100000",
        "a/cpu.max": "100000 100000",  # the parent's limit holds for the child too
        "a/b/memory.max": str(2**30),
        "a/b/memory.current": str(2**29),
        "a/b/memory.stat": f"anon 5\ninactive_file {2**28}\n",
    }
    groups(monkeypatch, tmp_path, "0::/a/b\n", files)
    assert resources.cores() == 1
    assert resources.memory() == (2**30, 2**30 - 2**29 + 2**28)


def test_limits_of_an_old_container(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = {
        "cpu,cpuacct/x/cpu.cfs_quota_us": "50000\n",
        "cpu,cpuacct/x/cpu.cfs_period_us": "100000\n",
        "memory/x/memory.limit_in_bytes": f"{2**30}\n",
        "memory/x/memory.usage_in_bytes": f"{2**29}\n",
        "memory/x/memory.stat": "total_inactive_file 0\n",
    }
    groups(monkeypatch, tmp_path, "4:memory:/x\n1:cpu,cpuacct:/x\n0::/\n", files)
    assert resources.cores() == 1
    assert resources.memory() == (2**30, 2**29)


def test_no_limits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    groups(monkeypatch, tmp_path, "0::/\n", {"cpu.max": "max 100000", "memory.max": "max"})
    assert 1 <= resources.cores() <= (os.cpu_count() or 1)
    total, available = resources.memory()
    assert 0 < available <= total


def test_the_report_for_a_program_and_for_a_person(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert main.run(["doctor", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["cores"] >= 1 and facts["memory_available_bytes"] > 0 and facts["disk_free_bytes"] > 0
    assert facts["torch_compile"]["works"] is False
    assert facts["precision"]["name"] in ("float32", "bfloat16")
    assert {"samples", "data", "dev"} <= facts["extras"].keys()

    assert main.run(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "torch.compile off: no C++ compiler found" in shown and facts["precision"]["name"] in shown


def test_a_missing_extra_comes_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "importlib.metadata.requires",
        lambda name: [
            'absent>=2; extra == "odd"',
            'pytest>=8 ; extra == "odd"',
            "numpy>=1",
            "yuwen[odd]; extra == 'dev'",
        ],
    )
    assert doctor.extras().keys() == {"odd"}
    odd = doctor.extras()["odd"]
    assert not odd["present"] and odd["missing"] == ["absent>=2"] and "pytest" in odd["installed"]
    assert odd["install"].endswith("-m pip install 'absent>=2'")
