"""All forms of English verbs, from their base forms."""


def words(text: str) -> frozenset[str]:
    """The words of a list."""
    return frozenset(text.split())


IRREGULAR = {
    "be": "is are was were been being",
    "beat": "beaten",
    "blow": "blew blown",
    "break": "broke broken",
    "build": "built",
    "come": "came",
    "dig": "dug",
    "draw": "drew drawn",
    "drive": "drove driven",
    "fall": "fell fallen",
    "feel": "felt",
    "fly": "flew flown",
    "get": "got gotten",
    "go": "went gone",
    "grow": "grew grown",
    "hang": "hung",
    "have": "has had",
    "hold": "held",
    "keep": "kept",
    "lean": "leant",
    "lie": "lay lain lying",
    "light": "lit",
    "make": "made",
    "put": "put",
    "ride": "rode ridden",
    "rise": "rose risen",
    "run": "ran",
    "see": "saw seen",
    "set": "set",
    "shoot": "shot",
    "show": "shown",
    "sit": "sat",
    "speak": "spoke spoken",
    "stand": "stood",
    "stick": "stuck",
    "swim": "swam swum",
    "take": "took taken",
    "throw": "threw thrown",
    "wear": "wore worn",
    "write": "wrote written",
}
VOWELS = frozenset("aeiou")


def forms(verb: str) -> set[str]:
    """All forms of a verb, and now and then one that does not exist."""
    found = {verb, verb + "s", verb + "es", verb + "ing", verb + "ed", *IRREGULAR.get(verb, "").split()}
    if verb.endswith("e"):
        found |= {verb[:-1] + "ing", verb + "d"}
    if verb.endswith("y"):
        found |= {verb[:-1] + "ies", verb[:-1] + "ied"}
    if len(verb) > 2 and verb[-1] not in VOWELS | {"w", "x", "y"} and verb[-2] in VOWELS:
        found |= {verb + verb[-1] + "ing", verb + verb[-1] + "ed"}
    return found


def verbs(text: str) -> frozenset[str]:
    """The forms of the verbs of a list."""
    return frozenset(form for verb in text.split() for form in forms(verb))
