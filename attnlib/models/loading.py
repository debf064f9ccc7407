"""From a Hugging Face folder or a GGUF file to a model."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from numpy.typing import DTypeLike

from attnlib.models.families import bert, distilbert, gpt2, llama, marian, mpnet, roberta, t5
from attnlib.models.families.decoder import Decoder
from attnlib.models.families.encoder_decoder import EncoderDecoder
from attnlib.models.files.checkpoint import Checkpoint, open_safetensors
from attnlib.models.files.config import JsonFile
from attnlib.models.files.gguf_file import GgufFile
from attnlib.models.files.modules import Modules, read_max_length, read_prompt
from attnlib.models.files.safetensors_file import SafetensorsFile
from attnlib.models.files.weights import load_weights
from attnlib.models.generation.settings import read_settings
from attnlib.models.language_model import LanguageModel
from attnlib.models.memory import trim
from attnlib.models.sentence_encoder import SentenceEncoder
from attnlib.models.speech_loading import is_ctranslate2_folder, load_speech_model
from attnlib.models.speech_model import SpeechModel
from attnlib.models.text.marian_tokenizer import marian_tokenizer
from attnlib.models.text.sentence_tokenizer import Tokenizer
from attnlib.models.text.text_tokenizer import TextTokenizer, folder_tokenizer, gguf_tokenizer
from attnlib.models.text_to_text import TextToTextModel
from attnlib.nn.module import is_quantised

__all__ = ["load", "load_sentence_encoder"]

_Family = tuple[Callable[[JsonFile], bert.BertConfig], type[bert.BertModel], bert.WeightNames]

# By the model_type of config.json: a new family is a module that has these three, and a row here.
_FAMILIES: dict[str, _Family] = {
    "bert": (bert.read_config, bert.BertModel, bert.NAMES),
    "roberta": (roberta.read_config, bert.BertModel, roberta.NAMES),
    "xlm-roberta": (roberta.read_config, bert.BertModel, roberta.NAMES),
    "camembert": (roberta.read_config, bert.BertModel, roberta.NAMES),
    "distilbert": (distilbert.read_config, bert.BertModel, distilbert.NAMES),
    "mpnet": (mpnet.read_config, mpnet.MPNetModel, mpnet.NAMES),
}

# Decoder-only language models likewise.
_DECODERS: dict[str, Callable[[JsonFile], Decoder]] = {
    **dict.fromkeys(
        ("llama", "mistral", "qwen2", "qwen3"), lambda file: llama.LlamaModel(llama.read_config(file))
    ),
    "gpt2": lambda file: gpt2.Gpt2Model(gpt2.read_config(file)),
}

# And encoder-decoders from text to text.
_ENCODER_DECODERS: dict[str, Callable[[JsonFile], EncoderDecoder]] = {
    "marian": lambda file: marian.MarianModel(marian.read_config(file)),
    "t5": lambda file: t5.T5Model(t5.read_config(file)),
}


def load(
    path: str | os.PathLike[str], *, dtype: DTypeLike = "float32"
) -> SentenceEncoder | LanguageModel | TextToTextModel | SpeechModel:
    """Load a model: a language model from a folder or a GGUF file, or another model from a folder.

    Which it is, ``model_type`` in ``config.json`` or ``general.architecture`` in the header says. Weights are
    memory-mapped and packed one by one, so that loading takes little more memory than the packed model.

    Parameters
    ----------
    path
        A GGUF file of a Llama, Mistral, SmolLM, Qwen2 or Qwen3 model; or a folder in the usual Hugging Face
        layout, of one of these, of GPT-2, T5, Marian or Whisper, or of a sentence encoder; or a folder of
        Whisper in the layout of CTranslate2 and faster-whisper.
    dtype
        ``"float32"`` (default), ``"bfloat16"``, ``"int8"`` or ``"int4"`` weights. What is between the
        products of a quantised model is float32, of a sentence encoder bfloat16.

    Returns
    -------
    SentenceEncoder, LanguageModel, TextToTextModel or SpeechModel

    Raises
    ------
    FileNotFoundError
        If the path or one of the files is not there.
    ValueError
        If a file is malformed, does not fit the others, or asks for what is not supported. The message names
        the file and the field or tensor.
    ImportError
        If a package of the extra ``models`` is not installed.

    Examples
    --------
    >>> import attnlib.models
    >>> encoder = attnlib.models.load("all-MiniLM-L6-v2")  # doctest: +SKIP
    >>> encoder.encode(["A text.", "Another."]).shape  # doctest: +SKIP
    (2, 384)
    """
    place = Path(path)
    if place.is_file() or place.suffix == ".gguf":
        file = GgufFile(place)
        from_header = gguf_tokenizer(file.fields)
        file.forget_tokenizer()
        trim(objects=True)
        return _language_model(llama.LlamaModel(llama.read_gguf_config(file)), file, from_header, dtype)
    if not place.is_dir():
        raise FileNotFoundError(f"{place}: there is no such folder")
    if is_ctranslate2_folder(place):
        return load_speech_model(place, dtype=dtype)
    if not (place / "modules.json").is_file():
        config = JsonFile(place / "config.json")
        known = (*_FAMILIES, *_DECODERS, *_ENCODER_DECODERS, "whisper")
        kind = config.choice("model_type", {name: name for name in known})
        if kind == "whisper":
            return load_speech_model(place, dtype=dtype)
        if kind in _DECODERS:
            decoder = _DECODERS[kind](config)
            return _language_model(decoder, open_safetensors(place), folder_tokenizer(place, config), dtype)
        if kind in _ENCODER_DECODERS:
            model = _ENCODER_DECODERS[kind](config)
            settings = read_settings(place, config, model.vocab_size)
            tokenizer = (
                marian_tokenizer(place, config, model.config.vocab_size, model.vocab_size)
                if isinstance(model, marian.MarianModel)
                else folder_tokenizer(place, config)
            )
            model.prepare(dtype)
            model.load(open_safetensors(place))
            return TextToTextModel(model, tokenizer, settings)
    return load_sentence_encoder(place, dtype=dtype)


def _language_model(
    decoder: Decoder, checkpoint: Checkpoint, tokenizer: TextTokenizer | None, dtype: DTypeLike
) -> LanguageModel:
    decoder.prepare(dtype)
    decoder.load(checkpoint)
    return LanguageModel(decoder, tokenizer)


def load_sentence_encoder(folder: str | os.PathLike[str], *, dtype: DTypeLike = "float32") -> SentenceEncoder:
    """Load a sentence encoder of the BERT family from a folder.

    Read are ``config.json``, ``model.safetensors``, ``tokenizer.json`` and, where they are,
    ``tokenizer_config.json`` and what sentence-transformers adds: ``modules.json``, the files of its modules,
    ``sentence_bert_config.json`` and ``config_sentence_transformers.json``.

    Parameters
    ----------
    folder
        A folder in the usual Hugging Face layout, of a BERT, MiniLM, RoBERTa, XLM-RoBERTa, CamemBERT,
        DistilBERT or MPNet model. Pooling, normalisation and the maximum length are those of its own files;
        a folder without ``modules.json`` is pooled by the mean and not normalised.
    dtype
        What to compute in: ``"float32"`` (default), ``"bfloat16"``, or any other that `nn.Module.to` takes:
        ``"int8"`` quantises the weights of products and, row by row, what is multiplied with them, and keeps
        the rest in bfloat16. The vectors are float32 all the same.

    Returns
    -------
    SentenceEncoder

    Raises
    ------
    FileNotFoundError
        If the folder or one of the files is not there.
    ValueError
        If a file is malformed, does not fit the others, or asks for what is not supported. The message names
        the file and the field or tensor.
    ImportError
        If safetensors or tokenizers are not installed.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: there is no such folder")
    modules = Modules(root)
    place = modules.transformer
    file = JsonFile(place / "config.json")
    read_config, model_class, names = file.choice("model_type", _FAMILIES)
    config = read_config(file)
    pooling = modules.pooling(config.hidden_size)
    max_length, lower_case = read_max_length(place, config.max_length)
    tokenizer = Tokenizer(
        place / "tokenizer.json",
        vocab_size=config.vocab_size,
        max_length=max_length,
        lower_case=lower_case,
    )
    weights = SafetensorsFile(place / "model.safetensors")

    # Nothing is loaded yet: this says what to convert to on the way in. First the dtype of everything, since
    # quantised formats leave biases and norms as they are; between products of 8 bits, bfloat16 holds enough.
    model = model_class(config)
    model.to("bfloat16" if is_quantised(dtype) else "float32")
    model.to(dtype)
    load_weights(model, weights, names)
    return SentenceEncoder(
        model,
        tokenizer,
        pooling=pooling,
        head=modules.head(config.hidden_size * len(pooling)),
        normalize=modules.normalize,
        prompt=read_prompt(root),
        include_prompt=modules.include_prompt,
    )
