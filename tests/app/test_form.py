"""The form of the app in a browser, with a worker that pretends: the clicked choice is sent."""

import pytest
from support.browser import needs_browser
from support.visits import visiting

pytest.importorskip("uvicorn")
from support.app_servers import served

pytestmark = needs_browser
READY = (
    "document.getElementById('about-model').textContent && document.getElementById('work').hidden"
)
DONE = "document.getElementById('status').textContent.startsWith('Done in')"
CHIPS = "document.querySelectorAll('#choices button')"


@pytest.fixture(scope="module")
def app():
    with served() as running:
        yield running


@pytest.fixture
def visit(app, browser):
    with visiting(browser, f"http://127.0.0.1:{app.port}/") as page:
        page.resize(1400, 950)
        page.wait(READY)
        yield page
        assert not page.complaints, page.complaints


def explain(page, how="document.getElementById('explain').click()"):
    page.evaluate("document.getElementById('status').textContent = ''")
    page.evaluate(how)
    page.wait(DONE)


def use(page, model):
    page.evaluate(f"selectModel({model!r})")


def value(page, field):
    return page.evaluate(f"document.getElementById({field!r}).value")


def asked(app):
    return app.worker.orders[-1]["asked"]


@pytest.mark.parametrize("place", [0, 1])
def test_a_class_that_the_list_leaves_out_is_explained(app, visit, place):
    use(visit, "lists-few")
    explain(visit)
    label = ["positive", "negative"][place]
    explain(visit, f"Array.from({CHIPS}).find((c) => c.textContent.includes('{label}')).click()")
    assert asked(app)["target"] == label == value(visit, "target-class")


def test_a_line_break_is_explained(app, visit):
    use(visit, "writer")
    visit.type("#text", "a good film")
    explain(visit)
    visit.evaluate("showChoices({ summary: { choices: [['\\n', '⏎', '40 %']], target: 'film' } })")
    explain(visit, f"{CHIPS}[0].click()")
    assert asked(app)["target"] == "\n" and value(visit, "target") == "⏎"
    # Once more, and from the history; then for another text, and with the field cleared.
    explain(visit)
    assert asked(app)["target"] == "\n"
    visit.evaluate("fill(state.results[2])")
    explain(visit)
    assert asked(app)["target"] == ""
    visit.evaluate("fill(state.results[1])")
    assert value(visit, "target") == "⏎"
    explain(visit)
    assert asked(app)["target"] == "\n"
    visit.type("#text", "a bad film")
    explain(visit)
    assert asked(app)["target"] == "" == value(visit, "target")


def test_a_result_of_another_model_gets_its_class_back(app, visit):
    visit.evaluate("document.getElementById('target-class').value = 'negative'")
    explain(visit)
    use(visit, "of-letters")
    assert value(visit, "target-class") == ""
    visit.evaluate("document.querySelector('#history .open').click()")
    visit.wait("document.getElementById('model').value === 'a-model'")
    assert value(visit, "target-class") == "negative"
    assert visit.evaluate(f"{CHIPS}.length") == 2
    explain(visit)
    assert (asked(app)["model"], asked(app)["target"]) == ("a-model", "negative")


def test_work_is_cancelled_before_its_number_is_known(app, visit):
    visit.evaluate(
        "{ const real = window.fetch; window.fetch = async (path, options) => {"
        "if (path === '/jobs') await new Promise((go) => { window.letGo = go; });"
        "return real(path, options); }; }"
    )
    visit.type("#text", "slow")
    visit.click("#explain")
    visit.wait("typeof letGo === 'function'")
    visit.click("#cancel")
    assert visit.evaluate("document.getElementById('status').textContent") == "stopping"
    visit.evaluate("letGo()")
    visit.wait("document.getElementById('status').textContent === 'Cancelled.'", seconds=10)
