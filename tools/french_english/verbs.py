"""The verbs that the grammar knows."""

from __future__ import annotations

from dataclasses import replace

from french_english.kinds import ALL, GOODS, LIVING, SOLID
from french_english.words import Verb, regular_verb

__all__ = [
    "ABSOLUTE_VERBS",
    "BE",
    "CAN",
    "COME",
    "DATIVE_VERBS",
    "GO",
    "HAVE",
    "INFINITIVE_VERBS",
    "INTRANSITIVE_VERBS",
    "LIKING_VERBS",
    "LIVE",
    "LOVE",
    "MUST",
    "SPEAK",
    "TRANSITIVE_VERBS",
    "WISH",
]


def _verb(
    french: str,
    english: str,
    objects: str = "",
    *,
    present: str = "",
    participle: str = "",
    future: str = "",
    with_be: bool = False,
) -> Verb:
    """Make a verb; `english` is base, past and particle, what is not given is regular."""
    regular = regular_verb(french)
    base, past, *particle = english.split()
    return Verb(
        french,
        tuple(present.split()) or regular[0],
        participle or regular[1],
        future or regular[2],
        base,
        past,
        tuple(particle),
        frozenset(objects.split()),
        with_be,
    )


BE = _verb("être", "be was", present="suis es est sommes êtes sont", participle="été", future="ser")
HAVE = _verb(
    "avoir", "have had", f"{GOODS} animal", present="ai as a avons avez ont", participle="eu", future="aur"
)
GO = _verb(
    "aller", "go went", present="vais vas va allons allez vont", participle="allé", future="ir", with_be=True
)
LIVE = _verb("habiter", "live lived")
SPEAK = _verb("parler", "speak spoke")
LOVE = _verb("aimer", "love loved", "person")
CAN = _verb("pouvoir", "can could", present="peux peux peut pouvons pouvez peuvent")
MUST = _verb("devoir", "must must", present="dois dois doit devons devez doivent")
WANT = _verb(
    "vouloir",
    "want wanted",
    GOODS,
    present="veux veux veut voulons voulez veulent",
    participle="voulu",
    future="voudr",
)
# The conditional of vouloir is a verb of its own here.
WISH = _verb(
    "vouloir", "would would like", GOODS, present="voudrais voudrais voudrait voudrions voudriez voudraient"
)
KNOW = _verb(
    "savoir",
    "know knew",
    present="sais sais sait savons savez savent",
    participle="su",
    future="saur",
)
COME = _verb(
    "venir",
    "come came",
    present="viens viens vient venons venez viennent",
    participle="venu",
    future="viendr",
    with_be=True,
)

