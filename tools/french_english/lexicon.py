"""The nouns, adjectives and names that the grammar knows."""

from __future__ import annotations

from french_english.kinds import ALL, GOODS, LIVING, SOLID
from french_english.words import (
    Adjective,
    Noun,
    english_plural,
    french_plural,
)

__all__ = [
    "ADJECTIVES",
    "CITIES",
    "COUNTRIES",
    "LANGUAGES",
    "NAMES",
    "NATIONALITIES",
    "NOUNS",
    "NUMBERS",
    "PROFESSIONS",
    "SENSATIONS",
]

# French, gender, English, and perhaps irregular plurals, French and English ("=" is regular).
_NOUNS = {
    "person": """
        homme m man = men, femme f woman = women, garçon m boy, fille f girl, enfant m child = children,
        père m father, mère f mother, frère m brother, sœur f sister, ami m friend, amie f friend,
        oncle m uncle, tante f aunt, cousin m cousin, cousine f cousin, voisin m neighbour,
        voisine f neighbour, mari m husband, roi m king, reine f queen, bébé m baby""",
    "profession": """
        étudiant m student, étudiante f student, professeur m teacher, médecin m doctor, boulanger m baker,
        avocat m lawyer, avocate f lawyer, acteur m actor, actrice f actress, chanteur m singer,
        chanteuse f singer, infirmière f nurse, ingénieur m engineer, écrivain m writer, cuisinier m cook,
        musicien m musician, musicienne f musician, vendeur m seller, fermier m farmer, soldat m soldier""",
    "animal": """
        chat m cat, chien m dog, cheval m horse, oiseau m bird, vache f cow, souris f mouse = mice,
        lapin m rabbit, mouton m sheep = sheep, poule f hen, lion m lion, éléphant m elephant""",
    "food": """
        pomme f apple, orange f orange, poire f pear, gâteau m cake, œuf m egg, tomate f tomato = tomatoes,
        poisson m fish = fish, légume m vegetable, fruit m fruit, banane f banana, carotte f carrot""",
    "foodstuff": """
        pain m bread, fromage m cheese, viande f meat, soupe f soup, riz m rice, chocolat m chocolate,
        beurre m butter, salade f salad""",
    "drink": "eau f water, café m coffee, thé m tea, lait m milk, vin m wine, bière f beer",
    "text": """
        livre m book, lettre f letter, journal m newspaper, histoire f story, article m article,
        poème m poem""",
    "sound": "chanson f song, radio f radio",
    "door": "porte f door, fenêtre f window, boîte f box, valise f suitcase, magasin m shop",
    "clothes": """
        chemise f shirt, robe f dress, chapeau m hat, manteau m coat, jupe f skirt, chaussure f shoe,
        écharpe f scarf = scarves""",
    "vehicle": "voiture f car, train m train, vélo m bicycle, avion m plane, bateau m boat, autobus m bus",
    "thing": """
        table f table, chaise f chair, lit m bed, clé f key, sac m bag, stylo m pen, lampe f lamp,
        photo f photo, fleur f flower, arbre m tree, ordinateur m computer, téléphone m telephone,
        montre f watch, cadeau m present, ballon m ball, tasse f cup, verre m glass, assiette f plate,
        couteau m knife = knives, image f picture""",
    "place": """
        maison f house, jardin m garden, école f school, gare f station, marché m market, ville f town,
        village m village, parc m park, restaurant m restaurant, hôtel m hotel, bureau m office,
        bibliothèque f library, plage f beach, forêt f forest, rue f street, cuisine f kitchen,
        chambre f bedroom, église f church, hôpital m hospital, musée m museum, pont m bridge, île f island,
        université f university, montagne f mountain""",
}
_STUFF = ("foodstuff", "drink")


def _nouns(kind: str) -> list[Noun]:
    nouns = []
    for entry in _NOUNS[kind].split(","):
        french, gender, english, *irregular = entry.split()
        plurals = [french_plural(french), english_plural(english)]
        for place, form in enumerate(irregular):
            if form != "=":
                plurals[place] = form
        plural = None if kind in _STUFF else plurals[0]
        kind_of = {"profession": "person", "foodstuff": "food"}.get(kind, kind)
        nouns.append(Noun(french, plural, gender, english, plurals[1], kind_of))
    return nouns


NOUNS = [noun for kind in _NOUNS for noun in _nouns(kind)]
PROFESSIONS = _nouns("profession")

