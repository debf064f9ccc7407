"""The grammar that the translator's corpus comes from, and the script that trains on it."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import islice
from pathlib import Path
from random import Random

import pytest
import train_translator
from french_english import lexicon, verbs
from french_english.phrases import join_english, join_french
from french_english.sentences import draw, held_out, pairs
from french_english.words import french_plural
from processes import RunPython

from attnlib.models.files.safetensors_file import SafetensorsFile
from attnlib.models.translator import load_translator, read_translator

TOOLS = Path(train_translator.__file__).parent
SOME = 20_000


def verb(infinitive: str) -> verbs.Verb:
    every = [verbs.BE, verbs.GO, *verbs.TRANSITIVE_VERBS, *verbs.INTRANSITIVE_VERBS]
    every += [*verbs.LIKING_VERBS, *verbs.DATIVE_VERBS, *verbs.INFINITIVE_VERBS]
    return next(each for each in every if each.infinitive == infinitive)


@pytest.mark.parametrize(
    ("infinitive", "present", "participle", "future"),
    [
        ("manger", "mange manges mange mangeons mangez mangent", "mangé", "mangerai"),
        ("acheter", "achète achètes achète achetons achetez achètent", "acheté", "achèterai"),
        ("préférer", "préfère préfères préfère préférons préférez préfèrent", "préféré", "préférerai"),
        ("appeler", "appelle appelles appelle appelons appelez appellent", "appelé", "appellerai"),
        ("finir", "finis finis finit finissons finissez finissent", "fini", "finirai"),
        ("attendre", "attends attends attend attendons attendez attendent", "attendu", "attendrai"),
        ("étudier", "étudie étudies étudie étudions étudiez étudient", "étudié", "étudierai"),
        ("voir", "vois vois voit voyons voyez voient", "vu", "verrai"),
    ],
)
def test_conjugation(infinitive: str, present: str, participle: str, future: str) -> None:
    found = verb(infinitive)
    assert " ".join(found.present) == present
    assert (found.participle, found.future(0)) == (participle, future)


def test_agreement() -> None:
    forms = {adjective.forms[0]: adjective for adjective in lexicon.ADJECTIVES}
    assert forms["beau"].french("m", False, "arbre") == "bel"
    assert forms["beau"].french("m", False, "chat") == "beau"
    assert forms["beau"].french("m", True, "arbre") == "beaux"
    assert forms["blanc"].french("f", True) == "blanches"
    assert [french_plural(word) for word in ("cheval", "bateau", "bleu", "gris", "chat")] == [
        "chevaux", "bateaux", "bleus", "gris", "chats",
    ]  # fmt: skip
    assert verb("partir").agreed_participle("f", True) == "parties"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("je ai le homme", "j'ai l'homme"),
        ("le livre de le père et de les enfants", "le livre du père et des enfants"),
        ("il va à le marché à les îles à le hôtel", "il va au marché aux îles à l'hôtel"),
        ("près de de grands arbres .", "près de grands arbres."),
        ("manges -tu ?", "manges-tu ?"),
    ],
)
def test_elision_and_contraction(words: str, text: str) -> None:
    assert join_french(words.split()) == text


def test_indefinite_articles() -> None:
    words = ["a", "apple", ",", "a", "university", "and", "marie", "'s", "a", "old", "cat", "?"]
    assert join_english(words) == "an apple, a university and marie's an old cat?"


def test_each_sentence_has_one_translation() -> None:
    rng = Random(3)
    english: dict[str, str] = {}
    for pair in (draw(rng) for _ in range(5 * SOME)):
        assert english.setdefault(pair.french, pair.english) == pair.english


def test_sentences() -> None:
    for pair in islice(pairs(4), SOME):
        assert 1 <= len(pair.french.split()) <= 16
        assert pair.french == pair.french.lower()
        assert not re.search(r"\b(?:le|la|je|ne|de|que) [aeiouéèêâî]", pair.french), pair.french
        assert not re.search(r"\ba [aeio]|\b(?:de|à) les? (?![aeiouyéèêâîh])", pair.english), pair.english


def test_nothing_held_out_is_trained_on() -> None:
    chosen = train_translator.test_pairs(200)
    corpus = train_translator.training_pairs(3 * SOME)
    known = {combination for pair in corpus for combination in pair.combinations}
    assert len({pair.french for pair in chosen}) == 200
    for pair in chosen:
        assert held_out(pair)
        assert not pair.combinations <= known
    assert not {pair.french for pair in chosen} & {pair.french for pair in corpus}
    # Each word of them was trained on, though.
    words = {word for pair in corpus for word in re.findall(r"\w+", pair.french)}
    assert {word for pair in chosen for word in re.findall(r"\w+", pair.french)} <= words


def test_the_corpus_is_the_same_in_every_process(run_python: RunPython) -> None:
    code = f"""if True:
        import sys
        sys.path.insert(0, {str(TOOLS)!r})
        from itertools import islice
        from french_english.sentences import pairs
        for pair in islice(pairs(5), 500):
            print(pair.french, pair.english, sep="|")
    """
    once, again = (run_python(code, env={"PYTHONHASHSEED": seed}).stdout for seed in "12")
    assert once == again
    assert once.splitlines() == [f"{pair.french}|{pair.english}" for pair in islice(pairs(5), 500)]


def test_the_accuracy_that_is_stated() -> None:
    chosen = train_translator.test_pairs(200)
    found = load_translator().translate([pair.french for pair in chosen])
    wrong = [(pair.french, text) for pair, text in zip(chosen, found, strict=True) if text != pair.english]
    assert len(wrong) <= 10, wrong


def test_training(tmp_path: Path) -> None:
    """Three steps of the real thing, twice: the same bytes, a file that loads, and no pretended accuracy."""
    pytest.importorskip("torch")
    files = [tmp_path / "one.safetensors", tmp_path / "two.safetensors"]
    program = [sys.executable, "-W", "error", str(TOOLS / "train_translator.py")]
    for file in files:
        subprocess.run(
            [*program, "--file", str(file), "--pairs", "300", "--threads", "1"],
            check=True,
            capture_output=True,
            timeout=300,
        )
    assert files[0].read_bytes() == files[1].read_bytes()
    assert read_translator(SafetensorsFile(files[0])).network.config.d_model == 96
    checked = subprocess.run(
        [*program, "--file", str(files[0]), "--check", "--pairs", "1"],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    # It has hardly a word.
    assert checked.returncode in (1, 2), checked.stderr
