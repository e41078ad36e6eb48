"""The app over HTTP, with a worker that pretends: who may ask, the queue, results, exports."""

import asyncio
import base64
import http.client
import json
import re
import shutil
import socket
from pathlib import Path

import pytest

pytest.importorskip("uvicorn")

from support.app_servers import MODEL, Client, port_in_use, served
from support.pages import HOSTILE, PageReader

from attnflow import InputError, load
from attnflow.app.asked import Asked
from attnflow.app.guard import MOST_BYTES, is_loopback
from attnflow.app.jobs import MOST_OF_ONE
from attnflow.app.messages import worded
from attnflow.app.results import Result
from attnflow.app.server import PORT, bind
from attnflow.app.sessions import MOST_RESULTS, Sessions

SENTENCE = "a very good film"


@pytest.fixture(scope="module")
def app():
    with served() as running:
        yield running


def broken(*_):
    raise RuntimeError("no reason")


async def unable():
    raise OSError("no process more")


@pytest.fixture
def client(app):
    return app.client()


def test_a_text_is_explained_and_its_page_shown(client):
    result = client.explain(SENTENCE)
    assert result["summary"]["text"] == SENTENCE and result["asked"]["text"] == SENTENCE
    status, page, headers = client.ask(f"/results/{result['name']}")
    assert status == 200 and "sandbox allow-scripts" in headers["content-security-policy"]
    assert "allow-same-origin" not in headers["content-security-policy"]
    read = PageReader(page.decode())
    assert not read.open and "film" in "".join(read.text)
    assert [each["name"] for each in client.json("/state")["results"]] == [result["name"]]


def test_every_answer_forbids_what_is_not_needed(client):
    for path in ("/", "/assets/app.js", "/state", "/no/such"):
        _, _, headers = client.ask(path)
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'") and "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers


def test_the_page_names_no_other_host(client):
    for path in ("/", "/assets/app.js", "/assets/app.css", "/assets/page.css", "/assets/icon.svg"):
        status, content, _ = client.ask(path)
        assert status == 200
        text = content.decode().replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert "http:" not in text and "https:" not in text and "//cdn" not in text


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
def test_another_host_name_is_refused(client, host):
    status, content, _ = client.ask("/state", Host=host)
    assert status == 403 and b"its own address" in content


def test_own_names_are_answered(client):
    for host in ("localhost", "127.0.0.1", f"localhost:{client.port}", "[::1]"):
        assert client.ask("/state", Host=host)[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_other_sites_cannot_ask(client, headers):
    status, content, _ = client.ask("/jobs", {"model": MODEL, "text": "x"}, **headers)
    assert status == 403 and b"another site" in content


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors", "Sec_Fetch_Dest": "image"},
        {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "cors", "Sec_Fetch_Dest": "empty"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "iframe"},
        {"Sec_Fetch_Site": "cross-site"},
    ],
)
def test_other_sites_begin_no_session(app, headers):
    status, content, answer = Client(app.port).ask("/", **headers)
    assert status == 403 and b"another site" in content and "set-cookie" not in answer


def test_a_link_from_another_site_opens_the_page(app):
    link = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
    for more in ({}, {"Sec_Fetch_Dest": "document"}):
        status, _, answer = Client(app.port).ask("/", **link, **more)
        assert status == 200 and "samesite=lax" in answer["set-cookie"].lower()


def test_pages_opened_without_end_take_no_results_away(monkeypatch):
    monkeypatch.setattr("attnflow.app.sessions.MOST_SESSIONS", 3)
    with served() as app:
        clients = [app.client(), app.client()]
        names = [client.explain(SENTENCE)["name"] for client in clients]
        for _ in range(10):
            app.client()
        for client, name in zip(clients, names, strict=True):
            assert client.ask(f"/results/{name}")[0] == 200


def test_a_new_session_replaces_the_oldest_where_all_have_results(monkeypatch):
    monkeypatch.setattr("attnflow.app.sessions.MOST_SESSIONS", 2)
    with served() as app:
        clients = [app.client(), app.client()]
        names = [client.explain(SENTENCE)["name"] for client in clients]
        assert app.client().explain(SENTENCE)["name"]
        found = [
            client.ask(f"/results/{name}")[0] for client, name in zip(clients, names, strict=True)
        ]
        assert found == [404, 200]


def test_a_form_of_another_type_is_refused(client):
    status, _, _ = client.ask("/jobs", b"model=x", Content_Type="text/plain")
    assert status == 400


