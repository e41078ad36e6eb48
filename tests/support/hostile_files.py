"""Files of attributions as a stranger could send them, and the use of whatever of them loads."""

import copy
import json
import re
import struct
from dataclasses import dataclass, replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import numpy as np

import attnflow
from attnflow.attribution import Attribution, Attributions, Results
from attnflow.attribution.data import SCHEMA_VERSION
from attnflow.attribution.schema import record_of
from attnflow.attribution.table import csv_of, table_of_results
from attnflow.attribution.views import page, templates, terminal
from attnflow.errors import InputError, StorageError
from support.example_attributions import attribution_of, continuation_of, image_of

OLD_FILES = Path(__file__).parents[1] / "attribution" / "data"
# It ends attributes, elements, scripts and comments, and drives a terminal.
MARKUP = "\"'--></script></title><xss onxss=1 href=//x><!--\x1b[31m\x9b2J\x07\x00\r\u202e\ud800"
VALUES = (
    *(None, True, False, -1, 0, 1, 2, 7, 10**6, 2**53, 2**53 + 1, 2**70, -0.0, 0.5, 1e100, 1e101),
    *(
        1e308,
        -1e308,
        5e-324,
        "",
        " ",
        "\n",
        "x",
        "0",
        "halves",
        "solved",
        "exclude",
        MARKUP,
        "x" * 999,
    ),
    *(
        [],
        {},
        [[]],
        [0],
        [0, 0],
        [1, 0],
        [0, 1],
        [None],
        [MARKUP],
        {"value": 1},
        [1e9] * 4,
        [[0, 1]],
    ),
)
# Written as text, since Python's own JSON would not write them.
RAW = ("NaN", "Infinity", "-Infinity", "1" * 5000, "1e999", "[" * 5000 + "]" * 5000, '{"":' * 3000)
NUMBERS = (np.nan, np.inf, -np.inf, -1.0, -1e-300, 0.0, 5e-324, 1e-300, 1e99, 1e100, 1e200, 1.7e308)
DTYPES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I8": 1, "U8": 1, "BOOL": 1, "C64": 8}
DTYPES |= {"F8_E4M3": 1, "F8_E5M2": 1, "U64": 8, "F4": 1, "I16": 2}


@dataclass
class Tensor:
    """A tensor of a file, as its bytes."""

    dtype: str
    shape: list[int]
    data: bytes


@dataclass
class Draft:
    """The content of a file: its header's JSON and its tensors by name."""

    header: dict
    tensors: dict[str, Tensor]

    def bytes(self, raw=None):
        """The file; `raw` is text that stands in the JSON instead of "<raw>"."""
        text = json.dumps(self.header)
        if raw is not None:
            text = text.replace('"<raw>"', raw)
        index, offset = {"__metadata__": {"attnflow": text}}, 0
        for name, tensor in self.tensors.items():
            end = offset + len(tensor.data)
            index[name] = {
                "dtype": tensor.dtype,
                "shape": tensor.shape,
                "data_offsets": [offset, end],
            }
            offset = end
        header = json.dumps(index).encode()
        header += b" " * (-len(header) % 8)
        data = b"".join(tensor.data for tensor in self.tensors.values())
        return struct.pack("<Q", len(header)) + header + data


def draft_of(attributions):
    """The draft of the file that `attnflow.save` writes."""
    records, tensors = [], {}
    for i, record in enumerate(map(record_of, attributions)):
        arrays = {name: v for name, v in record.items() if isinstance(v, np.ndarray)}
        records.append({name: v for name, v in record.items() if name not in arrays})
        for name, array in arrays.items():
            dtype = {"float64": "F64", "bool": "BOOL", "uint8": "U8"}[str(array.dtype)]
            tensors[f"{i}.{name}"] = Tensor(dtype, list(array.shape), array.tobytes())
    header = {"schema_version": SCHEMA_VERSION, "attributions": records}
    return Draft(json.loads(json.dumps(header)), tensors)


@cache
def drafts():
    """Drafts of files that load: of every kind of input, and with every field."""
    text = attribution_of("a fine film, a very fine one", layers=2)
    t = len(text)
    full = replace(
        text,
        tensor="net",
        truncated=3,
        against=0,
        raw_scores=text.scores * 1.5,
        null_shares=np.full(t, 1 / t),
        contributions=np.linspace(-1, 1, t),
        signed_scores=np.linspace(-1, 1, t),
        explained=0.5,
        stages=(0.1, "halves"),
        pattern="shared",
        segments=tuple((i, i + 1) for i in range(t)),
        attention_sink="exclude",
    )
    chat = continuation_of("be kind\nis it good?", 2, layers=2, roles=("system", "user"))
    image = image_of((2, 3), size=(8, 9), layers=2, with_edges=True)
    old = [attnflow.load(path) for path in sorted(OLD_FILES.glob("*.safetensors"))]
    return [draft_of(each) for each in ([text], [full], [full, text], chat, [image], *old)]


