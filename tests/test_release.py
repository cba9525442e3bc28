"""What the packages hold and need, and what a release says of itself."""

import io
import re
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import release  # noqa: E402
from repository import version  # noqa: E402

METADATA = """Metadata-Version: 2.4
Name: rpn_lib
Version: 0
Requires-Dist: torch>=2.4
Requires-Dist: torchvision
Requires-Dist: einops
Requires-Dist: torchmetrics
{more}
"""
NEEDED = ("defusedxml", "matplotlib", "pillow", "pooch", "pycocotools", "pyyaml")
BASE = "\n".join(f"Requires-Dist: {name}" for name in NEEDED)
TRAIN = "Requires-Dist: tqdm; extra == 'train'"


def make_wheel(path, files, metadata):
    with zipfile.ZipFile(path, "w") as archive:
        for name in sorted(files):
            archive.write(ROOT / name, name)
        archive.writestr("rpn_lib-0.dist-info/METADATA", metadata)
        archive.writestr("rpn_lib-0.dist-info/WHEEL", "Wheel-Version: 1.0\n")
        archive.writestr("rpn_lib-0.dist-info/RECORD", "")
        command = "[console_scripts]\nrpn = rpn_lib.cli:main\n"
        archive.writestr("rpn_lib-0.dist-info/entry_points.txt", command)
    return path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """As hatchling would pack the library of this checkout."""
    text = METADATA.format(more=f"{BASE}\n{TRAIN}")
    path = tmp_path_factory.mktemp("wheel") / "rpn_lib-0-py3-none-any.whl"
    return make_wheel(path, release.library_files(ROOT), text)


def test_a_wheel_holds_the_library_and_nothing_else(wheel, tmp_path):
    release.check_wheel(wheel)
    files = release.library_files(ROOT)
    for changed in (files - {"rpn_lib/py.typed"}, files | {"tests/conftest.py"}):
        broken = make_wheel(tmp_path / "b.whl", changed, METADATA)
        with pytest.raises(release.ReleaseError, match=r"rpn_lib/py\.typed|conftest"):
            release.check_wheel(broken)


@pytest.mark.parametrize("number", ["2.1", "2.4", "2.5", "2.10", "3.0"])
def test_metadata_that_cannot_be_uploaded_are_refused(tmp_path, number):
    text = METADATA.replace("2.4", number, 1)
    wheel = make_wheel(tmp_path / "rpn_lib-0-py3-none-any.whl", [], text)
    sdist = tmp_path / "rpn_lib-0.tar.gz"
    with tarfile.open(sdist, "w:gz") as archive:
        for name in ("rpn_lib-0/PKG-INFO", "rpn_lib-0/tests/other/PKG-INFO"):
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    for package in (wheel, sdist):
        if number in ("2.1", "2.4"):
            release.check_metadata(package)
        else:
            with pytest.raises(release.ReleaseError, match=re.escape(number)):
                release.check_metadata(package)


def test_what_is_built_has_metadata_that_can_be_uploaded():
    """hatchling by itself writes the newest version."""
    text = (ROOT / "pyproject.toml").read_text()
    for kind in ("wheel", "sdist"):
        table = text.split(f"[tool.hatch.build.targets.{kind}]\n")[1].split("\n[")[0]
        assert re.findall(r'^core-metadata-version = "(.*)"', table, re.M) == [
            ".".join(map(str, release.METADATA))
        ]


def test_every_module_imports_with_what_its_extra_asks_for(wheel):
    release.check_imports(wheel)


def test_a_wheel_that_is_not_there_is_told_in_one_line(tmp_path, capsys):
    (tmp_path / "broken.whl").write_text("not a wheel")
    for name in ("none.whl", "broken.whl"):
        assert release.main(["imports", str(tmp_path / name)]) == 1
        said = capsys.readouterr().err
        assert said == f"{tmp_path / name} is no wheel: make dist builds one.\n"


def test_a_package_that_is_not_asked_for_is_missed(tmp_path):
    text = METADATA.format(more=BASE.replace("defusedxml", "pillow"))
    files = release.library_files(ROOT)
    broken = make_wheel(tmp_path / "b.whl", files, text)
    with pytest.raises(release.ReleaseError) as error:
        release.check_imports(broken)
    assert "  rpn_lib.data.voc needs defusedxml" in str(error.value).splitlines()


