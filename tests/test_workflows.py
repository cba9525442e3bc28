"""The workflows keep their rules: pinned actions, least permissions, make targets."""

import re
from itertools import product
from pathlib import Path

import colab
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FILES = [*WORKFLOWS, GITHUB / "actions" / "setup" / "action.yml"]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))


def each(files):
    return pytest.mark.parametrize("path", files, ids=lambda path: path.stem)


def rows(job):
    """The rows of a job's matrix: `{}` alone where it has none."""
    matrix = job.get("strategy", {}).get("matrix", {})
    given = {name: some for name, some in matrix.items() if name != "include"}
    plain = [dict(zip(given, row)) for row in product(*given.values())]
    return matrix.get("include", []) + (plain if given else []) or [{}]


def steps(path):
    document = yaml.safe_load(path.read_text())
    if "runs" in document:
        return document["runs"]["steps"]
    return [step for job in document["jobs"].values() for step in job["steps"]]


@each(FILES)
def test_actions_are_pinned_by_commit_and_say_which_release(path):
    used = re.findall(r"uses: (\S+)(.*)", path.read_text())
    assert used
    for action, comment in used:
        if action != "./.github/actions/setup":
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action), action
            assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), action


def test_an_action_is_pinned_to_one_commit_everywhere():
    text = "".join(path.read_text() for path in FILES)
    pins = set(re.findall(r"uses: ([\w-]+/[\w-]+)@(\S+)", text))
    assert len(pins) == len({action for action, _ in pins})


@each(FILES)
def test_every_command_is_a_target_of_make(path):
    for step in steps(path):
        for line in step.get("run", "make help").splitlines():
            target = re.match(r"make ([a-z-]+|\$\{\{ matrix\.task \}\})( |$)", line)
            assert target, line
            assert target[1] in TARGETS | {"${{ matrix.task }}", "portable"}, line
            # What strangers name, such as branches, reaches the shell as a variable.
            assert not re.search(r"\$\{\{ *github", line), line


@each(WORKFLOWS)
def test_permissions_concurrency_and_limits_are_given(path):
    document = yaml.safe_load(path.read_text())
    assert document["permissions"] == {"contents": "read"}
    assert document["concurrency"]["group"]
    for job in document["jobs"].values():
        assert job["timeout-minutes"] <= 90
        assert {row["task"] for row in rows(job) if "task" in row} <= TARGETS
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False


def test_a_site_leads_to_notebooks_that_name_its_repository():
    """Colab opens what is committed: an address written on the runner would lie."""
    publish = yaml.safe_load((GITHUB / "workflows" / "publish.yml").read_text())
    steps = publish["jobs"]["build"]["steps"]
    made = [step["run"].split()[1:3] for step in steps if "run" in step]
    assert made[-1] == ["book"]
    asked, cleared = (step for step in steps if "repository" in step.get("run", ""))
    assert asked["run"] == 'make check-repository REPOSITORY="$GITHUB_REPOSITORY"'
    assert asked["continue-on-error"] is True
    assert cleared["run"] == "make set-repository URL="
    assert cleared["if"] == f"${{{{ steps.{asked['id']}.outcome != 'success' }}}}"


def test_the_oldest_versions_get_a_python_that_they_have_wheels_for():
    weekly = yaml.safe_load((GITHUB / "workflows" / "weekly.yml").read_text())
    job = weekly["jobs"]["check"]
    found = [row for row in rows(job) if "oldest" in (row["task"], row.get("colab"))]
    assert len(found) == 2
    for row in found:
        colab.refuse_new_python(tuple(map(int, row["python"].split("."))))
    ran = {row["colab"] for row in rows(job) if row["task"] == "colab"}
    assert ran == {*colab.environments()}
    assert job["env"]["COLAB"] == "${{ matrix.colab }}"
    (python,) = [s for s in job["steps"] if "setup-python" in s.get("uses", "")]
    assert python["with"]["python-version"] == "${{ matrix.python }}"


def test_the_book_is_published_when_the_tests_passed_on_linux():
    """Other systems have a workflow of their own: publishing does not wait for it."""
    publish = (GITHUB / "workflows" / "publish.yml").read_text()
    ci, systems = (
        yaml.safe_load((GITHUB / "workflows" / f"{name}.yml").read_text())
        for name in ("ci", "systems")
    )
    assert f"workflows: [{ci['name']}]" in publish
    assert {job["runs-on"] for job in ci["jobs"].values()} == {"ubuntu-latest"}
    assert any(step.get("run") == "make test" for step in ci["jobs"]["test"]["steps"])
    library = systems["jobs"]["library"]
    assert {"macos-latest", "windows-latest"} < {row["system"] for row in rows(library)}
    (notebooks,) = [s for s in library["steps"] if "notebooks" in s.get("run", "")]
    assert notebooks["if"] == "${{ matrix.system == 'ubuntu-24.04-arm' }}"
    assert {"run": "make test-library"} in library["steps"]


def test_every_python_that_is_named_is_one_that_ci_tests():
    """Classifiers, requires-python, workflows and `make` agree on oldest and newest."""
    text = (ROOT / "pyproject.toml").read_text()
    named = re.findall(r"Programming Language :: Python :: (3\.\d+)", text)
    numbers = [int(name.removeprefix("3.")) for name in named]
    assert numbers == [*range(numbers[0], numbers[-1] + 1)]
    oldest, newest = named[0], named[-1]
    assert f'\nrequires-python = ">={oldest}"\n' in text
    jobs = {}
    for path in WORKFLOWS:
        jobs |= yaml.safe_load(path.read_text())["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["python"] == [oldest, newest]
    asked = {
        row["python"] for job in jobs.values() for row in rows(job) if "python" in row
    }
    asked |= {
        step["with"].get("python") or step["with"]["python-version"]
        for job in jobs.values()
        for step in job["steps"]
        if re.search("setup-python|actions/setup$", step.get("uses", ""))
    }
    asked -= {"${{ matrix.python }}"}
    assert max(asked, key=lambda one: int(one[2:])) == newest
    assert asked <= {oldest, newest, "3.12"}  # of Colab
    keep = f"${{{{ !cancelled() && matrix.python == '{newest}' }}}}"
    assert keep in [step.get("if") for step in jobs["test"]["steps"]]
    names = re.findall(r"python(3\.\d+) ", (ROOT / "Makefile").read_text())
    assert {*named} <= {*names}


def test_what_installs_the_newest_packages_cannot_write():
    for path in WORKFLOWS:
        for job in yaml.safe_load(path.read_text())["jobs"].values():
            commands = [s["run"] for s in job["steps"] if "run" in s]
            installs = re.search(
                r"make (?!report|release|check-|set-)", "\n".join(commands)
            )
            if installs:
                assert set(job.get("permissions", {}).values()) <= {"read"}
    weekly = yaml.safe_load((GITHUB / "workflows" / "weekly.yml").read_text())
    report = weekly["jobs"]["report"]
    assert (report["needs"], report["if"]) == ("check", "${{ failure() }}")
    assert report["permissions"]["issues"] == "write"
    assert report["steps"][-1]["run"].startswith("make report-failure run=")