def places(node, path=()):
    """Every place in JSON, as the keys that lead there."""
    yield path
    children = node.items() if isinstance(node, dict) else ()
    children = enumerate(node) if isinstance(node, list) else children
    for key, child in children:
        yield from places(child, (*path, key))


def chosen_place(rng, header):
    """The container and key of a place in an attribution; fields are as likely as their parts."""
    record = rng.integers(len(header["attributions"]))
    fields = list(header["attributions"][record])
    path = ["attributions", int(record), fields[rng.integers(len(fields))]]
    inner = list(places(_at(header, path)))
    path += inner[rng.integers(len(inner))] if rng.random() < 0.6 else ()
    return _at(header, path[:-1]), path[-1]


def _at(node, path):
    for key in path:
        node = node[key]
    return node


def one_of(rng, values):
    return values[int(rng.integers(len(values)))]


def replaced_value(rng, draft):
    container, key = chosen_place(rng, draft.header)
    container[key] = copy.deepcopy(one_of(rng, VALUES))
    return draft.bytes()


def replaced_text(rng, draft):
    """Markup instead of one text, or of a part of it: most of these files load."""
    while True:
        container, key = chosen_place(rng, draft.header)
        if isinstance(container[key], str):
            break
    kept = container[key] if key == "text" else ""
    container[key] = MARKUP + kept
    return draft.bytes()


def raw_value(rng, draft):
    container, key = chosen_place(rng, draft.header)
    container[key] = "<raw>"
    return draft.bytes(one_of(rng, RAW))


def replaced_list(rng, draft):
    while True:
        container, key = chosen_place(rng, draft.header)
        if isinstance(container[key], list):
            break
    values = container[key]
    container[key] = one_of(
        rng, (values[1:], values * 2, values[::-1], [values], values + [values])
    )
    return draft.bytes()


def replaced_key(rng, draft):
    record = one_of(rng, (draft.header, *draft.header["attributions"]))
    key = one_of(rng, list(record))
    value = record.pop(key)
    name = one_of(rng, (None, MARKUP, key.upper(), "scores", "edges", "__class__", "x" * 999))
    if name is not None:
        record[name] = value
    return draft.bytes()


def replaced_top(rng, draft):
    """Another schema, another number of attributions, or another form of the whole."""
    header = draft.header
    key = one_of(rng, list(header))
    header[key] = one_of(rng, (*VALUES, header["attributions"] * 2, header["attributions"][1:]))
    return draft.bytes()


