"""Train the French-English translator that comes with attnlib, or measure the one that is there.

``python tools/train_translator.py`` writes ``attnlib/data/translator.safetensors``. It needs PyTorch and the
extra ``models``, and takes about five minutes on one core. With ``--check`` attnlib itself translates
held-out sentences by the file that is there, and the script says how many are right to the letter.

The corpus comes from the grammar in ``french_english/``. No training sentence has any of the combinations of
words (a verb with an object, a noun with an adjective, ...) that `held_out` sets aside, and each held-out
sentence has at least one. All chance has a fixed seed: the corpus is the same wherever it is made; the
weights are the same, to the bit, for one version of PyTorch, one number of threads and one kind of CPU.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from french_english.sentences import Pair, held_out, pairs

from attnlib import sinusoidal_encoding
from attnlib.models.files.safetensors_file import SafetensorsFile
from attnlib.models.text.word_tokenizer import END, SPECIAL, START, split_words
from attnlib.models.translator import read_translator

if TYPE_CHECKING:
    from torch import Tensor, nn

FILE = Path(__file__).parents[1] / "attnlib" / "data" / "translator.safetensors"

TRAINING_SEED, TEST_SEED = 1, 2
TRAINING_PAIRS = 360_000
TEST_PAIRS = 200
LEAST_ACCURACY = 0.95

# The arguments of `nn.Transformer`, and the most tokens of a sentence.
CONFIG = {
    "d_model": 96,
    "nhead": 4,
    "num_encoder_layers": 2,
    "num_decoder_layers": 2,
    "dim_feedforward": 256,
    "activation": "relu",
    "norm_first": True,
    "max_length": 32,
}
# Few pairs are seen twice, so there is little to overfit.
DROPOUT = 0.02
BATCH = 128
PEAK_RATE = 3e-3


def training_pairs(count: int) -> list[Pair]:
    """Draw pairs to train on."""
    return list(islice((pair for pair in pairs(TRAINING_SEED) if not held_out(pair)), count))


def test_pairs(count: int) -> list[Pair]:
    """Draw pairs to be judged by, all of them different."""
    chosen: dict[str, Pair] = {}
    for pair in pairs(TEST_SEED):
        if held_out(pair):
            chosen.setdefault(pair.french, pair)
        if len(chosen) == count:
            break
    return list(chosen.values())


def vocabularies(corpus: Sequence[Pair]) -> tuple[list[str], list[str]]:
    """List the tokens of both sides."""
    french = {word for pair in corpus for word in split_words(pair.french)}
    english = {word for pair in corpus for word in split_words(pair.english)}
    return [*SPECIAL, *sorted(french)], [*SPECIAL, *sorted(english)]


def make_model(source: int, target: int, config: Mapping[str, Any]) -> nn.Module:
    """Make the network in PyTorch, for so many tokens, with the names of `attnlib.models.translator`."""
    import torch
    from torch import nn

    width = config["d_model"]
    positions = torch.from_numpy(sinusoidal_encoding(config["max_length"], width))
    sizes = {name: value for name, value in config.items() if name != "max_length"}

    class Translator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.source_embedding = nn.Embedding(source, width)
            self.target_embedding = nn.Embedding(target, width)
            for table in (self.source_embedding, self.target_embedding):
                nn.init.normal_(table.weight, std=width**-0.5)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that nested tensors do not go with norm_first
                self.transformer = nn.Transformer(**sizes, dropout=DROPOUT, batch_first=True)

        def forward(self, french: Tensor, english: Tensor) -> Tensor:
            padding = french == SPECIAL.index("<padding>")
            hidden = self.transformer(
                self._placed(self.source_embedding, french),
                self._placed(self.target_embedding, english),
                tgt_mask=torch.ones(english.shape[1], english.shape[1], dtype=torch.bool).triu(1),
                src_key_padding_mask=padding,
                memory_key_padding_mask=padding,
                tgt_is_causal=True,
            )
            return hidden @ self.target_embedding.weight.T

        def _placed(self, table: nn.Embedding, ids: Tensor) -> Tensor:
            return table(ids) * math.sqrt(width) + positions[: ids.shape[1]]

    return Translator()


def train(file: Path, *, count: int, threads: int, config: Mapping[str, Any] = CONFIG) -> None:
    """Train on each drawn pair once, and write the file.

    Parameters
    ----------
    file
        Where to write.
    count
        Pairs of the corpus.
    threads
        Of PyTorch.
    config
        Sizes.
    """
    import torch
    from safetensors.torch import save_file

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    start = time.perf_counter()
    corpus = training_pairs(count)
    source, target = vocabularies(corpus)
    print(f"{len(corpus)} pairs, {len(source)} French and {len(target)} English tokens", flush=True)
    model = make_model(len(source), len(target), config)
    batches = make_batches(corpus, source, target)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate(step, len(batches)))
    loss_function = torch.nn.CrossEntropyLoss(ignore_index=SPECIAL.index("<padding>"), label_smoothing=0.05)
    model.train()
    total = 0.0
    for step, (french, english) in enumerate(batches, 1):
        logits = model(french, english[:, :-1])
        loss = loss_function(logits.flatten(0, 1), english[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        total += loss.item()
        if step % 50 == 0:
            seconds = time.perf_counter() - start
            print(f"step {step}/{len(batches)}  loss {total / 50:.4f}  {seconds:.0f} s", flush=True)
            total = 0.0
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: tensor.to(torch.float16).contiguous() for name, tensor in model.state_dict().items()},
        file,
        # One entry: the library writes several in any order.
        metadata={
            "translator": json.dumps({**config, "source": source, "target": target}, ensure_ascii=False)
        },
    )
    file.chmod(0o644)  # the library leaves it to its owner alone
    print(f"{file}: {file.stat().st_size / 1e6:.2f} MB after {time.perf_counter() - start:.0f} s")


def learning_rate(step: int, steps: int) -> float:
    """Compute the learning rate: a short rise, then half a cosine down to zero."""
    rise = max(1, steps // 12)
    if step < rise:
        return PEAK_RATE * (step + 1) / rise
    return PEAK_RATE * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def make_batches(
    corpus: Sequence[Pair], source: Sequence[str], target: Sequence[str]
) -> list[tuple[Tensor, Tensor]]:
    """Make batches of sentences of about the same length, in random order."""
    import torch

    french = {word: number for number, word in enumerate(source)}
    english = {word: number for number, word in enumerate(target)}
    start, end = SPECIAL.index(START), SPECIAL.index(END)
    rows = [
        (
            [*(french[word] for word in split_words(pair.french)), end],
            [start, *(english[word] for word in split_words(pair.english)), end],
        )
        for pair in corpus
    ]
    rows.sort(key=lambda row: (len(row[0]), len(row[1])))
    groups = [rows[first : first + BATCH] for first in range(0, len(rows), BATCH)]
    order = torch.randperm(len(groups)).tolist()
    return [
        (padded([row[0] for row in groups[group]]), padded([row[1] for row in groups[group]]))
        for group in order
    ]


def padded(rows: Sequence[Sequence[int]]) -> Tensor:
    """Make one array of rows of different lengths."""
    import torch

    longest = max(map(len, rows))
    return torch.tensor([[*row, *[SPECIAL.index("<padding>")] * (longest - len(row))] for row in rows])


def check(file: Path, count: int = TEST_PAIRS) -> float:
    """Translate held-out sentences with attnlib; print what is wrong and return the share that is right."""
    chosen = test_pairs(count)
    translator = read_translator(SafetensorsFile(file))
    right = 0
    for pair, found in zip(chosen, translator.translate([pair.french for pair in chosen]), strict=True):
        right += found == pair.english
        if found != pair.english:
            print(f"{pair.french}\n  right: {pair.english}\n  found: {found}")
    print(f"{right} of {count} held-out sentences are translated exactly: {100 * right / count:.1f} %")
    return right / count


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, or with ``--check`` measure; the exit code is then 1 if too few translations are right."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="measure the file that is there")
    parser.add_argument(
        "--file", type=Path, default=FILE, metavar="FILE", help=f"default: {FILE.name} of the package"
    )
    parser.add_argument(
        "--pairs", type=int, metavar="N", help=f"to train on ({TRAINING_PAIRS}) or to check ({TEST_PAIRS})"
    )
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of PyTorch (default: 1)")
    options = parser.parse_args(arguments)
    if options.check:
        return 0 if check(options.file, options.pairs or TEST_PAIRS) >= LEAST_ACCURACY else 1
    train(options.file, count=options.pairs or TRAINING_PAIRS, threads=options.threads)
    return 0


if __name__ == "__main__":
    sys.exit(main())
