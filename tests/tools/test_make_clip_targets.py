"""CLIP targets with a real, tiny, untrained CLIP: the files it writes are those that training reads."""

import json
import shutil
import sys

import numpy as np
import pytest
import torch

from debiaspl.commands import clip_targets
from pipelines.samples.index_file import read_index_file
from pipelines.samples.listing import list_images
from pipelines.samples.split import read_split

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture
def clip_weights(tmp_path):
    """Weights of the network TINY, from a fixed seed."""
    open_clip = pytest.importorskip("open_clip", reason="open_clip is not installed: pip install -e '.[clip]'")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/tiny.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(tmp_path / "configs")
    torch.manual_seed(0)
    model = open_clip.create_model("tiny")
    with torch.no_grad():
        model.logit_scale.fill_(4.0)  # so that some guesses are confident and some are not
    torch.save(model.state_dict(), tmp_path / "tiny.pt")
    return tmp_path / "tiny.pt"


@pytest.fixture
def data(demo_data, tmp_path):
    """The demo's training images, with index folder of their own."""
    (tmp_path / "data/indexes").mkdir(parents=True)
    (tmp_path / "data/train").symlink_to(demo_data / "train")
    unlabeled = tmp_path / "data/indexes/unlabeled.csv"
    unlabeled.write_text((demo_data / "indexes/unlabeled.csv").read_text())
    return tmp_path / "data"


def test_files_are_what_training_reads(clip_weights, data, tmp_path, capsys):
    script = clip_targets
    listing = list_images(data / "train")
    names = script.class_names(listing, None)
    threshold = float(np.median(script.predict(listing, names, "tiny", str(clip_weights), 256).max(1)).round(4))
    flags = ["--data", str(data), "--model", "tiny", "--pretrained", str(clip_weights), "--threshold", str(threshold)]
    unlabeled = data / "indexes/unlabeled.csv"
    assert script.main(flags) == 0

    confident, others = (data / f"indexes/CLIPPseudoLabel{threshold:g}{end}.csv" for end in ("", "-Unselected"))
    labeled, rest = read_index_file(confident, listing), read_index_file(others, listing)
    assert sorted([*labeled.index, *rest.index]) == list(range(len(listing)))
    assert 0 < len(labeled.index) < len(listing)
    assert labeled.confidence.min() >= threshold - 1e-5
    assert rest.confidence.max() <= threshold + 1e-5

    split = read_split(listing, confident, others, use_clip=True)
    np.testing.assert_array_equal(split.labels[labeled.index], labeled.pseudo_label)
    np.testing.assert_array_equal(split.clip.label[rest.index], rest.pseudo_label)

    folder = tmp_path / "unlabeled"
    shutil.copytree(data / "train", folder)
    bad = list_images(folder, labeled=False).path(5)
    bad.write_bytes(b"no picture")
    assert script.main([*flags, "--unlabeled", str(folder)]) == 0
    assert f"left without a guess: {bad}" in capsys.readouterr().err
    flat = read_split(
        listing,
        confident,
        list_images(folder, labeled=False, on_bad="keep"),
        clip_file=data / "indexes/unlabeled_clip_predictions_ranked.pth.tar",
        use_clip=True,
    )
    assert flat.clip.confidence[5] == 0
    others = rest.index != 5
    np.testing.assert_array_equal(flat.clip.label[rest.index[others]], rest.pseudo_label[others])  # the same images

    assert script.main([*flags, "--unlabeled", str(unlabeled)]) == 0
    ranked = data / "indexes/unlabeled_clip_predictions_ranked.pth.tar"
    content = torch.load(ranked, weights_only=True)
    assert torch.allclose(content["probs_list"].sum(1), torch.ones(len(content["probs_list"])), atol=1e-5)
    assert (content["probs_list"].diff(dim=1) <= 0).all()
    with_file = read_split(listing, confident, unlabeled, clip_file=ranked, use_clip=True)
    both = np.intersect1d(with_file.unlabeled, rest.index)
    np.testing.assert_array_equal(with_file.clip.label[both], split.clip.label[both])
    np.testing.assert_allclose(with_file.clip.confidence[both], split.clip.confidence[both], atol=1e-6)


@pytest.mark.parametrize(("names", "message"), [("one\ntwo\n", "has 2 names"), (None, "Cannot read the class names")])
def test_class_names_must_fit(data, tmp_path, capsys, names, message):
    path = tmp_path / "names.txt"
    if names is not None:
        path.write_text(names)
    assert clip_targets.main(["--data", str(data), "--class-names", str(path)]) == 2
    assert message in capsys.readouterr().err


def test_missing_open_clip_is_said(data, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    assert clip_targets.main(["--data", str(data)]) == 2
    assert "pip install -e '.[clip]'" in capsys.readouterr().err


def test_a_file_in_place_of_the_index_folder_is_told_before_clip_is_loaded(data, capsys, monkeypatch):
    shutil.rmtree(data / "indexes")
    (data / "indexes").write_text("precious")
    script = clip_targets
    monkeypatch.setattr(script, "predict", lambda *_: pytest.fail("CLIP was asked"))
    assert script.main(["--data", str(data)]) == 2
    assert capsys.readouterr().err == (
        f"error: Cannot write to {data / 'indexes'}: File exists. Make room for this folder there.\n"
    )
    assert (data / "indexes").read_text() == "precious"
