"""The one way to HTML: templates with autoescape. Nothing else in the package writes markup."""

import ast
import re
from dataclasses import replace
from pathlib import Path

import pytest
from support.example_attributions import attribution_of, continuation_of, image_of
from support.hostile_files import MARKUP, assert_inert, assert_plain, use, use_together

import attnflow
from attnflow.attribution.views import terminal

pytestmark = pytest.mark.attack

PACKAGE = Path(attnflow.__file__).parent
VIEWS = PACKAGE / "attribution" / "views"
TEMPLATES = sorted((VIEWS / "page_assets").glob("*.html"))
SCRIPTS = sorted((VIEWS / "page_assets").glob("*.js"))
# Marks of tokenizers, which are compared and not written.
NO_MARKUP = {"<0x0A>", "</w>"}


def names_of(tree):
    """Names that code uses, with a line each; imports for type checkers alone are not used."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr


def literals_of(tree):
    """Strings that are values; docstrings are not."""
    statements = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) not in statements:
                yield node.value


def test_markup_is_made_in_one_module():
    makers = {
        file.relative_to(PACKAGE).as_posix()
        for file in PACKAGE.rglob("*.py")
        if {"Markup", "_markup", "Environment"} & set(names_of(ast.parse(file.read_text("utf-8"))))
    }
    assert makers == {"attribution/views/templates.py"}


def test_html_is_rendered_or_a_file_of_the_package():
    tree = ast.parse((VIEWS / "templates.py").read_text("utf-8"))
    calls = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("_markup", "Markup")
    ]
    assert sorted(calls) == [
        "Markup(html)",
        "_markup(_environment(package).get_template(template).render(values))",
        "_markup(asset(name, package))",
    ]


def test_no_code_of_views_writes_tags():
    found = {
        literal
        for file in VIEWS.rglob("*.py")
        for literal in literals_of(ast.parse(file.read_text("utf-8")))
        if re.search("<[a-zA-Z/!]", literal)
    }
    assert found <= NO_MARKUP


@pytest.mark.parametrize("file", TEMPLATES, ids=lambda file: file.stem)
def test_templates_never_leave_out_escaping(file):
    source = file.read_text("utf-8")
    assert not re.search(
        r"\|\s*(safe|tojson|xmlattr|urlize)\b|autoescape",
        source.replace(
            '<script type="application/json" id="data">{{ data | tojson }}</script>', ""
        ),
    )
    # Outside of quotes a space in a value would begin another attribute.
    assert not re.search(r"=\s*{{", source)
    # Addresses are numbers of articles and pictures made here, never text.
    addresses = re.findall(r"(?:href|src)=\"([^\"]*)\"", source)
    assert all(re.fullmatch(r"#text-{{ [\w.]+ }}|{{ [\w.]+\.address }}", a) for a in addresses)
    assert not re.search(r"\son\w+=", source)


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: file.stem)
def test_scripts_write_text_and_never_html(file):
    source = file.read_text("utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", source)


def hostile(attribution):
    """The attribution with markup and control characters in every text there is."""
    t = len(attribution)
    return replace(
        attribution,
        text=MARKUP + attribution.text,
        offsets=((0, len(MARKUP)),) * t if attribution.grid is None else attribution.offsets,
        tokens=(MARKUP,) * t,
        labels=(MARKUP,) * len(attribution.labels),
        roles=(MARKUP,) * len(attribution.roles),
        model=MARKUP,
    )


def test_markup_in_every_text_stays_text(tmp_path):
    continuation = continuation_of("be kind\nis it good?", 2, layers=2, roles=("system", "user"))
    image = image_of((2, 3), size=(8, 9), layers=2, with_edges=True)
    for attribution in (attribution_of("a fine film"), *continuation, image):
        use(hostile(attribution), tmp_path / "saved")
    use_together([hostile(attribution) for attribution in continuation])


def test_values_of_other_types_are_escaped_too():
    made = replace(attribution_of("a fine film"), truncated=MARKUP)
    assert_inert(attnflow.attribution.views.page.render([made]))
    assert_inert(made._repr_html_())
    assert_plain(terminal.render(made, color=False))


@pytest.mark.parametrize("character", "\x00\x07\x1b\x9b\r\n\u202e\u2066\ud800")
def test_repr_is_one_printable_line(character):
    made = replace(
        attribution_of("a fine film"),
        labels=("no", f"y{character}es"),
        text=f"{character} fine film",
        model=character,
    )
    assert character not in repr(made)


def test_names_besides_the_patches_do_not_drive_a_terminal():
    image = image_of((2, 2))
    made = replace(image, tokens=(MARKUP, *image.tokens[1:]))
    assert_plain(terminal.render(made, color=False))
