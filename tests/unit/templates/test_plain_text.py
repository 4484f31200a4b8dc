import pytest
from hypothesis import given
from hypothesis import strategies as st

from templates.plain_text import plain_text


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>One</p><p>Two <b>three</b>\n  four</p>", "One\n\nTwo three four\n"),
        ("a<br>b<br/>c", "a\nb\nc\n"),
        ("<ul><li>a</li><li><p>b</p></li></ul>c", "- a\n- b\n\nc\n"),
        ('<a href="https://x.example/?a=1&amp;b=2">See</a>', "See (https://x.example/?a=1&b=2)\n"),
        ('<a href="https://x.example">https://x.example</a>', "https://x.example\n"),
        ('<a href="https://x.example"><img src="y" alt=""></a>', "https://x.example\n"),
        ('<img src="y" alt="A mug">', "A mug\n"),
        ("<table><tr><th>Mug</th><td>2</td></tr><tr><td>Tea</td><td>1</td></tr></table>", "Mug  2\nTea  1\n"),
        ("<head><title>T</title><style>p{}</style></head><p>x</p><script>y</script>", "x\n"),
        ('<div style="display:none">hidden <b>too</b></div>shown', "shown\n"),
        ('<p style="DISPLAY : none">hidden<br>too</p>shown', "shown\n"),
        ("&lt;b&gt; &amp; &eacute;", "<b> & é\n"),
        ("<p>a<p>b</div></span>c", "a\n\nb\nc\n"),
        ("", "\n"),
    ],
)
def test_what_is_seen_of_a_page_is_in_its_text(html: str, text: str):
    assert plain_text(html) == text


@given(st.text(alphabet=st.sampled_from("<>/abp &;\"'= \nliuéa!-"), max_size=200))
def test_whatever_is_no_html_is_a_text_all_the_same(html: str):
    assert plain_text(html).endswith("\n")