TRANSITIVE_VERBS = [
    HAVE,
    WANT,
    _verb("manger", "eat ate", "food"),
    _verb("préparer", "prepare prepared", "food drink"),
    _verb("acheter", "buy bought", f"{GOODS}"),
    _verb("vendre", "sell sold", f"{GOODS}"),
    _verb(
        "boire",
        "drink drank",
        "drink",
        present="bois bois boit buvons buvez boivent",
        participle="bu",
        future="boir",
    ),
    _verb(
        "lire", "read read", "text", present="lis lis lit lisons lisez lisent", participle="lu", future="lir"
    ),
    _verb(
        "écrire",
        "write wrote",
        "text",
        present="écris écris écrit écrivons écrivez écrivent",
        participle="écrit",
        future="écrir",
    ),
    _verb(
        "voir", "see saw", ALL, present="vois vois voit voyons voyez voient", participle="vu", future="verr"
    ),
    _verb("regarder", "watch watched", f"{LIVING} thing vehicle"),
    _verb("écouter", "listen listened to", "sound person"),
    _verb("chercher", "look looked for", ALL),
    _verb("trouver", "find found", ALL),
    _verb("perdre", "lose lost", f"{SOLID} animal"),
    _verb("porter", "wear wore", "clothes"),
    _verb("laver", "wash washed", "clothes vehicle"),
    _verb(
        "ouvrir",
        "open opened",
        "door text",
        present="ouvre ouvres ouvre ouvrons ouvrez ouvrent",
        participle="ouvert",
        future="ouvrir",
    ),
    _verb("fermer", "close closed", "door text"),
    _verb(
        "connaître",
        "know knew",
        "person place",
        present="connais connais connaît connaissons connaissez connaissent",
        participle="connu",
        future="connaîtr",
    ),
    _verb("aider", "help helped", "person"),
    _verb("inviter", "invite invited", "person"),
    _verb("appeler", "call called", "person"),
    _verb("attendre", "wait waited for", "person vehicle"),
    _verb(
        "prendre",
        "take took",
        "vehicle thing",
        present="prends prends prend prenons prenez prennent",
        participle="pris",
        future="prendr",
    ),
    _verb(
        "conduire",
        "drive drove",
        "vehicle",
        present="conduis conduis conduit conduisons conduisez conduisent",
        participle="conduit",
        future="conduir",
    ),
    _verb("visiter", "visit visited", "place"),
    _verb("quitter", "leave left", "place"),
    _verb(
        "comprendre",
        "understand understood",
        "person text",
        present="comprends comprends comprend comprenons comprenez comprennent",
        participle="compris",
        future="comprendr",
    ),
    _verb("finir", "finish finished", "text"),
    _verb("choisir", "choose chose", f"{GOODS}"),
    _verb("dessiner", "draw drew", f"{LIVING} thing place"),
    _verb("oublier", "forget forgot", f"{SOLID} person"),
]
# Of these an object with the definite article may be meant in general, and English then has no article.
LIKING_VERBS = [
    _verb("aimer", "like liked", f"{GOODS} animal place"),
    _verb("détester", "hate hated", ALL),
    _verb("préférer", "prefer preferred", f"{GOODS} animal place"),
]
INTRANSITIVE_VERBS = [
    _verb("chanter", "sing sang"),
    _verb("danser", "dance danced"),
    _verb("nager", "swim swam"),
    _verb(
        "courir",
        "run ran",
        present="cours cours court courons courez courent",
        participle="couru",
        future="courr",
    ),
    _verb("marcher", "walk walked"),
    _verb("dormir", "sleep slept", present="dors dors dort dormons dormez dorment", participle="dormi"),
    _verb("travailler", "work worked"),
    _verb("étudier", "study studied"),
    _verb("jouer", "play played"),
    _verb("rire", "laugh laughed", present="ris ris rit rions riez rient", participle="ri", future="rir"),
    _verb("pleurer", "cry cried"),
    _verb("voyager", "travel travelled"),
    _verb("commencer", "begin began"),
    _verb(
        "partir",
        "leave left",
        present="pars pars part partons partez partent",
        participle="parti",
        with_be=True,
    ),
    _verb("arriver", "arrive arrived", with_be=True),
    COME,
    _verb("tomber", "fall fell", with_be=True),
    _verb("rester", "stay stayed", with_be=True),
]
DATIVE_VERBS = [
    _verb("donner", "give gave", f"{GOODS} animal"),
    _verb("montrer", "show showed", f"{SOLID} place"),
    _verb(
        "envoyer",
        "send sent",
        "text clothes thing",
        present="envoie envoies envoie envoyons envoyez envoient",
        future="enverr",
    ),
]
# With an infinitive after them; the particle stands between the English verbs.
INFINITIVE_VERBS = [
    replace(WANT, particle=("to",)),
    replace(WISH, particle=("like", "to")),
    CAN,
    MUST,
    _verb("aimer", "like liked to"),
    _verb("espérer", "hope hoped to"),
    replace(KNOW, particle=("how", "to")),
]
# Of these the object may be left out.
_ABSOLUTE = ("manger", "boire", "lire", "écrire", "écouter", "attendre", "conduire", "comprendre", "oublier")
ABSOLUTE_VERBS = [
    *(replace(verb, particle=()) for verb in TRANSITIVE_VERBS if verb.infinitive in _ABSOLUTE),
    KNOW,
]