def test_results_are_each_users_own(app):
    one, other = app.client(), app.client()
    name = one.explain(SENTENCE)["name"]
    job = one.start(SENTENCE)
    for path in (f"/results/{name}", f"/results/{name}/as/json", f"/jobs/{job}"):
        assert other.ask(path)[0] == 404 and Client(app.port).ask(path)[0] == 404
    assert other.ask(f"/jobs/{job}/cancel", {})[0] == 404
    assert other.json("/state")["results"] == []
    other.ask(f"/results/{name}/forget", {})
    assert one.ask(f"/results/{name}")[0] == 200


def test_a_second_request_waits_visibly_and_loses_nothing(app):
    one, other = app.client(), app.client()
    first = one.start("slow")
    one.news(first, "running")
    second = other.start(SENTENCE)
    assert other.news(second, "waiting")["words"] == "waiting for 1 other request"
    third = one.start("another text")
    assert one.news(third, "waiting")["words"] == "waiting for 2 other requests"
    one.ask(f"/jobs/{first}/cancel", {})
    assert one.news(first, "cancelled")["outcome"] == {}
    assert other.news(second, "done")["outcome"]["summary"]["text"] == SENTENCE
    assert one.news(third, "done")["outcome"]["summary"]["text"] == "another text"


def test_a_waiting_request_can_be_cancelled(app):
    client = app.client()
    first = client.start("slow")
    client.news(first, "running")
    second = client.start(SENTENCE)
    client.ask(f"/jobs/{second}/cancel", {})
    client.news(second, "cancelled")
    client.ask(f"/jobs/{first}/cancel", {})
    client.news(first, "cancelled")
    assert not any(order["job"] == second for order in app.worker.orders)


def test_work_that_does_not_stop_is_ended_by_force(app, monkeypatch):
    monkeypatch.setattr("attnflow.app.jobs.GRACE", 0.05)
    client = app.client()
    job, before = client.start("stuck"), app.worker.killed
    assert client.news(job, "running")["part"] == 0.25
    client.ask(f"/jobs/{job}/cancel", {})
    client.news(job, "cancelled")
    assert app.worker.killed == before + 1
    assert client.explain(SENTENCE)["name"]


def test_a_closed_page_holds_up_nobody(monkeypatch):
    monkeypatch.setattr("attnflow.app.jobs.ABANDONED", 0.2)
    with served() as app:
        app.client().start("slow")
        client = app.client()
        assert client.explain(SENTENCE)["summary"]["text"] == SENTENCE


def test_one_user_cannot_fill_the_queue(app):
    client = app.client()
    jobs = [client.start("slow")]
    client.news(jobs[0], "running")
    jobs += [client.start(SENTENCE) for _ in range(MOST_OF_ONE)]
    refused = client.json("/jobs", {"model": MODEL, "text": "x"})
    assert refused["status"] == 400 and "waiting already" in refused["error"]
    for job in reversed(jobs):
        client.ask(f"/jobs/{job}/cancel", {})
        client.news(job, "cancelled")


def test_failures_say_why_and_what_to_do(client):
    said = client.news(client.start("fails"), "failed")["words"]
    assert said == "too long (option “A text too long for the model”)"
    said = client.news(client.start("dies"), "failed")["words"]
    assert "memory" in said and "started again" in said
    assert client.explain(SENTENCE)["warnings"] == ["option “Units of the flow”"]


def test_an_unexpected_error_ends_one_request_alone(client, app, monkeypatch, capfd):
    said = client.news(client.start("breaks"), "failed")["words"]
    assert "ZeroDivisionError: no reason" in said
    assert "Traceback" in capfd.readouterr().err
    with monkeypatch.context() as patched:
        patched.setattr(Sessions, "keep", broken)
        job = client.start(SENTENCE)
        assert "RuntimeError" in client.news(job, "failed")["words"]
    assert not Path(app.worker.orders[-1]["folder"]).exists()
    assert client.explain(SENTENCE)["name"]


def test_a_worker_that_cannot_be_started_fails_one_request_alone(client, app, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(app.worker, "start", unable)
        assert client.explain(SENTENCE)["name"]
    assert client.explain(SENTENCE)["name"]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"text": "x"}, "names no model"),
        ({"model": "/etc", "text": 5}, "text must be str"),
        ({"model": MODEL, "text": "x", "tensor": "no"}, "tensor must be one of"),
        ({"model": MODEL, "text": "x", "coarsen": "line"}, "coarsen must be"),
        ({"model": MODEL, "text": "x", "coarsen": 0}, "from 1 to"),
        ({"model": MODEL, "text": "x", "new_tokens": 10**9}, "from 0 to 60"),
        ({"model": MODEL, "text": "x", "new_tokens": True}, "integer"),
        ({"model": MODEL, "text": "x", "position": -1}, "from 0"),
        ({"model": MODEL, "text": "x" * 500_001}, "500,001 characters"),
        ({"model": MODEL, "trust_remote_code": True}, "unknown field"),
        ({"model": MODEL, "image": "photo"}, "base64"),
        ({"model": MODEL, "image": {"name": "a", "data": "?"}}, "base64"),
        ([1, 2], "a JSON object"),
        (b"{", "not JSON"),
        (b"\xff", "UTF-8"),
    ],
)
def test_requests_that_make_no_sense_are_refused(client, record, reason):
    answer = client.json("/jobs", record)
    assert answer["status"] == 400 and reason in answer["error"]


