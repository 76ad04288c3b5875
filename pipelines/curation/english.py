"""What the caption rules know of English: its closed classes, and how the verbs and nouns of captions behave.

Open classes are not listed here: pipelines.curation.tagging knows which words are verbs. Verbs are written in
their base form and stand for all their forms.
"""

from pipelines.curation.inflection import verbs as _verbs
from pipelines.curation.inflection import words as _words

JOINED = "\x00"  # holds words together that the rules take as one

# ---------------------------------------------------------------- closed classes

NUMBERS = _words("one two three four five six seven eight nine ten")
DETERMINERS = NUMBERS | _words("a an the this that these those some several many both each every another any")
POSSESSIVES = _words("his her its their my our your")
OBJECT_PRONOUNS = _words("it them him me us himself herself itself themselves each\x00other")
SUBJECT_PRONOUNS = _words("he she it they we i you")
BE = _words("is are was were be been being am 's 're isn't aren't")
AUXILIARIES = BE | _words(
    "has have had does do did will would can could may might must should not n't doesn't don't didn't"
)
PASSIVES = BE | _words("get gets getting got")
RELATIVES = _words("who which that")
CONJUNCTIONS = _words("and or but & nor")
# Words that join two clauses; `as`, `when`, `before` and `after` do if a verb with its subject follows.
CLAUSE_CONJUNCTIONS = _words("while then whereas")
# These join clauses when a clause follows, and are prepositions otherwise: "as the team celebrates".
SUBORDINATES = _words("as when before after until because")
# Where something is: the rest of the phrase belongs to the picture.
PLACE_PREPOSITIONS = _words(
    """
    in on at over under near behind above below beneath beside besides between with without against of by
    during inside outside within among amongst amid amidst upon for like as before after than via about
    underneath atop alongside throughout beyond until till since despite per
    """
)
# Where something goes: belongs to the motion.
PATH_PREPOSITIONS = _words(
    """
    to into onto from through across along around past towards toward down up off out away round thru
    """
)
CAUSES = frozenset(JOINED.join(pair) for pair in (("due", "to"), ("because", "of"), ("thanks", "to")))
PREPOSITIONS = PLACE_PREPOSITIONS | PATH_PREPOSITIONS | CAUSES
# Place prepositions that say where to directly behind a verb of travel: "flies over the lake".
CROSSED = _words("over under above below underneath between behind beneath by alongside beyond")
DIRECTIONS = _words(
    """
    left right up down upward upwards downward downwards forward forwards backward backwards back away
    together apart around round off out in closer sideways diagonally clockwise counterclockwise still
    motionless bigger smaller larger wider faster slower open shut upside past over fast slow everywhere
    aside ahead downhill uphill along by inward inwards outward outwards nearer higher lower sidewards
    counter-clockwise anticlockwise overhead through
    """
)
DIRECTION_NOUNS = _words(
    """
    left right side sides top bottom distance camera viewer front direction directions circle circles end
    place lens frame screen
    """
)
WAYS = _words("direction directions circle circles line lines formation")  # moving in circles
ADVERBS = _words(
    "then again just also very while slowly quickly fast gently hard around constantly"
) | frozenset(
    phrase.replace(" ", JOINED)
    for phrase in (
        "hand in hand",
        "arm in arm",
        "side by side",
        "one by one",
        "back and forth",
        "up and down",
        "round and round",
        "on and off",
        "in and out",
        "one after another",
        "to and fro",
    )
)
# -ly words that are no adverbs.
NOT_ADVERBS = _words(
    """
    add family fly butterfly butterflies dragonfly firefly jelly belly lily italy july rally ally curly
    lovely friendly elderly ugly holy lonely lively silly early daily only reply supply assembly anomaly
    doily woolly chilly hilly bubbly wobbly cuddly weekly monthly sally emily kelly billy molly gully barfly
    gadfly freshly newly highly mainly mostly partly fully brightly beautifully nearly densely recently
    sparsely
    """
)
PURPOSES = _words("for before after during without by of used")
COLOURS = _words(
    """
    red green blue yellow orange purple pink white black grey gray brown cyan magenta violet golden silver
    dark light pale bright turquoise
    """
)

