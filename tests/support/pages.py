"""A page as a parser reads it, and text that tries to break out of one."""

import json
import re
from html.parser import HTMLParser

HOSTILE = "</script><img src=x onerror=alert(1)> ${data} $style <!-- \" ' & \u2028 \x1b[31m"
VOID = {"meta", "br", "img", "input", "link"}


class PageReader(HTMLParser):
    """A parser's view: elements with attributes, text outside of scripts, and balance."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.open, self.text, self.scripts = [], [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        inside = self.open[-1] if self.open else ""
        (self.scripts if inside in ("script", "style") else self.text).append(data)

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def data_of(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.S).group(1))
