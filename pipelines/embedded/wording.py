"""Captions of SpriteWorld in several brief wordings, as stock sites have them."""

import random

from pipelines.embedded.world import Clip, Sprite

# Third person after a subject, and the participle that keyword-like captions use.
VERBS = {
    "left": [
        ("moves left", "moving left"),
        ("slides to the left", "sliding to the left"),
        ("drifts left", "drifting left"),
    ],
    "right": [
        ("moves right", "moving right"),
        ("slides to the right", "sliding to the right"),
        ("drifts right", "drifting right"),
    ],
    "up": [("moves up", "moving up"), ("rises", "rising"), ("floats up", "floating up")],
    "down": [("moves down", "moving down"), ("falls", "falling"), ("sinks down", "sinking down")],
    "up_left": [("moves diagonally up and to the left", "moving diagonally up and to the left")],
    "down_right": [("moves diagonally down and to the right", "moving diagonally down and to the right")],
    "grow": [("grows", "growing"), ("gets bigger", "getting bigger"), ("expands", "expanding")],
    "shrink": [("shrinks", "shrinking"), ("gets smaller", "getting smaller")],
    "still": [
        ("stays still", "staying still"),
        ("does not move", "resting motionless"),
        ("stands still", "standing still"),
    ],
}
GROUND = {
    "grass": ("over grass", "green grass"),
    "sand": ("over sand", "sand"),
    "water": ("over water", "water"),
    "bricks": ("in front of a brick wall", "brick wall"),
    "wood": ("over a wooden table", "wooden table"),
    "stone": ("over stone", "grey stone"),
}
CAMERA = {
    "pan_left": "camera pans left",
    "pan_right": "camera pans right",
    "pan_up": "camera pans up",
    "pan_down": "camera pans down",
}


def caption(clip: Clip) -> str:
    """A brief caption; its wording follows from the clip's background alone."""
    rng = random.Random(f"{clip.background_seed}/caption")
    where, scene = GROUND[clip.background]
    first, *others = clip.sprites
    text = _two(rng, first, others[0], where) if others else _one(rng, first, where, scene)
    return f"{text}, {CAMERA[clip.camera]}" if clip.camera in CAMERA else text


def appearance(clip: Clip) -> str:
    """What a single frame of the clip shows, without any motion: the caption of a still image."""
    rng = random.Random(f"{clip.background_seed}/appearance")
    where, scene = GROUND[clip.background]
    named = " and ".join(_a(sprite) for sprite in clip.sprites)
    bare = " and ".join(_name(sprite) for sprite in clip.sprites)
    return rng.choice([f"{_upper(named)} {where}", f"{_upper(bare)} {where}", f"{_upper(scene)}, {named}"])


def motion(clip: Clip) -> str:
    """What the first sprite of a clip does, as a caption split says it."""
    sprite = clip.sprites[0]
    rng = random.Random(f"{clip.background_seed}/{sprite.motion}")
    return f"{sprite.shape} {rng.choice(VERBS[sprite.motion])[0]}"


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]


def _a(sprite: Sprite) -> str:
    return f"{'an' if sprite.colour[0] in 'aeiou' else 'a'} {_name(sprite)}"


def _name(sprite: Sprite) -> str:
    return f"{sprite.colour} {sprite.shape}"


def _one(rng: random.Random, sprite: Sprite, where: str, scene: str) -> str:
    finite, participle = rng.choice(VERBS[sprite.motion])
    name = _name(sprite)
    return rng.choice(
        [
            f"{_upper(_a(sprite))} {finite} {where}",
            f"The {name} {finite} {where}",
            f"{_upper(name)} {participle} {where}",
            f"{_upper(_a(sprite))} {participle} {where}",
            f"{_upper(scene)}, {_a(sprite)} {finite}",
        ]
    )


def _two(rng: random.Random, first: Sprite, second: Sprite, where: str) -> str:
    verbs = [rng.choice(VERBS[sprite.motion])[0] for sprite in (first, second)]
    joint = rng.choice([" while", " and", ","])
    return f"{_upper(_a(first))} {verbs[0]}{joint} {_a(second)} {verbs[1]} {where}"
