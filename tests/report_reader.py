"""What is in a report, read as a program reads HTML."""

import base64
import html.parser
import io
import json
import re

import numpy as np
from PIL import Image


class Report(html.parser.HTMLParser):
    """A report taken apart.

    Attributes:
        tags: Every start tag with its attributes.
        cells: Text and attributes of the cells of the table of classes, by row.
        pictures: The embedded images, decoded, in order, with the attributes of their tags.
        text: All text outside of styles and scripts.
        scores: The embedded JSON.
    """

    def __init__(self, text):
        super().__init__()
        self.tags, self.cells, self.pictures, self.open = [], [], [], []
        self.text, self.json = "", ""
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"
        self.scores = json.loads(self.json)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        if tag not in ("meta", "link", "img", "input", "br"):
            self.open.append((tag, attributes))
        if tag == "tr":
            self.cells.append([])
        if tag == "td":
            self.cells[-1].append(["", attributes])
        if tag == "img":
            kind, data = re.fullmatch(r"data:image/(\w+);base64,(.+)", attributes["src"]).groups()
            picture = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
            assert picture.format.lower() == kind
            picture.load()
            self.pictures.append((attributes, picture))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        tag, attributes = self.open[-1] if self.open else ("", {})
        if attributes.get("id") == "scores":
            self.json += data
        elif tag not in ("style", "script"):
            self.text += data
        if any(name == "td" for name, _ in self.open):
            self.cells[-1][-1][0] += data

    def views(self, name):
        """The pictures of the gallery that are of one view, as RGBA arrays."""
        return [
            np.asarray(picture.convert("RGBA"))
            for attributes, picture in self.pictures
            if attributes.get("data-view") == name
        ]


def addresses(text):
    """All that a browser might ask a network for, in a report."""
    found = re.findall(r"""(?:src|href|srcset|action|data|poster)\s*=\s*["']?([^"'>\s]+)""", text)
    found += re.findall(r"url\(([^)]*)\)|@import\s+([^;]+)", text)
    return [address for address in found if not str(address).startswith("data:")]
