"""Text as it was meant."""

import pytest

from xalign_dist.cleaning.normalise import fold, normalise


@pytest.mark.parametrize(
    ("raw", "meant"),
    [
        ("plain text", "plain text"),
        ("  two \t spaces \n", "two spaces"),
        ("schÃ¶n", "schön"),
        ("cafÃ© &amp; bar", "café & bar"),
        ("e\u0301", "é"),
        ("a\u00adb\ufeffc\u2060d", "abcd"),
        ("a\x00b\x1bc", "abc"),
        ("កម្ពុជា\u200bប្រទេស", "កម្ពុជា ប្រទេស"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("line\u2028two\u00a0three", "line two three"),
        ("&lt;b&gt; &#39;x&#39; &#x41;", "<b> 'x' A"),
        ("go?a=1&copy=2", "go?a=1&copy=2"),
        ("“quoted” １２", "“quoted” １２"),
        ("", ""),
    ],
)
def test_normalise(raw: str, meant: str) -> None:
    assert normalise(raw) == meant
    assert normalise(meant, unescape_html=False) == meant


def test_entities_stay_where_asked() -> None:
    assert normalise("a &amp; b", unescape_html=False) == "a &amp; b"


def test_fold_levels_case_and_width() -> None:
    assert fold("ＡＢＣ… Straße") == fold("abc... STRASSE")
    assert fold("कि") != fold("का")
