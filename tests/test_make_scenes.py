"""The script that makes the network of the library anew."""

import sys

import make_scenes
import torch

from rpn_lib import trained_rpn


def run(monkeypatch, *options):
    monkeypatch.setattr(sys, "argv", ["make_scenes.py", *map(str, options)])
    return make_scenes.main()


def test_it_makes_what_the_library_reads(tmp_path, monkeypatch, capsys):
    out = tmp_path / "new.pt"
    monkeypatch.setattr(make_scenes, "TOLERANCE", 1)
    assert run(monkeypatch, "--out", out, "--length", 16, "--epochs", 1) == 0
    made = torch.load(out, weights_only=True)
    stored = trained_rpn().state_dict()
    assert made["model"].keys() == stored.keys()
    floats = [x for x in made["model"].values() if x.is_floating_point()]
    assert {x.dtype for x in floats} == {torch.float16}
    assert "stored  recall" in capsys.readouterr().out


def test_a_worse_network_is_not_written(tmp_path, monkeypatch, capsys):
    out = tmp_path / "new.pt"
    assert run(monkeypatch, "--out", out, "--length", 16, "--epochs", 1) == 1
    assert not out.exists()
    assert "nothing was written" in capsys.readouterr().out
