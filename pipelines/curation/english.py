"""The words that the caption rules know: closed classes of English, and verbs that a camera can see."""

JOINED = "\x00"  # holds words together that the rules take as one


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


DETERMINERS = _words(
    """
    a an the this that these those some several many two three four five six one both
    """
)
POSSESSIVES = _words("his her its their my our your")
AUXILIARIES = _words("is are was were be been being has have does do did will can not n't")
RELATIVES = _words("who which that")
CONJUNCTIONS = _words("and or but")
# Where something is: the rest of the phrase belongs to the picture.
PLACE_PREPOSITIONS = _words(
    """
    in on at over under near behind above below beneath beside between with without against of by during
    inside outside within among amid upon for like as before after than
    """
)
# Where something goes: belongs to the motion.
PATH_PREPOSITIONS = _words(
    """
    to into onto from through across along around past towards toward down up off out away
    """
)
PREPOSITIONS = PLACE_PREPOSITIONS | PATH_PREPOSITIONS
DIRECTIONS = _words(
    """
    left right up down upward upwards downward downwards forward forwards backward backwards back away
    together apart around round off out in closer sideways diagonally clockwise counterclockwise still
    motionless bigger smaller larger wider faster slower open shut upside past over fast slow everywhere
    """
)
DIRECTION_NOUNS = _words(
    """
    left right side sides top bottom distance camera viewer front direction directions circle circles
    end place lens frame screen
    """
)
ADVERBS = _words("then again just also very while slowly quickly fast gently")
GROUPS = frozenset({JOINED.join(("close", "up"))}) | _words(
    """
    group crowd pair couple flock herd school swarm bunch team lot lots row line pile portrait close-up
 closeup up view shot footage video clip scene image picture set variety dozens hundreds thousands
    silhouette silhouettes hand-drawn animation
    """
)
PLURALS = _words(
    """
    people jellyfish birds men women children police fish sheep feet hands teeth leaves geese deer
    """
)
# Past participles that end a noun phrase without ending in -ed.
PARTICIPLES = _words(
    """
    built made worn held seen taken shown set lit cut drawn hidden frozen broken
    """
)
# Verbs whose `at` says where to: the rest of the phrase is theirs.
AIMED = _words(
    "look gaze stare glance point smile wave laugh shout bark aim shoot throw nod peek grin scream"
)
# -ly words that are no adverbs.
NOT_ADVERBS = _words(
    """
    add family fly butterfly butterflies dragonfly firefly jelly belly lily italy july rally ally curly lovely
    friendly elderly ugly holy lonely lively silly early daily only reply supply assembly anomaly doily woolly
    """
)
COLOURS = _words(
    """
    red green blue yellow orange purple pink white black grey gray brown cyan magenta violet golden
    silver dark light pale bright turquoise
    """
)

# Words in -ing that name things or looks.
ING_NOT_VERBS = _words(
    """
    building buildings morning evening ceiling wedding clothing painting ring king spring string wing
    thing nothing something anything everything lightning during recording parking being according
    including amazing stunning interesting charming beijing engineering housing lighting outstanding
    refreshing appealing relaxing inviting breathtaking boring exciting beginning meaning feeling
    surrounding surroundings marketing advertising banking accounting training engaging sling ping
    pudding earring earrings sibling viking pricing packaging processing manufacturing living dining
    sterling darling halloweening thanksgiving icing topping toppings seedling dressing stocking railing
    awning crossing mooring bedding evenings mornings trending promising setting background-ing
    """
)
# States and postures: seen in one frame, so they belong to the picture.
STATES = _words(
    """
    cover decorate sit stand lie wear hold hang show feature contain depict include face overlook
    surround belong
    consist represent remain keep have lean rest own border resemble match lack smell
    """
)
# -ing words that make a compound noun with what follows.
COMPOUNDS = {
    "swimming": ("pool", "pools", "suit", "trunks", "goggles"),
    "running": ("shoes", "shoe", "track"),
    "washing": ("machine", "machines"),
    "shopping": ("mall", "bag", "bags", "cart", "center", "centre", "street", "trolley"),
    "cutting": ("board",),
    "frying": ("pan",),
    "sewing": ("machine",),
    "drinking": ("glass", "water", "fountain"),
    "meeting": ("room",),
    "waiting": ("room",),
    "fishing": ("boat", "boats", "rod", "net", "nets", "village", "port"),
    "sleeping": ("bag", "bags", "room"),
    "climbing": ("wall", "rope"),
    "flying": ("saucer",),
    "landing": ("page", "gear", "strip"),
    "rolling": ("pin", "hills"),
    "walking": ("stick", "path", "trail"),
    "working": ("place", "day", "space"),
    "writing": ("desk",),
    "boxing": ("gloves", "ring"),
    "cooking": ("pot", "oil", "utensils"),
    "baking": ("tray", "sheet", "soda", "powder"),
    "driving": ("licence", "license", "school"),
    "wedding": ("dress", "ring"),
    "racing": ("car", "cars"),
}

