"""What sentence-transformers adds to a folder: the chain of modules, maximum lengths, prompts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from attnlib import nn
from attnlib.models.files.config import JsonFile, parse_json, stays_inside
from attnlib.models.files.safetensors_file import SafetensorsFile
from attnlib.models.pooling import Vectors, read_pooling

__all__ = ["Modules", "read_max_length", "read_modules", "read_prompt"]

_ACTIVATIONS = {
    "torch.nn.modules.linear.Identity": None,
    "torch.nn.modules.activation.Tanh": "tanh",
    "torch.nn.modules.activation.ReLU": "relu",
    "torch.nn.modules.activation.GELU": "gelu",
    "torch.nn.modules.activation.SiLU": "silu",
}


class Modules:
    """The chain of ``modules.json``: a transformer, pooling, then any dense layers, perhaps a normalisation.

    Parameters
    ----------
    root
        The model's folder. Without ``modules.json`` in it, pooling is by the mean and nothing follows.
    """

    def __init__(self, root: Path) -> None:
        self._file = root / "modules.json"
        chain = read_modules(self._file) if self._file.is_file() else [("Transformer", root)]
        kind, self.transformer = chain.pop(0) if chain else ("nothing", root)
        if kind != "Transformer":
            raise ValueError(f"{self._file}: type of the first module must be Transformer, found {kind}")
        self._pooling = (
            JsonFile(chain.pop(0)[1] / "config.json") if chain and chain[0][0] == "Pooling" else None
        )
        if self._pooling is None and self._file.is_file():
            raise ValueError(f"{self._file}: type of the second module must be Pooling")
        self.normalize = bool(chain) and chain[-1][0] == "Normalize"
        if self.normalize:
            chain.pop()
        for kind, _ in chain:
            if kind != "Dense":
                raise ValueError(f"{self._file}: type {kind} is not supported at this place")
        self._dense = [folder for _, folder in chain]

    def pooling(self, hidden_size: int) -> tuple[str, ...]:
        """Return the modes of pooling whose vectors are joined."""
        return ("mean",) if self._pooling is None else read_pooling(self._pooling, hidden_size)

    @property
    def include_prompt(self) -> bool:
        """Whether the tokens of the prompt are pooled, too."""
        return self._pooling is None or self._pooling.boolean("include_prompt", True)

    def head(self, width: int) -> list[Callable[[Vectors], Vectors]]:
        """Load the dense layers that follow pooling, which gives vectors of size `width`."""
        steps: list[Callable[[Vectors], Vectors]] = []
        for folder in self._dense:
            file = JsonFile(folder / "config.json")
            if (size := file.integer("in_features", 1, 1 << 20)) != width:
                raise file.error("in_features", f"is {size}, but the vectors before it have size {width}")
            width = file.integer("out_features", 1, 1 << 20)
            bias = file.boolean("bias", True)
            activation = file.choice(
                "activation_function", _ACTIVATIONS, default="torch.nn.modules.activation.Tanh"
            )
            if file.boolean("use_residual", False):
                raise file.error("use_residual", "is not supported")
            weights = SafetensorsFile(folder / "model.safetensors")
            layer = nn.Linear(size, width, bias).to("float32")
            try:
                layer.load_state_dict(
                    {name.removeprefix("linear."): weights.tensor(name) for name in weights.shapes}
                )
            except ValueError as error:
                raise ValueError(f"{weights.path}: {error}") from None
            steps.append(partial(layer, activation=activation))
        return steps


def read_modules(path: Path) -> list[tuple[str, Path]]:
    """Read ``modules.json``: the kind of each module and its folder."""
    entries = parse_json(path)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{path}: expected a JSON list of objects")
    chain = []
    for number, entry in enumerate(entries):
        kind, place = entry.get("type"), entry.get("path")
        for field, value in (("type", kind), ("path", place)):
            if not isinstance(value, str):
                raise ValueError(f"{path}: {field} of module {number} must be a string, found {value!r}")
        if not stays_inside(place):
            raise ValueError(f"{path}: path of module {number} leaves the folder: {place!r}")
        chain.append((kind.rsplit(".", 1)[-1], path.parent / place))
    return chain


def read_max_length(folder: Path, positions: int) -> tuple[int, bool]:
    """Read how many tokens of a text count, at most `positions`, and whether to bring it to lower case."""
    sentence = folder / "sentence_bert_config.json"
    if sentence.is_file():
        file = JsonFile(sentence)
        lower_case = file.boolean("do_lower_case", False)
        if "max_seq_length" in file:
            return min(file.integer("max_seq_length", 1, 1 << 62), positions), lower_case
    else:
        lower_case = False
    tokenizer = folder / "tokenizer_config.json"
    if tokenizer.is_file():
        # Tokenizers without a limit of their own have some 10^30 here.
        limit = JsonFile(tokenizer).number("model_max_length", 1, float("inf"), default=float("inf"))
        positions = int(min(limit, positions))
    return positions, lower_case


def read_prompt(root: Path) -> str:
    """Read the prompt that stands before every text, if ``config_sentence_transformers.json`` has one."""
    path = root / "config_sentence_transformers.json"
    if not path.is_file():
        return ""
    file = JsonFile(path)
    if "default_prompt_name" not in file:
        return ""
    name = file.text("default_prompt_name")
    prompts = file.get("prompts")
    if not isinstance(prompts, dict) or not isinstance(prompts.get(name), str):
        raise file.error("default_prompt_name", f"{name!r} is not among prompts")
    prompt: str = prompts[name]
    return prompt