# What carries no content of its own: a split may leave it out.
FUNCTION_WORDS = (
    (DETERMINERS - NUMBERS) | POSSESSIVES | OBJECT_PRONOUNS | SUBJECT_PRONOUNS | AUXILIARIES | RELATIVES
) | (CONJUNCTIONS | CLAUSE_CONJUNCTIONS | SUBORDINATES | PREPOSITIONS | {"there", "here"})

# ---------------------------------------------------------------- words in -ing

# They name things or looks, never what is going on.
NAMES_IN_ING = _words(
    """
    morning evening mornings evenings ceiling wedding clothing ring king spring string wing thing nothing
    something anything everything lightning during according including excluding regarding amazing stunning
    interesting charming beijing housing outstanding refreshing appealing relaxing inviting breathtaking
    boring exciting meaning surrounding surroundings engaging sling pudding earring sibling viking packaging
    darling thanksgiving topping seedling railing awning bedding promising living dining sterling duckling
    dumpling gosling winding towering sprawling imposing striking overwhelming enchanting mesmerizing
    captivating fascinating loving caring hardworking good-looking sightseeing scaffolding plumbing existing
    missing ongoing upcoming siding lodging herring starling sapling inspiring tempting alluring soothing
    satisfying entertaining motivating challenging remaining neighboring neighbouring adjoining
    corresponding underlying preceding looming looping cunning sporting offspring nanjing chongqing
    """
)
BASES_IN_ING = _words("swing bring cling fling sling sting string spring wring bling ring sing")
# They name things or processes, and verbs where they have a subject or an object.
NAMES_OR_VERBS_IN_ING = _words(
    """
    building painting parking recording dressing crossing meeting drawing lighting icing training marketing
    processing manufacturing beginning planning printing engineering accounting banking advertising covering
    fencing coating wrapping shooting feeling mooring stocking pricing following boarding clearing
    handwriting greeting embroidering carving
    """
)
# Before a noun they are looks, behind one they tell what it does.
LOOKS_IN_ING = _words(
    "glowing shining sparkling glittering shimmering twinkling gleaming glistening setting opening landing"
)
# What such a word makes a name with: a swimming pool is a pool, a washing machine a machine.
MADE_FOR = _words(
    """
    pool pools machine machines board boards pan pans room rooms bag bags mall malls center centers centre
    centres shoes shoe suit suits pole poles rod rods equipment tool tools ring rings gloves glove table
    tables desk desks area areas site sites studio class classes school lesson season gear track tracks
    trail trails stick sticks chair chairs lamp lamps oil dress gown ground grounds lot garage cart carts
    mat mats house trunks goggles goggle fountain net nets village port tackle licence license saucer page
    strip pin hills place space utensils pot pots tray sheet soda powder hall salon shop store kit band
    costume cap station stations field office industry company business process concept idea plan day ware
    supplies instrument instruments device devices system systems material materials platform platforms zone
    line lines park parks club light lights cream paper brush yard plant facility unit hut stand booth sign
    signs glass glasses wear backpack vest jacket boots boot helmet pants trousers rope ropes wall lanes
    lane agency partner budget strategy report video videos background game games course competition stage
    show dance party needles wheel wheels
    """
)
# What moves under one's eyes, whatever it stands before: "a moving platform", "burning paper".
KINETIC = _words(
    """
    moving rotating spinning turning falling flying floating flowing burning rolling swinging waving
    bouncing running flashing blinking scrolling exploding melting rising boiling bubbling swirling changing
    growing passing smoking steaming dripping
    """
)
# With a vehicle a kind of vehicle: fishing boats, racing cars.
USES = _words("fishing sailing rowing racing hunting cleaning delivering")
VEHICLES = _words("boat boats ship ships vessel vessels car cars bike bikes truck trucks yacht yachts")

# ---------------------------------------------------------------- how verbs behave

