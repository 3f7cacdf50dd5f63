"""Audio encoders as they are exported for wenet and HuBERT avatars: a conformer of our own definition from the published
shapes, and the HuBERT of Hugging Face's transformers.

Weights are seeded. With `Size.FULL` they have the sizes of the real ones, with `Size.SMALL` a file takes some kilobytes.
"""

import dataclasses
import math

import torch
import transformers
from torch import nn


@dataclasses.dataclass(frozen=True)
class WenetSize:
    """A conformer's sizes. Its answers are `16 x 512` numbers whatever `d_model` is."""

    d_model: int = 512
    n_heads: int = 8
    n_linear: int = 2048
    n_blocks: int = 3


WENET_FULL = WenetSize()
WENET_SMALL = WenetSize(d_model=8, n_heads=2, n_linear=16, n_blocks=1)

WENET_OFFSET = 100
N_STEPS = 16
N_ROWS = 67
N_BANDS = 80
KERNEL = 15


class Attention(nn.Module):
    """Attention with relative positions, without the shift, over the cache and the chunk."""

    def __init__(self, size):
        super().__init__()
        self.n_heads, self.d_head = size.n_heads, size.d_model // size.n_heads
        self.q, self.k, self.v, self.out = (nn.Linear(size.d_model, size.d_model) for _ in range(4))
        self.position = nn.Linear(size.d_model, size.d_model, bias=False)
        self.u, self.w = (nn.Parameter(torch.zeros(self.n_heads, self.d_head)) for _ in range(2))

    def split(self, x):
        return x.view(1, -1, self.n_heads, self.d_head)

    def forward(self, x, positions, cache):
        q = self.split(self.q(x))
        k, v = (self.split(f(x)).transpose(1, 2) for f in (self.k, self.v))
        old_k, old_v = torch.split(cache, self.d_head, dim=-1)
        k, v = torch.cat([old_k, k], dim=2), torch.cat([old_v, v], dim=2)
        new_cache = torch.cat([k, v], dim=-1)
        p = self.split(self.position(positions)).transpose(1, 2)
        scores = (q + self.u).transpose(1, 2) @ k.transpose(-2, -1)
        scores = (scores + (q + self.w).transpose(1, 2) @ p.transpose(-2, -1)) / math.sqrt(self.d_head)
        mask = torch.ones(1, 1, 1, scores.size(-1), dtype=torch.bool).eq(0)
        weights = torch.softmax(scores.masked_fill(mask, -float("inf")), dim=-1).masked_fill(mask, 0.0)
        y = (weights @ v).transpose(1, 2).contiguous().view(1, -1, self.n_heads * self.d_head)
        return self.out(y), new_cache


class Convolution(nn.Module):
    """The causal convolution of a conformer's block."""

    def __init__(self, size):
        super().__init__()
        d = size.d_model
        self.wide = nn.Conv1d(d, 2 * d, 1)
        self.deep = nn.Conv1d(d, d, KERNEL, groups=d)
        self.norm = nn.LayerNorm(d)
        self.narrow = nn.Conv1d(d, d, 1)

    def forward(self, x, cache):
        x = torch.cat([cache, x.transpose(1, 2)], dim=2)
        new_cache = x[:, :, -(KERNEL - 1):]
        x = self.deep(nn.functional.glu(self.wide(x), dim=1)).transpose(1, 2)
        return self.narrow(nn.functional.silu(self.norm(x)).transpose(1, 2)).transpose(1, 2), new_cache


class FeedForward(nn.Sequential):
    def __init__(self, size):
        super().__init__(nn.Linear(size.d_model, size.n_linear), nn.SiLU(), nn.Linear(size.n_linear, size.d_model))


