"""Attention's symmetries: found in models of every make, applied without a change, refused where there is none."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sharpscope import Objective, audit
from sharpscope.measures.invariance.attention import find_head_pairs, mixed


class Packed(nn.Module):
    """Attention as vision transformers write it: one layer ``qkv``, one ``proj``."""

    def __init__(self, rotary: bool = False) -> None:
        super().__init__()
        self.num_heads, self.rotary = 2, rotary
        self.qkv, self.proj = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.view(len(x), -1, 2, 4).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        if self.rotary:
            angles = torch.arange(q.shape[2])[:, None] * torch.tensor([1.0, 0.1])
            q, k = (
                torch.cat(
                    [t[..., :2] * angles.cos() - t[..., 2:] * angles.sin(),
                     t[..., :2] * angles.sin() + t[..., 2:] * angles.cos()], -1,
                )
                for t in (q, k)
            )  # fmt: skip
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Separate(nn.Module):
    """Attention with layers of their own and more inputs than heads have units."""

    def __init__(self) -> None:
        super().__init__()
        self.n_heads = 2
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(8, 8, bias=False) for _ in range(3))
        self.out_proj = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            layer(x).view(len(x), -1, 2, 4).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class MultiHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


def objective(part: nn.Module) -> Objective:
    torch.manual_seed(0)
    model = nn.Sequential(part, nn.Tanh(), nn.Flatten(), nn.Linear(40, 3)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return Objective(model, F.cross_entropy, (torch.randn(20, 5, 8).double(), torch.arange(20) % 3))


@pytest.mark.parametrize("part", [Packed, Separate, MultiHead])
def test_the_heads_of_a_module_are_found_and_mixing_them_changes_no_output(part: Any) -> None:
    obj = objective(part())
    pairs = find_head_pairs(obj)
    assert [(pair.what, pair.head) for pair in pairs] == [
        *(("query, key", 0), ("query, key", 1)),
        *(("value, output", 0), ("value, output", 1)),
    ]
    other = mixed(obj.model, pairs, 4.0, torch.Generator().manual_seed(1)).eval()
    x = torch.randn(7, 5, 8).double()
    torch.testing.assert_close(other(x), obj.model.eval()(x), rtol=1e-10, atol=1e-10)
    changed = [
        name
        for (name, a), b in zip(obj.model.named_parameters(), other.parameters(), strict=True)
        if not torch.allclose(a, b, rtol=1e-3)
    ]
    assert {name for pair in pairs for name in pair.names} == set(changed)


def test_what_positions_turn_between_query_and_key_is_left_out() -> None:
    pairs = find_head_pairs(objective(Packed(rotary=True)))
    assert {pair.what for pair in pairs} == {"value, output"}


@pytest.mark.parametrize(("output", "inputs"), [(0.0, 1.0), (1.0, 0.0), (1.0, 2e-3), (1e-6, 1e3)])
def test_positions_are_seen_where_attention_has_no_say_yet(output: float, inputs: float) -> None:
    obj = objective(Packed(rotary=True))
    with torch.no_grad():
        obj.model[0].proj.weight.mul_(output)  # as where the output layer starts at zero
        for parameter in obj.model[0].qkv.parameters():
            parameter.mul_(inputs)
    assert {pair.what for pair in find_head_pairs(obj)} == {"value, output"}
    assert {pair.what for pair in find_head_pairs(obj.with_params("*qkv*"))} == set()


def test_what_is_tied_or_not_measured_is_left_out() -> None:
    part = Separate()
    part.k_proj.weight = part.q_proj.weight
    assert {pair.what for pair in find_head_pairs(objective(part))} == {"value, output"}
    obj = objective(Separate()).with_params("*.weight")
    assert len(find_head_pairs(obj)) == 4  # the output's bias is no part of a pair
    assert find_head_pairs(objective(MultiHead()).with_params("*out_proj*")) == []


def test_gpt_2_s_own_layers_are_found() -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=11, n_positions=8, n_embd=8, n_layer=2, n_head=2, bos_token_id=None, eos_token_id=None
    )
    model = transformers.GPT2LMHeadModel(config).double()
    batch = {"input_ids": torch.randint(0, 11, (3, 8))}
    obj = Objective.from_transformers(model, batch)
    pairs = find_head_pairs(obj)
    assert len(pairs) == 2 * 2 * 2
    other = mixed(model, pairs, 4.0, torch.Generator().manual_seed(1)).eval()
    before, after = model.eval()(**batch).logits, other(**batch).logits
    torch.testing.assert_close(after, before, rtol=1e-8, atol=1e-8)


def test_the_audit_finds_the_symmetry_and_says_which_measures_move() -> None:
    obj = objective(Packed())
    found = audit(
        obj,
        [
            {"measure": "geodesic_sharpness", "batch_size": None, "radius": 0.2},
            {"measure": "worst_case", "batch_size": None, "radius": 0.05, "norm": "l2"},
            {"measure": "lambda_max", "tol": 0.05},
            "gradient_norm",
            "fisher_rao_norm",
            "margin",
        ],
    )
    assert len(found.heads) == 4
    assert found.rescalings == ()
    assert dict(zip(found.table["measure"], found.table["invariant"], strict=True)) == {
        "geodesic_sharpness": True,
        "worst_case": False,
        "lambda_max": False,
        "gradient_norm": False,
        "fisher_rao_norm": True,
        "margin": True,
    }
    assert float(found.table["largest"][0]) < 1e-5
    assert "GL(h) in 4 pairs" in repr(found)