def test_a_text_of_twenty_thousand_characters_is_taken(client):
    text = "a good film " * 1667
    result = client.explain(text)
    assert result["asked"]["text"] == text and len(result["summary"]["text"]) <= 120


def test_too_large_a_request_is_refused(client):
    status, content, _ = client.ask("/jobs", b"{}", Content_Length=str(MOST_BYTES + 1))
    assert status == 413 and b"smaller" in content


def test_a_body_of_unknown_length_is_bounded_too(client):
    connection = socket.create_connection(("127.0.0.1", client.port), timeout=30)
    cookie = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    head = (
        f"POST /jobs HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    with connection:
        connection.sendall(head.encode())
        for _ in range(MOST_BYTES >> 20):
            connection.sendall(b"100000\r\n" + b" " * (1 << 20) + b"\r\n")
        connection.sendall(b"1\r\n \r\n")
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == 413 and b"smaller" in answer.read()


def test_an_image_gets_a_harmless_name_and_comes_back(app, client):
    image = {"name": "../../etc/<b>x</b>.png", "data": base64.b64encode(b"pixels").decode()}
    result = client.explain(SENTENCE, image=image)
    assert result["image"] == "b-.png"
    assert app.worker.orders[-1]["image"].startswith(app.worker.orders[-1]["folder"])
    status, content, headers = client.ask(f"/results/{result['name']}/image")
    assert content == b"pixels" and headers["content-type"] == "application/octet-stream"


def test_exports_are_files_of_ours(client, tmp_path):
    name = client.explain(SENTENCE)["name"]
    files = {}
    for form in ("json", "csv", "html", "safetensors"):
        status, files[form], headers = client.ask(f"/results/{name}/as/{form}")
        assert status == 200
        assert headers["content-disposition"] == f'attachment; filename="attnflow.{form}"'
    (tmp_path / "f").write_bytes(files["safetensors"])
    loaded = load(tmp_path / "f")
    assert json.loads(json.dumps([a.to_dict() for a in loaded])) == json.loads(files["json"])
    assert len(loaded) == 2 and files["csv"].startswith(b"result,label,")
    assert b"Content-Security-Policy" in files["html"]
    assert client.ask(f"/results/{name}/as/pickle")[0] == 404


def test_an_edit_shows_what_changed(client):
    before = client.explain("a very good film")["name"]
    after = client.explain("a very bad film")["name"]
    changes = client.json(f"/results/{after}/summary?before={before}")["changes"]
    kinds = {piece["text"].strip(): piece["kind"] for piece in changes["text"]}
    assert kinds == {"a": "same", "very": "same", "good": "removed", "bad": "added", "film": "same"}
    assert changes["is_edited"] and changes["about"] == ["positive", "positive"]
    moved = {each["text"]: each for each in changes["moved"]}
    assert moved["bad"]["before"] is None and moved["good"]["after"] is None
    assert client.json(f"/results/{after}/summary?before={after}")["changes"] is None


def test_two_results_are_compared_on_one_page(client):
    names = [client.explain(text)["name"] for text in ("a dull film", "a bright film")]
    status, page, headers = client.ask(f"/compare/{names[0]}/{names[1]}")
    assert status == 200 and b"dull" in page and b"bright" in page
    assert "sandbox" in headers["content-security-policy"]
    assert client.ask(f"/compare/{names[0]}/nothing")[0] == 404


def test_the_history_is_bounded_and_forgets(client):
    names = [client.explain(f"text {i}")["name"] for i in range(MOST_RESULTS + 2)]
    kept = [each["name"] for each in client.json("/state")["results"]]
    assert kept == names[2:]
    client.ask(f"/results/{kept[0]}/forget", {})
    assert client.ask(f"/results/{kept[0]}")[0] == 404


def test_the_history_is_listed_without_reading_its_files(client, monkeypatch):
    name = client.explain(SENTENCE)["name"]
    monkeypatch.setattr("attnflow.app.results.load", None)
    assert [each["name"] for each in client.json("/state")["results"]] == [name]


def test_no_more_is_kept_than_there_is_room_for(monkeypatch, app):
    monkeypatch.setattr("attnflow.app.sessions.MOST_BYTES", 1)
    one, other = app.client(), app.client()
    one.explain(SENTENCE)
    name = other.explain(SENTENCE)["name"]
    assert one.json("/state")["results"] == []
    assert other.ask(f"/results/{name}")[0] == 200


def test_results_are_kept_by_the_loop_that_forgets_them(client, monkeypatch):
    keepers, keep = [], Sessions.keep

    def noting(*arguments):
        keepers.append(asyncio.get_running_loop())  # raises in a thread
        keep(*arguments)

    monkeypatch.setattr(Sessions, "keep", noting)
    client.explain(SENTENCE)
    assert len(keepers) == 1


def test_room_is_made_without_files_that_are_gone(client, app, monkeypatch):
    client.explain(SENTENCE)
    shutil.rmtree(app.worker.orders[-1]["folder"])
    monkeypatch.setattr("attnflow.app.sessions.MOST_BYTES", 1)
    name = client.explain(SENTENCE)["name"]
    assert [each["name"] for each in client.json("/state")["results"]] == [name]


def test_a_session_that_has_ended_keeps_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr("attnflow.app.sessions.MOST_SESSIONS", 1)
    sessions = Sessions(tmp_path)
    ended = sessions.begin()
    sessions.begin()
    with pytest.raises(InputError, match="has ended"):
        sessions.keep(ended, Result(tmp_path, Asked("m"), False, "", 0))


def test_hostile_text_stays_text(client):
    result = client.explain(HOSTILE)
    _, page, _ = client.ask(f"/results/{result['name']}")
    read = PageReader(page.decode())
    assert not read.open and not read.of("img")
    assert all("onerror" not in attributes for _, attributes in read.elements)


def test_half_a_surrogate_pair_is_no_error_of_the_server(client):
    result = client.explain("half \ud800 a pair")
    assert result["asked"]["text"] == "half \ud800 a pair"
    assert client.ask(f"/results/{result['name']}")[0] == 200


def test_models_are_described_once_asked_for(client):
    job = client.json("/models", {"model": MODEL})["job"]
    assert client.news(job, "done")["outcome"]["model"]["limit"] == 512
    assert MODEL in client.json("/state")["described"]


def test_a_model_of_another_name_is_for_this_machine_alone(client):
    assert client.start(SENTENCE, model="some/folder")
    with served(host="0.0.0.0", token="t" * 24) as app:
        remote = Client(app.port)
        remote.ask("/?token=" + "t" * 24)
        remote.ask("/")
        answer = remote.json("/jobs", {"model": "/etc", "text": "x"})
        assert answer["status"] == 400 and "--model" in answer["error"]


def test_a_token_opens_what_is_closed_without():
    token = "a-secret-of-some-length"
    with served(host="0.0.0.0", token=token) as app:
        client = Client(app.port)
        for path in ("/", "/state", "/assets/app.js", "/?token=wrong"):
            status, content, _ = client.ask(path, Host="any.name")
            assert status == 401 and token.encode() not in content
        status, _, headers = client.ask(f"/?token={token}", Host="any.name")
        assert status == 303 and headers["location"] == "/"
        assert "HttpOnly" in headers["set-cookie"] and "lax" in headers["set-cookie"].lower()
        assert client.ask("/", Host="any.name")[0] == 200


def test_a_port_in_use_is_said_and_the_default_moves_on():
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        message = port_in_use(port)
        assert str(port) in message and "in use" in message and "--port" in message
    with bind("127.0.0.1", None) as first, bind("127.0.0.1", None) as second:
        assert PORT <= first.getsockname()[1] < second.getsockname()[1]


def test_loopback_is_this_machine_alone():
    assert all(map(is_loopback, ("127.0.0.1", "localhost", "::1", "127.0.0.2")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.2", "example.org", "")))


def test_messages_name_fields_of_the_page():
    said = worded(
        "merged (coarsen=2, --coarsen 2), shorter (truncate=True, --truncate), bos=True (--bos)"
    )
    assert "=" not in said and "--" not in said
    assert (
        worded("explain them one by one (continuation=)")
        == "explain them one by one (continuation=)"
    )


def test_scripts_write_text_alone(client):
    """No text can become markup, or code, in the page of the app."""
    _, script, _ = client.ask("/assets/app.js")
    assert not re.search(rb"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script)
    _, page, _ = client.ask("/")
    read = PageReader(page.decode())
    assert not read.scripts and not [a for _, a in read.elements if "style" in a or "onclick" in a]
    (frame,) = read.of("iframe")
    assert frame["sandbox"] == "allow-scripts allow-downloads"