class Block(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.before, self.after = FeedForward(size), FeedForward(size)
        self.attention, self.convolution = Attention(size), Convolution(size)
        self.norms = nn.ModuleList(nn.LayerNorm(size.d_model, eps=1e-12) for _ in range(5))

    def forward(self, x, positions, att_cache, cnn_cache):
        x = x + 0.5 * self.before(self.norms[0](x))
        attended, new_att = self.attention(self.norms[1](x), positions, att_cache)
        x = x + attended
        convolved, new_cnn = self.convolution(self.norms[2](x), cnn_cache)
        x = x + convolved
        x = x + 0.5 * self.after(self.norms[3](x))
        return self.norms[4](x), new_att, new_cnn


class Wenet(nn.Module):
    """The streaming encoder: chunk `[1, 1, 67, 80]`, offset `[1]`, two caches; `[1, 16, 512]` and the new caches."""

    def __init__(self, size):
        super().__init__()
        self.size = size
        d = size.d_model
        self.mean = nn.Parameter(torch.linspace(8.0, 14.0, N_BANDS))
        self.scale = nn.Parameter(torch.full((N_BANDS,), 0.25))
        self.first, self.second = nn.Conv2d(1, d, 3, 2), nn.Conv2d(d, d, 3, 2)
        self.flat = nn.Linear(d * 19, d)
        self.blocks = nn.ModuleList(Block(size) for _ in range(size.n_blocks))
        self.norm = nn.LayerNorm(d, eps=1e-12)
        place = torch.arange(0, 5000, dtype=torch.float32)[:, None]
        turn = torch.exp(torch.arange(0, d, 2, dtype=torch.float32) * -(math.log(10000.0) / d))
        table = torch.stack([torch.sin(place * turn), torch.cos(place * turn)], dim=-1).view(1, 5000, d)
        # As many as a small file has room for.
        self.register_buffer("positions", table[:, :WENET_OFFSET + 20], persistent=False)

    def caches(self):
        size = self.size
        return (torch.zeros(size.n_blocks, size.n_heads, N_STEPS, 2 * size.d_model // size.n_heads),
                torch.zeros(size.n_blocks, 1, size.d_model, KERNEL - 1))

    def forward(self, chunk, offset, att_cache, cnn_cache):
        x = (chunk[:, 0] - self.mean) * self.scale
        x = torch.relu(self.second(torch.relu(self.first(x.unsqueeze(1)))))
        b, c, t, f = x.size()
        x = self.flat(x.transpose(1, 2).contiguous().view(b, t, c * f)) * math.sqrt(self.size.d_model)
        n = att_cache.size(2) + t
        start = (offset - att_cache.size(2)).reshape(())
        positions = torch.index_select(
            self.positions, 1, start + torch.arange(n))
        att, cnn = [], []
        for i, block in enumerate(self.blocks):
            x, new_att, new_cnn = block(x, positions, att_cache[i:i + 1], cnn_cache[i])
            att.append(new_att[:, :, -N_STEPS:])
            cnn.append(new_cnn.unsqueeze(0))
        x = self.norm(x)
        return x.repeat(1, 1, 512 // self.size.d_model), torch.cat(att), torch.cat(cnn)


def hubert_config(is_small):
    """HuBERT large, or a network of its form that is small."""
    form = dict(feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True, feat_proj_layer_norm=True)
    if is_small:
        return transformers.HubertConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, conv_dim=(8,) * 7,
            num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, **form)
    return transformers.HubertConfig(
        hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096, conv_dim=(512,) * 7, **form)


class Hubert(nn.Module):
    """The reference implementation, its answers repeated up to 1,024 numbers."""

    def __init__(self, is_small):
        super().__init__()
        self.net = transformers.HubertModel(hubert_config(is_small))
        self.n_repeats = 1024 // self.net.config.hidden_size

    def forward(self, samples):
        return self.net(samples).last_hidden_state.repeat(1, 1, self.n_repeats)


def seeded(net, seed):
    """Weights that keep the numbers of deep networks about 1."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in net.named_parameters():
        if parameter.dim() > 1:
            fan_in = parameter[0].numel()
            parameter.data = torch.randn(parameter.shape, generator=generator) / math.sqrt(fan_in)
        elif "norm" in name and name.endswith("weight"):
            parameter.data = 1 + 0.1 * torch.randn(parameter.shape, generator=generator)
        elif name not in ("mean", "scale"):
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return net.eval()
