"""Addresses may hold secrets: passwords, and signatures in a query. Nothing that is shown or kept does."""

import os
import re

PASSWORD = re.compile(r"://[^/\s:@]*:(?P<password>[^/\s@]+)@")
USER = re.compile(r"://[^/\s@]+@")
QUERY = re.compile(r"(?P<address>://[^\s?'\"<>]+)\?[^\s'\"<>]+")
VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)\}")


def holds_password(text: str) -> bool:
    """Whether an address in the text has a password itself, and not the name of a variable (`${NAME}`)."""
    return any(not VARIABLE.fullmatch(found["password"]) for found in PASSWORD.finditer(text))


def without_secrets(text: str) -> str:
    """The text with users, passwords and queries of its addresses struck out."""
    return QUERY.sub(r"\g<address>?...", USER.sub("://...@", text))


def missing_variables(text: str) -> list[str]:
    """Variables that the text names as `${NAME}` and the environment does not have."""
    return [name for name in VARIABLE.findall(text) if name not in os.environ]


def with_variables(text: str) -> str:
    """The text with each `${NAME}` replaced by that variable's value. Raises KeyError for a missing one."""
    return VARIABLE.sub(lambda found: os.environ[found["name"]], text)
