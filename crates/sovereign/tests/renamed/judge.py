"""Judges pages under two names of a site: equal but for the origin, and as well-formed under the one as under the other.

    judge.py FOLDER CANONICAL OTHER

FOLDER has pairs `N.own` and `N.other`, and `kinds` with a line "N CONTENT-TYPE" for each.
"""

import json
import re
import sys
import xml.etree.ElementTree as xml
from html.parser import HTMLParser
from pathlib import Path

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


class Page(HTMLParser):
    """Everything a browser sees of a page, in order, and the data in it."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.seen, self.open, self.data, self.script = [], [], 0, None
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, attributes))
        if tag not in VOID and not (self.open and self.open[0] == "svg") and tag != "p":
            self.open.append(tag)
        if tag == "script":
            self.script = dict(attributes).get("type", "")

    def handle_startendtag(self, tag, attributes):
        self.seen.append((tag, attributes))

    def handle_endtag(self, tag):
        self.seen.append(tag)
        if self.open and tag == self.open[-1]:
            self.open.pop()
        if tag == "script":
            self.script = None

    def handle_data(self, text):
        if self.script and "json" in self.script:
            text = json.loads(text)
            self.data += 1
        self.seen.append(text)


def renamed(value, own, other):
    """The value with its URLs under the other name: those that a host stands in after two slashes, however spelled."""
    if isinstance(value, str):
        slashes = r"(?:/|\\/|%2F|\\u002f){2}"
        colon = own.replace(":", "(?::|%3A)")
        host, port = other.split(":")
        pattern = rf"((?:^|[^\w.]|%3A){slashes})({colon})(?![\w.]*\w)"

        def other_one(found):
            escaped = "%3A" if "%3A" in found[2] else ":"
            return found[1] + host + escaped + port

        return re.sub(pattern, other_one, value)
    if isinstance(value, dict):
        return {key: renamed(inner, own, other) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(renamed(inner, own, other) for inner in value)
    return value


def main():
    folder, own, other = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    data = 0
    for line in (folder / "kinds").read_text().splitlines():
        number, kind = line.split(" ", 1)
        here, there = ((folder / f"{number}.{which}").read_text() for which in ("own", "other"))
        if "html" in kind:
            one, two = Page(here), Page(there)
            data += two.data
            expected = renamed(one.seen, own, other)
            for left, right in zip(expected, two.seen):
                assert left == right, f"{line}: expected {left!r}, found {right!r}"
            assert len(expected) == len(two.seen), line
        elif "xml" in kind:
            one, two = (list(xml.fromstring(text).iter()) for text in (here, there))
            assert [item.tag for item in one] == [item.tag for item in two], line
            for left, right in zip(one, two):
                if "<" in (left.text or ""):
                    assert renamed(Page(left.text).seen, own, other) == Page(right.text).seen, line
                else:
                    assert renamed(left.text, own, other) == right.text, f"{line}: {left.text!r}, {right.text!r}"
        else:
            assert renamed(here, own, other) == there, line
        assert not re.search(rf"url\([\"']?(https?:)?//{own}", there), f"{line}: a style leads back"
    print(data)


main()
