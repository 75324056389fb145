"""The two commands of the README on a fresh machine."""

import re
import subprocess
from pathlib import Path

import pytest

from lab import components, setup


def _tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=setup.ROOT, capture_output=True, text=True, check=True)
    return [setup.ROOT / name for name in listed.stdout.split("\0") if name and (setup.ROOT / name).is_file()]


def test_no_tracked_file_names_an_index_host():
    """Every machine installs from the index that it is configured for."""
    hosts = ["python" + "hosted", "//py" + "pi.", "registry." + "npmjs", "deb." + "debian", "ports." + "ubuntu"]
    naming = [path.name for path in _tracked() if any(host.encode() in path.read_bytes() for host in hosts)]

    assert [] == naming


@pytest.mark.parametrize("lock", sorted(setup.ROOT.glob("requirements*.lock")), ids=lambda lock: lock.name)
def test_every_requirement_of_a_lock_has_a_hash(lock):
    """What is installed is what was locked."""
    requirements = re.split(r"^(?=\w)", lock.read_text(), flags=re.MULTILINE)[1:]

    assert requirements
    assert [] == [text.split()[0] for text in requirements if "==" not in text or "--hash=sha256:" not in text]


@pytest.mark.parametrize("component", components.COMPONENTS, ids=lambda component: component.name)
def test_every_component_says_how_to_get_it(component):
    """The line about a missing component says what it is, what needs it, and names the packages or the variable."""
    line = str(component)

    assert component.packages or component.variable
    assert [line] == line.splitlines()
    assert line.startswith(f"{component.name} is missing; {component.needed_by}")
    assert " ".join(component.packages) in line
    assert component.variable in line


@pytest.fixture
def no_oracle(monkeypatch):
    with monkeypatch.context() as without:
        without.delenv("ORACLE_URL", raising=False)
        components.look_again()
        yield
    components.look_again()


@pytest.mark.usefixtures("no_oracle")
def test_a_missing_component_raises_its_line():
    """Needing what is not there raises the line that the report prints."""
    with pytest.raises(components.Missing) as raised:
        components.need("oracle")

    assert str(components.COMPONENTS[-1]) == str(raised.value)


@pytest.mark.usefixtures("no_oracle")
def test_what_no_package_brings_is_not_reported_as_missing():
    """Nobody is told at every build that they have no Oracle."""
    assert "oracle" not in [component.name for component in components.missing()]


def test_a_module_that_was_not_compiled_is_one_line():
    """A driver that is not there raises Missing instead of ImportError."""
    with pytest.raises(components.Missing) as raised:
        components.python_module("no_such_driver", "compiler")

    assert 1 == len(str(raised.value).splitlines())


def test_postgresql_says_whether_it_has_tls():
    """The folder holds a server, and TLS is what that server says of itself."""
    folder, has_tls = components.postgresql_bin()

    assert (folder / "postgres").exists()
    assert has_tls == (components.find("postgresql-tls") is not None)


@pytest.mark.parametrize("version", [(3, 8, 18), (3, 10, 13)])
def test_an_old_python_is_one_line(version):
    """An older Python is refused by name, with the way to choose another."""
    assert setup.unfit(version, has_ensurepip=True) == (
        f"Python 3.11 or newer is needed and this is {'.'.join(map(str, version))}; "
        "name another one: make PYTHON=python3.11"
    )


def test_a_python_without_ensurepip_names_the_package():
    """Debian keeps what makes environments in a package of its own."""
    assert setup.unfit((3, 11, 2), has_ensurepip=False).endswith("apt-get install python3-venv")


def test_a_fit_python_is_not_refused():
    """The control: nothing is said of a Python that will do."""
    assert "" == setup.unfit((3, 11, 0), has_ensurepip=True) == setup.unfit((3, 13, 0), has_ensurepip=True)


def test_a_step_runs_once_for_a_reason(monkeypatch, tmp_path):
    """A stamped step is skipped and its note repeated; another reason runs it again."""
    monkeypatch.setattr(setup, "VENV", tmp_path)
    ran = []

    def step():
        ran.append(1)
        return f"run {len(ran)}"

    notes = [setup.once("step", reason, step) for reason in ("a", "a", "b", "b")]

    assert ["run 1", "run 1", "run 2", "run 2"] == notes


def test_a_step_that_fails_leaves_no_stamp(monkeypatch, tmp_path):
    """An interrupted step is run again, so that half an environment is never taken for a whole one."""
    monkeypatch.setattr(setup, "VENV", tmp_path)

    def step():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        setup.once("step", "a", step)

    assert [] == list(tmp_path.iterdir())


def test_a_failure_is_one_line_and_ctrl_c_none(monkeypatch, capsys):
    """Neither shows a traceback."""
    codes = []
    for problem in (setup.Failure("no network"), OSError("disk full"), KeyboardInterrupt()):

        def fail(problem=problem):
            raise problem

        monkeypatch.setattr(setup, "make_ready", fail)
        codes.append(setup.main([]))

    assert [1, 1, 130] == codes
    assert "setup: no network\nsetup: disk full\n" == capsys.readouterr().err


@pytest.mark.parametrize(("ci", "code"), [("true", 1), ("", 0)])
def test_ci_fails_on_what_is_missing(monkeypatch, capsys, tmp_path, ci, code):
    """In CI a missing component is a failure; elsewhere it is a line, and a shorter one from then on."""
    strace = next(component for component in components.COMPONENTS if component.name == "strace")
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(setup, "VENV", tmp_path)
    for step in ("_make_venv", "_compile"):
        monkeypatch.setattr(setup, step, lambda *_: "")
    monkeypatch.setattr(setup, "_install_packages", lambda names: "")
    monkeypatch.setattr(components, "missing", lambda: [strace])

    assert [code, code] == [setup.make_ready(), setup.make_ready()]
    assert [
        str(strace),
        f"setup: missing, and what needs them is left out: strace (more: {setup.CHECK})",
    ] == capsys.readouterr().err.splitlines()
