"""What a page or a style sheet loads from other hosts is found; a link that waits for a click is not."""

import pytest

from tools.check_site import foreign, main


@pytest.mark.parametrize(
    ("text", "suffix", "found"),
    [
        ('<script src="https://cdn.example/a.js"></script>', ".html", ["https://cdn.example/a.js"]),
        ('<link rel="stylesheet" href="//fonts.example/css">', ".html", ["//fonts.example/css"]),
        ('<img src="http://example.org/a.png">', ".html", ["http://example.org/a.png"]),
        ("<style>@import 'https://fonts.example/a.css';</style>", ".html", ["https://fonts.example/a.css"]),
        ("@font-face { src: url(https://fonts.example/a.woff2) }", ".css", ["https://fonts.example/a.woff2"]),
        ('<a href="https://arxiv.org/abs/2201.01490">paper</a>', ".html", []),
        ('<script src="_static/a.js"></script><img src="data:image/png;base64,AA">', ".html", []),
        ("a { background: url(_static/a.svg) }", ".css", []),
    ],
)
def test_foreign(text, suffix, found):
    assert foreign(text, suffix) == found


def test_exit_status_and_what_is_said(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    (tmp_path / "index.html").write_text("<p>nothing</p>", encoding="utf-8")
    assert main([str(tmp_path)]) == 0
    (tmp_path / "index.html").write_text('<script src="https://cdn.example/a.js"></script>', encoding="utf-8")
    capsys.readouterr()
    assert main([str(tmp_path)]) == 1
    assert capsys.readouterr().out == f"{tmp_path / 'index.html'}: loads https://cdn.example/a.js\n"