# States and postures: seen in one frame, so they belong to the picture.
STATES = _verbs(
    """
    cover sit stand lie wear hold hang show feature contain depict include face overlook surround
    belong consist represent remain keep have lean rest own border resemble match lack smell be locate
    situate display symbolize symbolise illustrate isolate dominate exist seat lay live love like want need
    know mean seem concern kneel squat crouch perch park dress fill mount glisten gleam adorn encircle
    stretch tower nestle enclose line cost deserve prefer hope
    """
) - _words(
    "laying lays lines lining fills filling stretching having"
)  # what goes on is no state: having dinner
SHOWING = _verbs("show")  # a state of a map, but not of a person
# Verbs of the beginning and the end of another one: "starts raining".
PHASES = _verbs("start stop begin keep continue go finish")
# Participles that tell what something looks like or how it came about, not what is going on.
FINISHED = _words(
    """
    made built taken seen shot set lit based used called named known filmed captured recorded photographed
    produced created designed inspired located situated parked covered filled surrounded decorated dressed
    isolated frozen broken abandoned closed opened left lost found cut drawn printed painted carved written
    rendered generated animated tagged dedicated connected related concerned tired married worn torn hidden
    iced seated rested lined framed stacked tied attached equipped illuminated reflected aged shaped sized
    colored coloured blurred crowded detailed textured patterned embroidered bearded experienced stuck bound
    organised organized held placed arranged viewed observed composed
    """
)
# Behind a noun they tell how it was made, behind "is" what is done to it.
PREPARED = _words(
    """
    baked fried cooked grilled roasted boiled smoked dried sliced chopped loaded packed wrapped served
    prepared cut written painted drawn printed
    """
)
# Verbs behind which `over`, `under` or `by` say where to.
TRAVEL = _verbs(
    """
    fly soar jump leap hop climb step pass sail hover drive ride walk run hike move roll crawl swim glide
    flow spill pour sweep cross go travel march gallop race skate ski cruise cycle wander stroll rush hurry
    break crash tumble circle fall drift trot vault dive float blow come pedal creep slither trek paddle row
    zoom speed bounce skip slide
    """
)
# But what rises over the sea or grows over a wall does it there.
ABOVE_GROUND = _verbs("rise fall float drift grow expand shrink sink get")
# Verbs that put something somewhere: their `in` and `on` say where to.
TRANSFER = _verbs(
    """
    put place drop insert add pour dip throw toss load stick plug stuff immerse plunge squeeze sprinkle
    lower
    """
)
# Verbs that are incomplete without what their preposition brings.
GOVERNED = {
    "at": _verbs(
        "look gaze stare glance point aim peek peer squint wink smile wave laugh shout bark throw nod grin"
    ),
    "with": _verbs(
        "play fight interact struggle toast flirt communicate wrestle dance talk chat speak work shake"
    ),
    "on": _verbs("type tap click talk speak chat knock scroll swipe try turn switch slip"),
    "for": _verbs("look search wait pray beg pose hunt reach"),
    "after": _verbs("run chase look"),
    "about": _verbs("think talk dream worry speak"),
    "of": _verbs("think dream"),
}
SWITCHED = _verbs("turn switch")  # by persons; other things turn on a table
# Their `at` may also be a place: "laughing at the table".
ADDRESSED = _verbs("smile wave laugh shout bark throw nod grin")
POSTURES = _verbs("sit stand lie kneel squat crouch lean") - {"lying"}  # with `up` or `down`: a motion
# Parts of the actor: they are in the picture with him.
BODY_PARTS = _words(
    """
    head heads hand hands arm arms leg legs eye eyes hair face faces finger fingers mouth lips lip tail
    tails wing wings teeth nose paw paws feet foot body shoulders shoulder neck back belly muscles thumb
    thumbs breath mind breast chest tongue ears ear fist fists
    """
)
# Nouns that stand for a motion of the camera or of a traveller: a flight over, a walk through.
ROAMING = _words("walk ride drive run")
RIDES = _words("walk drive ride flight fly run trip journey sail climb descent flyover cruise tour jump dive")

# ---------------------------------------------------------------- how nouns behave

