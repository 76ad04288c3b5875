"""Camera work that captions name by a noun: "time lapse", "slow motion", "panning shot", "zoom in".

"The camera pans left" needs none of this: there the camera is the subject of a verb.
"""

import re

from pipelines.curation.english import JOINED

MARK = "\x01"  # ends a word that is camera work

_ENDS = r"(?=\s*(?:$|[,.;:!–—-]|(?:shot|view|footage|video|of|from|to|on|over|towards?)\b))"
_MANNER = r"""(?:(?:very|super|ultra|extremely?|slow|smooth|fast|quick|gentle|steady|cinematic|dynamic|aerial|
    drone|vertical|horizontal|low|forward|backward|reverse|handheld)\s+){0,4}"""
_MOVING = r"""(?:pan|panning|tilt|tilting|tracking|track|dolly|dollying|zoom|zooming|crane|jib|orbit|orbiting|
    trucking|pedestal|gimbal|hand[\s-]?held|steadicam|slider|sliding|rotating|rotation|flying|moving|arc|push[\s-]?in|
    pull[\s-]?(?:out|back)|fly[\s-]?over|fly[\s-]?by|fly[\s-]?through|walk[\s-]?through|ascending|descending|
    whip[\s-]?pan|travell?ing|follow|following|reveal|parallax|shaky|spinning|swinging)"""
_SHOT = r"(?:shots?|views?|footage|movements?|motion|move|camera|video|clip|take|pan)"
_SIDE = r"(?:left|right|top|bottom|up|down)"
_WHERE = rf"""(?:(?:from\s+)?(?:the\s+)?{_SIDE}\s+to\s+(?:the\s+)?{_SIDE} | (?:up|down|back|for)wards?
    | {_SIDE} | back | forth | (?:to|and)\s+(?:the\s+)?{_SIDE} | (?:across|around|over){_ENDS})"""
# A time lapse and the like; a shot of that kind; a movement with where to; a noun of flight.
_PHRASE = rf"""(?:
    {_MANNER}(?:time[\s-]?lapses? | hyper[\s-]?lapses? | slow[\s-]?(?:motion|mo) | slowmo | stop[\s-]?motion
        | fast[\s-]?motion | bullet[\s-]?time | rack[\s-]focus | focus\s+pull)(?:\s+(?:{_SHOT}))*
  | {_MANNER}(?:camera\s+)?{_MOVING}\s+(?:camera\s+)?{_SHOT}(?:\s+{_SHOT})*(?:\s+{_WHERE})*
  | {_MANNER}camera\s+(?:movements?|motion|moves?{_ENDS}|pan{_ENDS}|tilt{_ENDS}|zoom{_ENDS})
  | {_MANNER}(?:(?:slow|smooth|fast|quick|gentle|vertical|horizontal|{_SIDE}\s+to\s+{_SIDE})\s+pan{_ENDS})
  | {_MANNER}(?:steadicam|steady\s?cam|hand[\s-]?held){_ENDS}
  | {_MANNER}(?:camera\s+)?(?:pan|panning|tilt|tilting)(?:\s+{_WHERE})+(?:\s+{_SHOT})*
  | {_MANNER}(?:camera\s+)?(?:dolly|dollying|zoom|zooming)(?:\s+(?:in|out|{_WHERE}))+(?:\s+{_SHOT})*
  | {_MANNER}(?:truck|trucking|pedestal|crane|jib|push|pull)\s+(?:in|out|{_WHERE}){_ENDS}(?:\s+{_SHOT})*
  | {_MANNER}(?:(?:fly|drive|walk)-?(?:over|by|through) | (?:drone|aerial)\s+fly\s(?:over|by|through)
        | whip[\s-]pan | (?:drone|aerial)\s+(?:flight|pan)
        | orbit(?=\s+around) | (?:zoom|dolly|panning){_ENDS})(?:\s+{_SHOT})*
)(?!\w)"""
# "Tilt up from the street to the roof", "orbit around a bottle": where to belongs to the phrase.
_WHERE_TO = r"""(?=\s+(?:from\s[^,.;:]+?\sto\s | (?:through|over|across|along|past|around|above|between|
    towards?|down|up)\s+\w | to\s+reveal | revealing))"""
_LEADING = r"""(?:\b(?:in|with|by|a|an|the|and|as|on)\s+){0,4}"""
_PATTERN = re.compile(
    rf"\b{_LEADING}\b(?P<phrase>{_PHRASE})(?P<where>{_WHERE_TO})?", re.IGNORECASE | re.VERBOSE
)
_LINK = re.compile(rf"(?<={MARK}),\s*(?:of|over|with|from|on|in|to|at|into|for)\b\s*", re.IGNORECASE)


def mark_camera_work(text: str) -> str:
    """`text` with each such phrase joined to one word, marked, and set apart by commas."""

    def marked(match: re.Match[str]) -> str:
        phrase = JOINED.join(match["phrase"].split())
        return f" , {phrase}{MARK}{'' if match['where'] is not None else ' , '}"

    return _LINK.sub(", ", re.sub(r"\s+,", ",", _PATTERN.sub(marked, text)))