# French forms (masculine; feminine or "=": with an e; before a vowel), English (of persons after a slash),
# comparative ("more": with that word), kinds of nouns.
_BEFORE = f"""
    grand = grand; big/tall; bigger/taller; {LIVING} {SOLID} place
    petit = petit; small; smaller; {LIVING} {SOLID} place food
    beau belle bel; beautiful; more; {ALL}
    vieux vieille vieil; old; older; {LIVING} {SOLID} place
    nouveau nouvelle nouvel; new; newer; {SOLID} sound place
    jeune jeune jeune; young; younger; {LIVING}
    bon bonne bon; good; better; person food drink text sound
    mauvais = mauvais; bad; worse; food drink text sound
    joli = joli; pretty; prettier; {SOLID} place sound
    gros grosse gros; fat; fatter; {LIVING}"""
_AFTER = f"""
    rouge rouge; red; redder; {SOLID}
    noir =; black; blacker; {SOLID} animal
    blanc blanche; white; whiter; {SOLID} animal
    vert =; green; greener; {SOLID}
    bleu =; blue; bluer; {SOLID}
    jaune jaune; yellow; yellower; {SOLID}
    gris =; grey; greyer; {SOLID} animal
    heureux heureuse; happy; happier; {LIVING}
    triste triste; sad; sadder; {LIVING}
    fatigué =; tired; more; {LIVING}
    malade malade; sick; sicker; {LIVING}
    intelligent =; intelligent; more; {LIVING}
    intéressant =; interesting; more; person text place
    important =; important; more; person text thing place
    riche riche; rich; richer; person
    pauvre pauvre; poor; poorer; person
    célèbre célèbre; famous; more; person text place sound
    gentil gentille; kind; kinder; {LIVING}
    cher chère; expensive; more; {GOODS}
    froid =; cold; colder; food drink place
    chaud =; hot; hotter; food drink place
    délicieux délicieuse; delicious; more; food drink
    propre propre; clean; cleaner; {SOLID} place
    sale sale; dirty; dirtier; {SOLID} place
    lourd =; heavy; heavier; thing door
    rapide rapide; fast; faster; vehicle animal
    long longue; long; longer; text sound
    facile facile; easy; easier; text
    difficile difficile; difficult; more; text
    calme calme; quiet; quieter; place person
    fort =; strong; stronger; {LIVING}
    français =; french; more; person food drink text place
    anglais =; english; more; person text place vehicle"""


def _adjective(entry: str, before: bool) -> Adjective:
    forms, english, comparative, kinds = (field.strip() for field in entry.split(";"))
    masculine, feminine, *elided = forms.split()
    feminine = masculine + "e" if feminine == "=" else feminine
    general, _, of_persons = english.partition("/")
    more, _, more_of_persons = comparative.partition("/")
    return Adjective(
        (masculine, feminine, french_plural(masculine), feminine + "s", elided[0] if elided else masculine),
        (general, of_persons or general),
        None if more == "more" else (more, more_of_persons or more),
        before,
        frozenset(kinds.split()),
    )


ADJECTIVES = [
    _adjective(entry, before)
    for table, before in ((_BEFORE, True), (_AFTER, False))
    for entry in table.strip().splitlines()
]
NATIONALITIES = [adjective for adjective in ADJECTIVES if adjective.forms[0] in ("français", "anglais")]


NAMES = {
    "marie": "f",
    "paul": "m",
    "anne": "f",
    "pierre": "m",
    "sophie": "f",
    "louis": "m",
    "alice": "f",
    "jean": "m",
}
CITIES = {"paris": "paris", "londres": "london", "lyon": "lyon", "rome": "rome", "berlin": "berlin"}
# With the preposition for being there or going there.
COUNTRIES = {
    "france": ("en", "france"),
    "angleterre": ("en", "england"),
    "espagne": ("en", "spain"),
    "italie": ("en", "italy"),
    "allemagne": ("en", "germany"),
    "canada": ("au", "canada"),
    "japon": ("au", "japan"),
}
LANGUAGES = {
    "français": "french",
    "anglais": "english",
    "espagnol": "spanish",
    "allemand": "german",
    "italien": "italian",
}
# What French has and English is.
SENSATIONS = {
    "faim": "hungry",
    "soif": "thirsty",
    "froid": "cold",
    "chaud": "hot",
    "peur": "afraid",
    "raison": "right",
    "tort": "wrong",
    "sommeil": "sleepy",
}
NUMBERS = {
    "deux": "two",
    "trois": "three",
    "quatre": "four",
    "cinq": "five",
    "six": "six",
    "sept": "seven",
    "huit": "eight",
    "neuf": "nine",
    "dix": "ten",
    "douze": "twelve",
    "vingt": "twenty",
    "trente": "thirty",
}