CAMERA_NOUNS = _words("camera drone pov quadcopter copter steadicam camcorder first-person")
VIEWS = _words(
    """
    view views shot shots footage video clip clips scene image picture background animation angle aerial
    perspective concept illustration close-up closeup portrait loop panorama pov
    """
) | frozenset({JOINED.join(("close", "up"))})
GROUPS = VIEWS | _words(
    """
    group groups crowd crowds pair couple flock flocks herd school swarm swarms bunch team lot lots row rows
    line pile set variety dozens hundreds thousands silhouette silhouettes hand-drawn pack colony shoal
    family series array piece pieces drop drops trio plenty multitude stream kind type number convoy queue
    process
    """
)
PLURALS = _words(
    """
    people jellyfish birds men women children police fish sheep feet hands teeth leaves geese deer cattle
    mice personnel folk
    """
)
# Collective nouns that captions treat as plural.
COLLECTIVES = _words("couple family team crowd police group pair staff audience public band crew squad class")
PERSONS = COLLECTIVES | _words(
    """
    man men woman women girl girls boy boys child children kid kids baby babies people person persons lady
    ladies guy guys friend friends mother father mom mum dad parent parents son daughter sister sisters
    brother brothers grandfather grandmother grandparents husband wife teenager teenagers teen teens adult
    adults toddler toddlers student students pupil businessman businesswoman businessmen businesspeople
    worker workers tourist tourists traveler traveller travelers doctor doctors nurse teacher athlete
    athletes player players soldier soldiers dancer dancers chef cook model bride groom newlyweds couple
    couples female male hands hand fingers feet legs passengers pedestrians crowd crowds family families
    hiker hikers cyclist cyclists runner surfer surfers skier swimmer diver divers fisherman fishermen
    farmer farmers musician musicians artist actor monk monks someone somebody everyone nobody who he she
    they visitors customers shoppers spectators african asian caucasian senior pensioner hipster blonde
    brunette redhead infant newborn
    """
)
ANIMALS = _words(
    """
    dog dogs puppy puppies cat cats kitten kittens horse horses cow cows bull bird birds seagull seagulls
    gull gulls pigeon pigeons duck ducks swan swans goose geese eagle owl parrot chicken chickens hen
    rooster fish fishes shark sharks dolphin dolphins whale whales turtle turtles seal seals penguin
    penguins bear bears lion lions tiger tigers elephant elephants giraffe giraffes zebra zebras monkey
    monkeys deer fox wolf wolves rabbit sheep goat goats pig pigs camel camels frog snake lizard spider
    spiders insect insects bee bees butterfly butterflies ant ants fly flies snail crab jellyfish octopus
    squirrel hamster mouse rat bat bats animal animals buffalo
    """
)
THINGS_THAT_MOVE = _words(
    """
    car cars truck trucks bus buses taxi taxis train trains tram trams boat boats ship ships yacht ferry
    plane planes airplane airplanes aircraft helicopter rocket bike bikes bicycle motorcycle motorcycles
    vehicle vehicles tractor traffic water wave waves cloud clouds smoke steam fog mist rain snow snowflakes
    flame flames fire wind flag flags leaves leaf sun moon star stars bubbles particles drops droplets
    candle candles lava sand dust balloon balloons wheel wheels turbine turbines waterfall river sea ocean
    foam confetti sparks fireworks lightning hurricane storm tornado breeze gust flood tide
    """
)
MOVERS = PERSONS | ANIMALS | THINGS_THAT_MOVE
BLOWN = _words(
    "hair scarf veil dress skirt flag flags curtains curtain tail ears"
)  # move on those who do not
# Persons by their trade: photographer, tailor, violinist, fireman.
TRADES = ("er", "ers", "or", "ors", "ist", "ists", "ian", "ians", "man", "men", "woman", "women")
NO_TRADES = _words(
    """
    water river paper tower flower flowers computer container ladder corner helicopter butter winter summer
    letter finger shower number paper power center theater theatre layer border poster counter chamber trailer
    mirror door floor color colour interior exterior motor tractor harbor harbour monitor elevator escalator
    """
)
# Pairs of words that name one thing.
COMPOUNDS = (
    "ice cream",
    "traffic light",
    "traffic lights",
    "hot dog",
    "roller coaster",
    "close up",
    "each other",
    "one another",
    "merry go round",
    "contact lens",
    "fast food",
    "due to",
    "because of",
    "thanks to",
    *sorted(phrase.replace(JOINED, " ") for phrase in ADVERBS if JOINED in phrase),
)


def is_living(word: str) -> bool:
    """Whether a noun names persons or animals."""
    return word in PERSONS or word in ANIMALS or (word.endswith(TRADES) and word not in NO_TRADES)


def is_adverb(word: str) -> bool:
    return word in ADVERBS or (word.endswith("ly") and len(word) > 4 and word not in NOT_ADVERBS)