def test_the_dependencies_of_pyproject_are_those_of_the_wheel_above():
    text = (ROOT / "pyproject.toml").read_text()
    listed = re.search(r"^dependencies = \[\n(.*?)^\]", text, re.M | re.S)[1]
    names = set(re.findall(r'^ *"([\w.-]+)', listed, re.M))
    asked = re.findall(r"Requires-Dist: ([\w.-]+)", METADATA + BASE)
    assert names - {"numpy"} == set(
        asked
    )  # numpy: torch hands its tensors over with it


def test_an_installed_wheel_passes_tests_without_the_checkout(wheel, tmp_path, capfd):
    release.check_installed(wheel, ("tests/test_boxes.py",), "rpn_lib.models")
    assert re.search(r"\d\d passed", capfd.readouterr().out)
    # The checkout has the weights that this one lacks.
    files = release.library_files(ROOT) - {"rpn_lib/scenes.pt"}
    path = tmp_path / "rpn_lib-0-py3-none-any.whl"
    broken = make_wheel(path, files, METADATA.format(more=BASE))
    with pytest.raises(release.ReleaseError, match="fails tests once installed"):
        release.check_installed(broken, (), "rpn_lib.models")
    assert "scenes.pt" in capfd.readouterr().out


def test_the_tests_of_a_wheel_are_there():
    assert all((ROOT / name).is_file() for name in release.TESTS)


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "rpn_lib").mkdir()
    (tmp_path / "rpn_lib" / "__init__.py").write_text('__version__ = "9.1.0"\n')
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "status.md").write_text("\nrpn_lib 9.1.0, torch 9.\n")
    return tmp_path


def test_notes_are_the_section_of_the_version(tree):
    text = "# Changelog\n\n## [9.1.0] - 2030-01-01\n\nNew.\n\n## [9.0.0]\n\nOld.\n"
    (tree / "CHANGELOG.md").write_text(text)
    assert release.notes("v9.1.0", tree) == "New.\n"
    assert release.notes("v9.0.0", tree) == "Old.\n"
    with pytest.raises(release.ReleaseError, match=r"9\.2\.0.*rename"):
        release.notes("v9.2.0", tree)


def test_a_tag_that_is_not_the_version_is_refused(tree):
    (tree / "CHANGELOG.md").write_text("## [9.1.0]\n\nAll.\n")
    release.check_tag("v9.1.0", tree)
    with pytest.raises(release.ReleaseError, match=r"tag v9\.1\.0"):
        release.check_tag("v99.0", tree)
    (tree / "CHANGELOG.md").write_text("## [Unreleased]\n\nAll.\n")
    with pytest.raises(release.ReleaseError, match="Unreleased"):
        release.check_tag("v9.1.0", tree)


@pytest.mark.parametrize("tag", ["v9.1.0", "v9.1.0.dev0"])
def test_a_version_in_development_is_not_released(tree, tag):
    (tree / "rpn_lib" / "__init__.py").write_text('__version__ = "9.1.0.dev0"\n')
    (tree / "CHANGELOG.md").write_text(
        "## [9.1.0]\n\nAll.\n\n## [9.1.0.dev0]\n\nAll.\n"
    )
    (tree / "book" / "status.md").write_text("\nrpn_lib 9.1.0.dev0, torch 9.\n")
    with pytest.raises(release.ReleaseError, match="take the suffix off"):
        release.check_tag(tag, tree)


def test_what_the_changelog_has_no_number_for_is_in_development():
    changes = (ROOT / "CHANGELOG.md").read_text()
    released = f"## [{version(ROOT)}]" in changes
    assert released == (".dev" not in version(ROOT))


def test_a_status_page_of_another_version_is_refused(tree):
    (tree / "CHANGELOG.md").write_text("## [9.1.0]\n\nAll.\n")
    (tree / "book" / "status.md").write_text("\nrpn_lib 9.0.0, torch 9.\n")
    with pytest.raises(release.ReleaseError, match=r"make test status.\n.*9\.1\.0"):
        release.check_tag("v9.1.0", tree)
