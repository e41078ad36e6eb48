"""Arguments and files of the command that no check expected: exit code 2, and one readable line."""

import os
import stat

import pytest

from attnflow.cli import main

pytestmark = pytest.mark.attack

TEXT = "a good dog"
DEEP, DIGITS = "[" * 100_000, "9" * 5000


@pytest.fixture
def refused(capsys, tmp_path, monkeypatch, folder):
    """The line of an error that ends the command."""
    monkeypatch.chdir(tmp_path)

    def run(command, *arguments):
        try:
            code = main([command, "--model", str(folder), *map(str, arguments)])
        except SystemExit as exit:
            code = exit.code
        out, err = capsys.readouterr()
        assert (code, out) == (2, "") and err.count("\n") == 1, (code, out, err)
        assert len(err) < 700
        return err

    return run


@pytest.mark.parametrize("option", ("--file", "--chat", "--json", "--html", "--save"))
def test_a_name_that_no_file_can_have(refused, option):
    texts = () if option in ("--file", "--chat") else (TEXT,)
    for name in ("a\0b", "a\ud800b"):
        assert "no file can have" in refused("explain", *texts, option, name)


def test_a_run_in_a_folder_that_no_file_system_can_have(refused, tmp_path):
    (tmp_path / "a.txt").write_text(f"{TEXT} and a film\n")
    options = ("--methods", "random", "--min-tokens", "3")
    assert "no file can have" in refused("evaluate", "a.txt", "--out", "a\0b", *options)
    assert "expected an integer of at least 0" in refused(
        "evaluate", "a.txt", "--out", "run", "--seed", "-1"
    )
    figures = ("--out", "run", "--figures", "a.txt")
    assert "a.txt is a file" in refused("evaluate", "a.txt", *figures)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", (DEEP, f'[{{"role": {DIGITS}}}]', "\ufeff[1]", "{"))
def test_chats(refused, tmp_path, content):
    (tmp_path / "chat.json").write_text(content, encoding="utf-8")
    assert "--chat chat.json is not" in refused("explain", "--chat", "chat.json")


def test_a_target_of_thousands_of_digits(refused):
    assert "is not a class of this model" in refused("explain", TEXT, "--target", DIGITS)


def test_a_file_that_is_replaced_keeps_its_permissions_and_its_link(capsys, tmp_path, folder):
    private, link = tmp_path / "private.json", tmp_path / "link.json"
    private.write_text("old")
    private.chmod(0o600)
    link.symlink_to(private)
    arguments = ["explain", TEXT, "--model", str(folder), "--json", str(link), "--overwrite"]
    assert main([*arguments, "--tensor", "cf"]) == 0
    assert stat.S_IMODE(private.stat().st_mode) == 0o600 and link.is_symlink()
    assert os.readlink(link) == str(private) and private.read_text().startswith("[")


def test_the_same_command_goes_on_where_a_later_file_could_not_be_written(
    capsys, tmp_path, folder, monkeypatch
):
    arguments = ["explain", TEXT, "--model", str(folder), "--tensor", "cf", "--json"]
    arguments += [str(tmp_path / "a.json"), "--html", str(tmp_path / "a.html")]
    replace, renamed = os.replace, []

    def fails_at_the_second(source, target):
        renamed.append(target)
        if len(renamed) == 2:
            raise OSError(28, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fails_at_the_second)
        assert main(arguments) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert main(arguments) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "a.json"]