VERBS = _words(
    """
    accelerate accompany add adjust animate appear applaud approach arrange arrive ascend attach bake
    balance bark bat bathe beat beckon begin bend billow bite blink block bloom blow board bob boil
    bounce bow box brake break breathe brush bubble build bump burn burst buy buzz call caress carry
    carve cascade cast catch celebrate change charge chase chat check cheer chew choose chop churn
    circle clap clean climb close collapse collect come communicate connect continue cook count cover
    crash crawl cross crouch cruise crumble crush cry cuddle cut cycle dance dangle dart decorate
    descend dig dim dip disappear discuss dissolve dive double drag draw dribble drift drill drink drive
    drizzle drop drum dunk eat embrace emerge enjoy enter erupt examine exchange exercise exhale exit
    expand explain explode explore fade fall feed ferment fight file fill film fish fix flap flash flex
    flicker flip float flow flutter fly fold follow freeze fry gallop gather gaze gesture get give
    glance glide glow go grab graze greet grill grin grind grip groom grow gush hammer handle harvest
    hatch haul head heat help hike hit hop hover hug hunt hurry ice inflate inhale inspect iron jog
    juggle jump kick kiss knead knit knock land lap laugh launch lay lead leap leave lick lift light
    listen lit load look lower make march massage measure meditate meet melt merge mix move mow munch
    nibble nod observe open operate orbit oscillate overtake pack paddle paint pan parade park pass
    paste pat pay peck pedal peel perch perform pet photograph pick pinch plant play plough plow point
    pose pour practice practise pray preen prepare press print process pull pulsate pulse pump punch
    purr push put race rain raise reach read recede relax remove repair retreat return reverse revolve
    ride ring rinse rip ripple rise roam roast rock roll rotate row rub run rush sail salute save saw
    say scan scatter scoop scrape scratch scream scroll scrub search selfie sell serve sew shake share
    shave shear shift shine shiver shoot shop shout shovel shower shrink shuffle sign sing sink sip
    skate skateboard ski skid skip sleep slice slide slip slither slow smash smile smoke snap sneeze
    sniff snow snowboard soar spark sparkle speak spill spin spit splash spray spread sprinkle sprint
    sprout squat squeeze stack stagger stalk stare start stay steam steer step stir stomp stop stretch
    stroke stroll strum study stumble surf swallow swarm sway sweep swim swing swipe swirl switch swoop
    take talk tap taste taxi teach tear tend thread throw tick tickle tie tilt toast toss touch tour tow
    train transform travel tremble trickle trim trot try tug tumble turn twinkle twirl twist type unfold
    unpack unroll use vacuum vanish vibrate visit wade wag wait walk wander warm wash watch water wave
    weave weigh weld whip whirl whisk wiggle wipe wither wobble work wrap wrestle wring write yawn zoom
    """
)
# Forms in -s that are usually things; verbs only behind a subject with an article.
NOUNS_TOO = _words(
    """
    waves falls rocks flies cuts turns drives walks rides lights rings ships boxes trains plants rows
    fires irons snows rains waters files signs stops shops works bows bats saws pets parks lands heads
    hands prints cooks drums pumps blocks breaks changes smiles drops rolls steps notes wraps toasts
    streams flashes paddles casts flowers clouds lines papers hammers covers shots stacks threads drinks
    dances slides sparks bubbles ripples sails skates surfs skis plays runs swings spins shoots pulses
    files
    """
)


def stem_of(form: str, suffix: str) -> str | None:
    """The verb of the list that `form` inflects with -s, -ing or -ed, such as `run` for `running`."""
    if not form.endswith(suffix) or len(form) <= len(suffix) + 1:
        return None
    cut = form[: -len(suffix)]
    candidates = [cut, cut + "e"]
    if suffix == "ing":
        if len(cut) > 2 and cut[-1] == cut[-2]:
            candidates.append(cut[:-1])
        if cut.endswith("y"):
            candidates.append(cut[:-1] + "ie")  # tying, dying
    if suffix == "ed":
        candidates.append(cut[:-1] if cut[-1:] == cut[-2:-1] else cut)
        if cut.endswith("i"):
            candidates.append(cut[:-1] + "y")
    if suffix == "s":
        if form.endswith("ies"):
            candidates.append(form[:-3] + "y")
        if form.endswith("es"):
            candidates.append(form[:-2])
    return next((verb for verb in candidates if verb in VERBS or verb in STATES), None)


def is_adverb(word: str) -> bool:
    return word in ADVERBS or (word.endswith("ly") and len(word) > 4 and word not in NOT_ADVERBS)


def stem_of_any(word: str) -> str | None:
    """The verb that a form belongs to: itself, or without -s or -ing."""
    return word if word in VERBS | STATES else stem_of(word, "s") or stem_of(word, "ing")
