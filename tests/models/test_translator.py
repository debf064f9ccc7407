"""The translator that comes with attnlib: its network against PyTorch, its words, its translations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import train_translator
from arrays import epsilon
from processes import RunPython

import attnlib as al
from attnlib import models
from attnlib.models.files.safetensors_file import SafetensorsFile
from attnlib.models.translator import read_translator

# That of the package under test, which may be an installed one.
FILE = Path(al.__file__).parent / "data" / train_translator.FILE.name
SENTENCES = [
    "je suis étudiant",
    "n'as-tu pas vu la maison blanche de mon voisin ?",
    "bonjour, je m'appelle marie.",
    "merci",
]


@pytest.fixture(scope="module")
def translator() -> models.Translator:
    return models.load_translator()


@pytest.fixture(scope="module")
def targets(translator: models.Translator) -> list[list[int]]:
    """What a decoder reads to write the translations."""
    generated = translator.generate(SENTENCES)
    return [[translator.words.start_id, *each.tokens[:-1]] for each in generated]


@pytest.fixture(scope="module")
def oracle() -> Any:
    """The network of the training script with the weights of the file, in float64."""
    torch = pytest.importorskip("torch")
    file = SafetensorsFile(FILE, checked=False)
    fields = json.loads(file.metadata["translator"])
    source, target = fields.pop("source"), fields.pop("target")
    model = train_translator.make_model(len(source), len(target), fields)
    state = {name: torch.from_numpy(file.tensor(name).astype(np.float64)) for name in file.shapes}
    model = model.double()
    model.load_state_dict(state)
    return model.eval()


def assert_agrees(found: np.ndarray, wanted: Any) -> None:
    """As the tests of nn.Transformer demand it."""
    wanted = wanted.detach().numpy()
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= 42 * epsilon(np.float32) * np.abs(wanted).max()


def test_it_agrees_with_pytorch(translator: models.Translator, targets: list[list[int]], oracle: Any) -> None:
    import torch

    for sentence, ids in zip(SENTENCES, targets, strict=True):
        source = translator.words.encode(sentence)
        logits = translator([source], [ids])
        assert_agrees(logits, oracle(torch.tensor([source]), torch.tensor([ids])))


def test_a_batch_agrees_with_pytorch(
    translator: models.Translator, targets: list[list[int]], oracle: Any
) -> None:
    sources = [translator.words.encode(sentence) for sentence in SENTENCES]
    padded = train_translator.padded(sources)
    ids = train_translator.padded(targets)
    wanted = oracle(padded, ids)
    found = translator(padded.numpy(), ids.numpy(), [len(source) for source in sources])
    for row, target in enumerate(targets):
        assert_agrees(found[row, : len(target)], wanted[row, : len(target)])


def test_cross_attention_agrees_with_pytorch(
    translator: models.Translator, targets: list[list[int]], oracle: Any
) -> None:
    import torch

    seen: list[Any] = []

    def look(module: Any, inputs: Any, options: Any) -> None:
        with torch.no_grad():
            wanted = {**options, "need_weights": True, "average_attn_weights": False}
            seen.append(torch.nn.MultiheadAttention.forward(module, *inputs, **wanted)[1][0])

    hooks = [
        layer.multihead_attn.register_forward_pre_hook(look, with_kwargs=True)
        for layer in oracle.transformer.decoder.layers
    ]
    source = translator.words.encode(SENTENCES[1])
    oracle(torch.tensor([source]), torch.tensor([targets[1]]))
    for hook in hooks:
        hook.remove()
    alignment = translator.align(SENTENCES[1])
    assert_agrees(alignment.weights, torch.stack(seen))
    np.testing.assert_allclose(alignment.weights.sum(-1), 1, rtol=1e-5)
    np.testing.assert_array_equal(alignment.mean, alignment.weights[-1].mean(0))
    assert alignment.source[-1] == alignment.target[-1] == "<end>"
    assert " ".join(alignment.target[:-1]) == "did you not see my neighbour 's white house ?"


def test_step_by_step_is_the_full_pass(translator: models.Translator, targets: list[list[int]]) -> None:
    network = translator.network
    for sentence, ids in zip(SENTENCES, targets, strict=True):
        source = [translator.words.encode(sentence)]
        full = network(source, [ids])
        past = network.begin(network.encode(source), capacity=1)
        steps = [network.logits(network.hidden(np.array([[token]]), past)) for token in ids]
        stepped = np.concatenate(steps, axis=1)
        assert np.abs(stepped - full).max() <= 42 * epsilon(np.float32) * np.abs(full).max()
        np.testing.assert_array_equal(stepped.argmax(-1), full.argmax(-1))


def test_bits_do_not_depend_on_batch_or_threads(translator: models.Translator) -> None:
    together = translator.generate(SENTENCES, return_logprobs=True)
    for threads in (1, 3):
        with al.num_threads(threads):
            alone = [translator.generate(sentence, return_logprobs=True) for sentence in SENTENCES]
        assert together == alone


def test_translations(translator: models.Translator) -> None:
    assert translator.translate("je suis étudiant") == "i am a student"
    assert translator.translate(SENTENCES) == [
        "i am a student",
        "did you not see my neighbour's white house?",
        "hello, my name is marie.",
        "thank you",
    ]
    assert translator.translate([]) == []
    assert "".join(translator.stream("il fait froid ce soir.")) == "it is cold this evening."
    assert translator.generate("je suis étudiant", num_beams=4).text == "i am a student"


@pytest.mark.parametrize("dtype", ["bfloat16", "int8", "int4"])
def test_other_weights(dtype: str) -> None:
    """What a few held-out sentences become, all but perhaps one as in float32."""
    chosen = train_translator.test_pairs(20)
    found = models.load_translator(dtype=dtype).translate([pair.french for pair in chosen])
    right = sum(text == pair.english for text, pair in zip(found, chosen, strict=True))
    assert right >= (10 if dtype == "int4" else 18)


def test_an_unknown_dtype() -> None:
    with pytest.raises(ValueError, match=r"dtype must be one of .*, got 'float16'"):
        models.load_translator(dtype="float16")


@pytest.mark.parametrize(
    "text",
    [
        "L'ÉLÉPHANT N'A PAS MANGÉ.",
        "l’éléphant n’a pas mangé .",
        "l'e\u0301le\u0301phant n'a pas mange\u0301.",
        "  l' éléphant\tn' a pas\nmangé.  ",
    ],
)
def test_spelling_that_does_not_matter(translator: models.Translator, text: str) -> None:
    assert translator.translate(text) == "the elephant did not eat."


def test_several_sentences(translator: models.Translator) -> None:
    text = "Je suis étudiant. Es-tu médecin ? Oui... Bonjour !"
    assert translator.translate(text).startswith("i am a student. are you a doctor? yes. ")
    whole = " ".join(["je suis étudiant."] * 30)
    assert translator.translate(whole) == " ".join(["i am a student."] * 30)
    with pytest.raises(ValueError, match="align: one sentence at a time, got 4"):
        translator.align(text)


@pytest.mark.parametrize("text", ["", " \n"])
def test_nothing_to_translate(translator: models.Translator, text: str) -> None:
    with pytest.raises(ValueError, match="translate: a text is empty"):
        translator.translate(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("je suis etudiant", r"the model does not know 'etudiant', but .*étudiant"),
        ("le ptérodactyle et le quark", r"'ptérodactyle'.*; the model does not know 'quark'"),
        ("j'ai 3 chats <end>", r"does not know '3'.*'<'"),
        ("\udcff", r"does not know '\\udcff'"),
        ("日本", "does not know '日本'"),
    ],
)
def test_unknown_words(translator: models.Translator, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as info:
        translator.translate(text)
    assert str(info.value).startswith("translate: ")
    assert f"{len(translator.words.source_words)} words" in str(info.value)


def test_a_sentence_that_is_too_long(translator: models.Translator) -> None:
    assert translator.translate(" et ".join(["elle chante"] * 5))
    with pytest.raises(ValueError, match="a source has 60 tokens, the encoder takes 32"):
        translator.translate(" et ".join(["elle chante"] * 20))


def test_it_needs_no_optional_package(run_python: RunPython) -> None:
    code = """if True:
        import sys
        for name in ("safetensors", "tokenizers", "gguf", "jinja2", "tqdm", "torch"):
            sys.modules[name] = None
        import attnlib
        assert "attnlib.models" not in sys.modules
        print(attnlib.models.load_translator().translate("je suis étudiant"))
    """
    assert run_python(code).stdout == "i am a student\n"


def test_the_file() -> None:
    assert FILE.stat().st_size <= 1.5e6
    if train_translator.FILE.exists():  # tools/build_wheels runs the tests without a source tree
        assert FILE.read_bytes() == train_translator.FILE.read_bytes()
    # The library finds nothing wrong with it either.
    pytest.importorskip("safetensors")
    assert SafetensorsFile(FILE).shapes == SafetensorsFile(FILE, checked=False).shapes


def test_a_file_that_does_not_fit_its_sizes(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    file = SafetensorsFile(FILE)
    tensors = {name: file.tensor(name) for name in file.shapes}
    fields = json.loads(file.metadata["translator"])
    for change, message in (
        ({"d_model": 48}, "the configuration wants"),
        ({"num_decoder_layers": 3}, "is missing"),
        ({"nhead": 0}, "nhead must be from 1"),
        ({"target": ["a", "b"]}, "target must begin with <padding>, <start>, <end>"),
        ({"source": [*fields["source"], fields["source"][-1]]}, "source has a word twice"),
    ):
        path = tmp_path / "changed.safetensors"
        safetensors.save_file(tensors, path, metadata={"translator": json.dumps({**fields, **change})})
        with pytest.raises(ValueError, match=message):
            read_translator(SafetensorsFile(path))
    safetensors.save_file(tensors, path)
    with pytest.raises(ValueError, match=r"changed.safetensors: the metadata have no entry"):
        read_translator(SafetensorsFile(path))
