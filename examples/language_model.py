"""Top Hessian eigenvalues of a GPT-2-architecture language model on real text.

Run: python examples/language_model.py   (needs the extra `transformers`; random weights, nothing is downloaded)
The loss is the mean over predicted bytes, so batches weigh by the number of targets they hold.
"""

from __future__ import annotations

import argparse
import pydoc_data.topics

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

import sharpscope as ss


def text_batches(sequences: int, length: int, batch: int) -> list[dict[str, Tensor]]:
    """Return consecutive stretches of Python's own manual as byte tokens, in batches."""
    text = " ".join(pydoc_data.topics.topics.values()).encode()[: sequences * length]
    tokens = torch.tensor(list(text)).view(sequences, length)
    return [{"input_ids": rows} for rows in tokens.split(batch)]


def batch_loss(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, int]:
    """Return the mean loss over the predicted bytes, and how many there are."""
    tokens = batch["input_ids"]
    return model(input_ids=tokens, labels=tokens).loss, tokens[:, 1:].numel()


def main() -> None:
    """Print the three largest eigenvalues with their residuals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--sequences", type=int, default=16)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=256,
        n_positions=64,
        n_embd=arguments.width,
        n_layer=arguments.layers,
        n_head=4,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = GPT2LMHeadModel(config)
    batches = text_batches(arguments.sequences, 64, 4)
    obj = ss.Objective.from_batch_loss(model, batches, batch_loss, mode="eval")
    e = ss.top_eigenvalues(obj, k=3)
    print(f"{obj.size:,} parameters, {obj.n_samples:,.0f} predicted bytes, loss {obj.loss():.4f}")
    for value, residual, error, converged in zip(
        e.values, e.residuals, e.error_estimates, e.converged, strict=True
    ):
        print(
            f"{value:12.6f}  residual {residual:.2e}  error estimate {error:.1e}  converged {bool(converged)}"
        )
    print(f"{e.products} full-data products, {e.seconds:.1f} s")


if __name__ == "__main__":
    main()
