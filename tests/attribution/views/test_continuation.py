"""A continuation as page, matrix, terminal form and notebook form; and the roles of chats."""

import dataclasses
import json
import re

import numpy as np
import pytest
from support.example_attributions import REVIEW, SHORT, continuation_of
from support.pages import HOSTILE, PageReader, data_of

from attnflow.attribution.attribution import Attributions
from attnflow.attribution.views.continuation_matrix import matrix
from attnflow.attribution.views.page import render
from attnflow.attribution.views.terminal import render as in_terminal
from attnflow.attribution.views.terminal import render_continuation
from attnflow.errors import InputError, StorageError

CHAT = "is the film good\nit was never dull"


def cells_of(page):
    """The matrix as numbers: of each row its label, and its cells' percent, 0 where blank."""
    body = re.search(r"<tbody><tr data-row.*?</tbody>", page, re.S).group(0)
    rows = re.findall(r"<tr data-row.*?</tr>", body, re.S)
    return {
        int(re.search(r'data-row="(\d+)"', row).group(1)): [
            int(cell or 0) for cell in re.findall(r"<td[^>]*>(\d*)</td>", row)
        ]
        for row in rows
    }


def test_a_continuation_is_one_of_one_text(make):
    found = continuation_of()
    assert found.explained == (9, 10, 11, 12) and found.begins == 9
    assert found.written == "is very smart." and len(found.matrix) == 4
    assert found.matrix.sum(1) == pytest.approx(np.ones(4)) and found.matrix[0, 9:].max() == 0
    with pytest.raises(InputError, match="at least one"):
        Attributions([])
    with pytest.raises(InputError, match="not those of one continuation"):
        Attributions([found[0], continuation_of("another text of words")[0]])
    with pytest.raises(InputError, match="not those of one continuation"):
        Attributions([make()])


def test_the_matrix_has_every_share_once():
    found = continuation_of()
    cells = cells_of(matrix(found, 7))
    assert list(cells) == [7, 8, 9, 10]
    ordinary = [i for i in range(12) if not found[0].special[i]]
    for row, a in enumerate(found):
        np.testing.assert_allclose(cells[7 + row], 100 * a.shares[ordinary], atol=0.5001)


def test_headings_say_what_was_given_and_what_was_written():
    heads = re.findall(r'class="part"><span>(.*?)<', matrix(continuation_of(), 0))
    assert heads == ["given", "written"]
    chat = matrix(continuation_of(CHAT, 3, roles=("user", "assistant")), 0)
    assert re.findall(r'class="part"><span>(.*?)<', chat) == ["user", "assistant"]
    spans = [int(n) for n in re.findall(r'colspan="(\d+)"', chat)]
    assert spans == [4, 3] and chat.count('<th scope="col"') == sum(spans)


def test_the_page_has_text_matrix_and_an_article_for_each_token():
    found = continuation_of()
    page = render([found])
    reader = PageReader(page)
    assert reader.open == [] and len(reader.of("article")) == 4
    assert page.count('class="heat') == 1 and page.count("data-article=") == 4
    assert [a["aria-labelledby"] for a in reader.of("article")] == [f"class-{i}" for i in range(4)]
    data = data_of(page)
    for entry, a in zip(data, found, strict=True):
        np.testing.assert_allclose(np.array(entry["shares"]) / 1e4, a.shares, atol=5e-5)
        assert entry["flow"] is not None and entry["group"] == 0
    heat = re.search(r'<p class="heat[^>]*>(.*?)</p>', page, re.S).group(1)
    assert "".join(PageReader(re.sub(r"<bdi.*?</bdi>", "", heat, flags=re.S)).text) == SHORT


def test_a_ranking_holds_only_what_a_token_can_rest_on():
    page, found = render([continuation_of()]), continuation_of()
    rankings = re.findall(r'<section class="ranking".*?</section>', page, re.S)
    for ranking, a in zip(rankings, found, strict=True):
        names = re.findall(r'<th scope="row" class="name"><bdi>(.*?)[₀-₉]*</bdi>', ranking)
        before = [i for i in range(a.position + 1) if not a.special[i]]
        assert sorted(names) == sorted(a.surface(i) for i in before)
    assert page.count("<h2>Next tokens</h2>") == len(found) and "<h2>Classes</h2>" not in page