def other_numbers(rng, draft):
    tensor = one_of(rng, list(draft.tensors.values()))
    size = DTYPES[tensor.dtype]
    data = bytearray(tensor.data)
    for _ in range(one_of(rng, (1, 1, 2, 5, len(data) // size))):
        at = size * int(rng.integers(len(data) // size))
        data[at : at + size] = {8: struct.pack("<d", one_of(rng, NUMBERS))}.get(
            size, bytes([rng.integers(256)])
        )
    tensor.data = bytes(data)
    return draft.bytes()


def other_dtype(rng, draft):
    tensor = one_of(rng, list(draft.tensors.values()))
    tensor.dtype = one_of(rng, list(DTYPES))
    size = int(np.prod(tensor.shape)) * DTYPES[tensor.dtype]
    tensor.data = (tensor.data * 8)[:size]
    return draft.bytes()


def other_shape(rng, draft):
    tensor = one_of(rng, list(draft.tensors.values()))
    shape = tensor.shape
    shapes = ([], [0], [1, *shape], [*shape, 1], shape[1:], [n + 1 for n in shape], [0, *shape[1:]])
    shapes += ([2**40], [2**62, 4], shape[::-1], [shape[0] * 2, *shape[1:]], [2**64])
    tensor.shape = one_of(rng, shapes)
    count = min(int(np.prod([float(n) for n in tensor.shape])), 10**5)
    tensor.data = (tensor.data * 3 + bytes(10**6))[: count * DTYPES[tensor.dtype]]
    return draft.bytes()


def other_name(rng, draft):
    name = one_of(rng, list(draft.tensors))
    tensor = draft.tensors.pop(name)
    field = name.partition(".")[2]
    names = (
        f"00.{field}",
        f"-1.{field}",
        f"99.{field}",
        f" 0.{field}",
        f"٠.{field}",
        "0.text",
        "0.",
    )
    names += (
        "0.certificate",
        "scores",
        MARKUP.replace("\ud800", ""),
        f"{'9' * 5000}.{field}",
        None,
    )
    new = one_of(rng, names)
    if new is not None:
        draft.tensors[new] = tensor
    return draft.bytes()


def flipped_bytes(rng, draft):
    data = bytearray(draft.bytes())
    # Most of a file is its header: flips in there break JSON, in the rest numbers.
    start = 0 if rng.random() < 0.7 else 8 + struct.unpack("<Q", data[:8])[0]
    for _ in range(one_of(rng, (1, 1, 2, 4, 16))):
        data[int(rng.integers(start, len(data)))] = int(rng.integers(256))
    return bytes(data)


def cut(rng, draft):
    data = draft.bytes()
    return one_of(rng, (data[: rng.integers(len(data))], data + b"\0" * 8, data + data, b""))


def other_length(rng, draft):
    """Another length of the header than it has."""
    lengths = (0, 1, 7, 2**20, 100_000_001, 2**31, 2**63, 2**64 - 1)
    return struct.pack("<Q", one_of(rng, lengths)) + draft.bytes()[8:]


MUTATIONS = (
    *(replaced_value, replaced_value, replaced_text, replaced_text, raw_value, replaced_list),
    *(replaced_key, replaced_top, other_numbers, other_numbers, other_dtype, other_shape),
    *(other_name, flipped_bytes, cut, other_length),
)


def hostile_file(seed):
    """The bytes of a file that is wrong in a way or two, the same for a seed on every machine."""
    rng = np.random.default_rng(seed)
    return one_of(rng, MUTATIONS)(rng, copy.deepcopy(one_of(rng, drafts())))


def loaded(path):
    """The attributions of a file; none where it is refused in a readable line."""
    try:
        return attnflow.load(path)
    except StorageError as error:
        message = str(error)
        assert len(message) < 600 and message.isprintable(), message
        return []


@cache
def known_markup():
    """Names of the elements and attributes that templates write."""
    sources = "".join(templates.asset(f"{name}.html") for name in ASSETS)
    tags = set(re.findall(r"</?([a-z][a-z0-9]*)", sources)) | {"h1", "h2", "bdi", "span", "mark"}
    names = re.findall(r"[\s;]([a-zA-Z-]+)(?==|[\s>{])", sources)
    return tags, {name.lower() for name in names}


ASSETS = (
    *("page", "decision", "image", "macros", "matrix", "continuation", "notebook"),
    *("notebook_continuation", "notebook_flow", "notebook_list", "notebook_parts"),
)
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
UNPRINTABLE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
STYLE = re.compile("\x1b\\[[0-9;]*m")


class _Reader(HTMLParser):
    def handle_starttag(self, tag, attrs):
        tags, attributes = known_markup()
        assert tag in tags and {name for name, _ in attrs} <= attributes, (tag, attrs)
        address = dict(attrs).get("href") or dict(attrs).get("src") or "#"
        assert address.startswith(("#text-", "#", "data:image/png;base64,")), address


def assert_inert(html):
    """No element, attribute or address but those of the templates, and no control character."""
    assert not CONTROLS.search(html)
    reader = _Reader()
    reader.feed(html)
    reader.close()


def assert_plain(text):
    """Nothing that a terminal would obey."""
    assert not UNPRINTABLE.search(text), UNPRINTABLE.search(text)


def use(attribution: Attribution, path):
    """Show, count, convert and save one attribution in every way there is."""
    assert_plain(repr(attribution))
    assert_plain(terminal.render(attribution, color=False, width=40))
    assert_plain(STYLE.sub("", terminal.render(attribution, color=True)))
    assert_plain(str(attribution))
    assert_inert(attribution._repr_html_())
    assert_inert(Results([attribution, [attribution]])._repr_html_())
    assert_inert(page.render([attribution]))
    record = attribution.to_dict()
    json.dumps(record, allow_nan=False)
    assert len(attribution.top(3)) <= 3
    csv_of(table_of_results([attribution])).encode("utf-8")
    assert len(attribution.to_dataframe()) == len(attribution)
    if attribution.signed_scores is not None:
        attribution.top_against(3)
    if attribution.grid is None:
        attribution.words()
        terminal.render(attribution, granularity="word", color=False)
    else:
        attribution.heatmap()
        attribution.overlay()
    again = Attribution.load(attribution.save(path, overwrite=True))
    assert again.to_dict() == record


def use_together(attributions):
    """Show several on one page, and as a continuation where they are one."""
    assert_inert(page.render(attributions))
    try:
        continuation = Attributions(attributions)
    except InputError:
        return
    assert_plain(str(continuation))
    assert_inert(continuation._repr_html_())
    assert_inert(page.render([continuation]))
    assert np.isfinite(continuation.matrix).all() and isinstance(continuation.written, str)
    assert_plain(repr(continuation))
