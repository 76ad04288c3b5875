"""Addresses may hold secrets: passwords, and signatures in a query. Nothing that is shown or kept does."""

import os
import re

# Up to the last @: passwords that nobody encoded have / and @ in them. Digits are a port; [ begins IPv6.
PASSWORD = re.compile(r"://(?!\[)[^/?#\s:@]*:(?!\d+(?:[/?#]|$)|\$\{\}@)[^\s'\"<>]+@")
USER = re.compile(r"://[^/\s@]+@")
WEB_USER = re.compile(r"https?://(?!\$\{\}@)[^/?#\s:@]+@")  # a token, mostly
QUERY = re.compile(r"(?P<address>://[^\s?'\"<>]+)\?[^\s'\"<>]+")
SIGNED = re.compile(
    r"[?&#](?:[a-z0-9]+[-_.])*"
    r"(?:sig|signature|(?:access|auth|session|id)?token|(?:api|secret|awssecret|private)?key|awsaccesskeyid"
    r"|secret|(?:ssl)?password|passwd|pwd|credential|auth|authorization)"
    r"=(?!\$\{\}(?:[&#\s]|$))[^&\s]",
    re.I,
)
VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)\}")


def holds_secret(text: str) -> bool:
    """Whether an address in the text has a password, token or signature itself, and not as `${NAME}`."""
    if "://" not in text:
        return False
    named = VARIABLE.sub("${}", text)
    return any(kind.search(named) for kind in (PASSWORD, WEB_USER, SIGNED))


def without_secrets(text: str) -> str:
    """The text with users, passwords and queries of its addresses struck out."""
    for kind in (PASSWORD, USER):
        text = kind.sub("://...@", text)
    return QUERY.sub(r"\g<address>?...", text)


def missing_variables(text: str) -> list[str]:
    """Variables that the text names as `${NAME}` and the environment does not have."""
    return [name for name in VARIABLE.findall(text) if name not in os.environ]


def with_variables(text: str) -> str:
    """The text with each `${NAME}` replaced by that variable's value. Raises KeyError for a missing one."""
    return VARIABLE.sub(lambda found: os.environ[found["name"]], text)