def test_texts_and_continuations_on_one_page(make):
    page = render([make(), continuation_of(), make("a smart dog")])
    assert [entry["group"] for entry in data_of(page)] == [0, 1, 1, 1, 1, 2]
    assert re.findall(r'<li><a href="#text-(\d)"', page) == ["0", "1", "5"]


def test_many_tokens_stay_readable_and_small():
    found = continuation_of(REVIEW, 60)
    page = render([found])
    assert 'class="sheet dense"' in page and len(page.encode()) < 4_000_000
    assert 'class="sheet roomy"' in render([continuation_of()])


def test_hostile_continuations_stay_text():
    found = continuation_of(HOSTILE, 3, roles=(HOSTILE, HOSTILE, HOSTILE), model=HOSTILE)
    for page in (render([found]), found._repr_html_()):
        reader = PageReader(page)
        assert reader.open == [] and reader.of("img") == []
    assert "\x1b" not in render_continuation(found, color=False)


def test_the_notebook_names_each_token_with_its_sources():
    found = continuation_of()
    shown = found._repr_html_()
    assert "<script" not in shown and "class=" not in shown and PageReader(shown).open == []
    for a in found:
        surface, _ = a.top(1)[0]
        assert f"<b><bdi>{a.label}</bdi></b>" in shown and f"<bdi>{surface}</bdi>" in shown


def test_the_terminal_has_a_line_for_each_token():
    found = continuation_of()
    shown = render_continuation(found, color=False, width=80)
    assert str(found[0].model) in shown and "4 flows, each at most" in shown
    lines = {line.split()[0]: line for line in shown.splitlines() if line.startswith("  ")}
    assert list(lines) == ["is", "very", "smart", "."]
    best, share = found[0].top(1)[0][0], found[0].shares.max()
    assert lines["is"].split("%")[1].strip().startswith(f"{best} {100 * share:.1f}")
    assert max(map(len, shown.splitlines()[1:])) <= 80
    assert "\x1b[" in render_continuation(found, color=True)
    with pytest.raises(InputError, match="at least 20"):
        render_continuation(found, width=5)


def test_roles_begin_their_messages_in_every_view():
    a = continuation_of(CHAT, 3, roles=("user", "assistant"))[0]
    shown = in_terminal(a, color=False, width=60)
    assert "user: is" in shown and "assistant: it" in shown
    page = render([a])
    assert re.findall(r'class="role">(\w+)</b> <span[^>]*>(\w+)<', page)[:2] == [
        ("user", "is"),
        ("assistant", "it"),
    ]
    assert "user</small> <span" in a._repr_html_()


def test_text_of_the_template_is_one_piece():
    a = continuation_of(CHAT, 3, roles=("user", "assistant"))[0]
    special = a.special.copy()
    special[1] = True
    a = dataclasses.replace(a, special=special, message_ids=(None, None, *a.message_ids[2:]))
    page = render([a])
    assert page.count('data-t="0 1"') == 2 and "[CLS]is" in page  # by tokens, and by words


def test_files_are_written_whole(tmp_path):
    found = continuation_of(with_edges=False)
    page = found.to_html(tmp_path / "page.html")
    assert page.read_text("utf-8").startswith("<!DOCTYPE html>")
    with pytest.raises(StorageError, match="exists"):
        found.to_html(page)
    assert found.save(tmp_path / "a.safetensors").exists()


def test_the_first_token_is_named_next_to_the_shares_of_paths_alone():
    a = continuation_of()[0]
    null = np.full(len(a), 1 / len(a))
    a = dataclasses.replace(a, null_shares=null, attention_sink="apart")
    first = f"{100 * a.scores[0] / a.scores.sum():.1f} %"
    shown = in_terminal(a, color=False)
    assert f"the first token took {first}, which is not ranked" in shown
    assert f"would give it {100 / len(a):.1f} %" in shown
    page = render([a])
    assert "First token" in page and f"it would get {100 / len(a):.1f} %" in page
    assert json.dumps(a.to_dict())
