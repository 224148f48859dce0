#!/usr/bin/env python3
"""The yardstick for `transxssm bench step`: a Transformer of stock PyTorch parts, on the same GPU.

    scripts/pytorch_transformer.py 320m|1.3b [--micro-batch N] [--steps N]

The sizes of configs/transformer-*.yaml with plain residuals: torch.compile of every layer, cuDNN attention, fused
AdamW, clipping, bf16 with f32 master weights (autocast), random tokens, one document a window, one update a
micro-batch, no recompute. Prints tokens/s as the median of the steps after the first ten, and peak memory.
Needs a GPU and PyTorch 2.5 or newer.
"""

import argparse
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

VOCABULARY, LENGTH, HEAD_DIM = 32768, 4096, 128
SIZES = {"320m": (1024, 2048, 32, 8), "1.3b": (2048, 4096, 32, 4)}  # width, MLP, layers, micro-batch


def normed(x, norm):
    return F.rms_norm(x, norm.normalized_shape, norm.weight.to(x.dtype), norm.eps)


def rotate(x, cos, sin):
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class Layer(nn.Module):
    def __init__(self, width, mlp):
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(width, eps=1e-6), nn.RMSNorm(width, eps=1e-6)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.gate_up, self.down = nn.Linear(width, 2 * mlp, bias=False), nn.Linear(mlp, width, bias=False)

    def forward(self, x, cos, sin):
        batch, length, width = x.shape
        packed = self.qkv(normed(x, self.norm1)).view(batch, length, 3, width // HEAD_DIM, HEAD_DIM)
        q, k, v = packed.permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(batch, length, width))
        gate, up = self.gate_up(normed(x, self.norm2)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


class Transformer(nn.Module):
    def __init__(self, width, mlp, layers):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, width)
        self.layers = nn.ModuleList(Layer(width, mlp) for _ in range(layers))
        self.norm = nn.RMSNorm(width, eps=1e-6)
        nn.init.normal_(self.embedding.weight, std=0.02)
        angles = torch.outer(torch.arange(LENGTH), 10000.0 ** (-torch.arange(0, HEAD_DIM, 2) / HEAD_DIM))
        self.register_buffer("cos", angles.cos().bfloat16())
        self.register_buffer("sin", angles.sin().bfloat16())

    def forward(self, tokens):
        x = self.embedding(tokens).bfloat16()
        for layer in self.layers:
            x = layer(x, self.cos, self.sin)
        return F.linear(normed(x, self.norm), self.embedding.weight)


def seconds_per_step(model, batch, steps):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
    times = []
    for _ in range(steps):
        tokens = torch.randint(VOCABULARY, (batch, LENGTH + 1), device="cuda")
        torch.cuda.synchronize()
        begin = time.perf_counter()
        with torch.autocast("cuda", torch.bfloat16), sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            loss = F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return statistics.median(times[10:])


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("size", choices=SIZES)
    arguments.add_argument("--micro-batch", type=int)
    arguments.add_argument("--steps", type=int, default=25)
    chosen = arguments.parse_args()
    width, mlp, layers, batch = SIZES[chosen.size]
    batch = chosen.micro_batch or batch
    torch.manual_seed(0)
    model = Transformer(width, mlp, layers).cuda()
    for layer in model.layers:
        layer.compile()
    seconds = seconds_per_step(model, batch, chosen.steps)
    print(
        f"PyTorch {torch.__version__}, {torch.cuda.get_device_name()}, Transformer {chosen.size}, micro-batch {batch}: "
        f"{1e3 * seconds:.1f} ms, {batch * LENGTH / seconds:.0f} tokens/s, "
        f"{torch.cuda.max_memory_allocated() / 1e9:.1f} GB"
    )


if __name__ == "__main__":
    main()
