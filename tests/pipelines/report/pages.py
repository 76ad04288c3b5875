"""Pieces of a page, for tests of what it says."""

import re
from html import unescape


def section(page: str, name: str) -> str:
    """One section, without its end."""
    found = re.search(rf'<section id="{name}">.*?</section>', page, re.DOTALL)
    assert found, f"no section {name}"
    return found[0]


def text_of(html: str) -> str:
    """What a person reads, with single spaces."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", html.replace("<wbr>", "")))).strip()


def rows_of(html: str) -> list[list[str]]:
    """Texts of the cells of every table row."""
    rows = re.findall(r"<tr\b.*?</tr>", html, re.DOTALL)
    return [[text_of(cell) for cell in re.findall(r"<t[hd]\b.*?</t[hd]>", row, re.DOTALL)] for row in rows]
