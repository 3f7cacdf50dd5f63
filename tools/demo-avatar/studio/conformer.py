"""A small streaming conformer with the inputs and outputs of wenet's encoder.

Our own definition from the published shapes: two strided convolutions, attention with relative
positions, a causal convolution, two feed-forward layers. Every chunk is heard by itself, with
empty caches and offset 100, as the family's inference script has it.
"""

import math

import torch
from torch import nn

from .fbank import BANDS, CHUNK_ROWS

OFFSET = 100
STEPS, FEATURES = 16, 512  # vectors of a chunk, and the numbers of each
WIDTH, HEADS, HIDDEN, BLOCKS, KERNEL, FIRST = 64, 4, 128, 2, 15, 32
# About the mean and the inverse deviation of speech with pauses: filter banks are -16 to 25.
MEAN, SCALE = 6.0, 0.15


def caches():
    """Empty ones: attention's [blocks, heads, 16, 2 d], convolutions' [blocks, 1, width, 14]."""
    return (
        torch.zeros(BLOCKS, HEADS, STEPS, 2 * WIDTH // HEADS),
        torch.zeros(BLOCKS, 1, WIDTH, KERNEL - 1),
    )


class Attention(nn.Module):
    """Over the cache and the chunk, with relative positions."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.position = nn.Linear(WIDTH, WIDTH, bias=False)
        self.u, self.w = (nn.Parameter(torch.zeros(HEADS, WIDTH // HEADS)) for _ in range(2))

    def forward(self, x, positions, cache):
        b, d = x.shape[0], WIDTH // HEADS
        q = self.q(x).view(b, -1, HEADS, d)
        k, v = (f(x).view(b, -1, HEADS, d).transpose(1, 2) for f in (self.k, self.v))
        cache = cache.expand(b, -1, -1, -1).to(k.dtype)
        k = torch.cat([cache[..., :d], k], 2)
        v = torch.cat([cache[..., d:], v], 2)
        p = self.position(positions).view(1, -1, HEADS, d).transpose(1, 2)
        scores = (q + self.u).transpose(1, 2) @ k.transpose(-2, -1)
        scores = (scores + (q + self.w).transpose(1, 2) @ p.transpose(-2, -1)) / math.sqrt(d)
        y = torch.softmax(scores, -1) @ v
        y = y.transpose(1, 2).contiguous().view(b, -1, WIDTH)
        return self.out(y), torch.cat([k, v], -1)


class Convolution(nn.Module):
    """Causal: what came before the chunk is the cache."""

    def __init__(self):
        super().__init__()
        self.wide, self.narrow = nn.Conv1d(WIDTH, 2 * WIDTH, 1), nn.Conv1d(WIDTH, WIDTH, 1)
        self.deep = nn.Conv1d(WIDTH, WIDTH, KERNEL, groups=WIDTH)
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, x, cache):
        x = torch.cat([cache.expand(x.shape[0], -1, -1).to(x.dtype), x.transpose(1, 2)], 2)
        y = self.norm(self.deep(nn.functional.glu(self.wide(x), 1)).transpose(1, 2))
        y = self.narrow(nn.functional.silu(y).transpose(1, 2)).transpose(1, 2)
        return y, x[:, :, -(KERNEL - 1) :]


def feed_forward():
    return nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, WIDTH))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.before, self.after = feed_forward(), feed_forward()
        self.attention, self.convolution = Attention(), Convolution()
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(5))

    def forward(self, x, positions, att_cache, cnn_cache):
        x = x + 0.5 * self.before(self.norms[0](x))
        y, att = self.attention(self.norms[1](x), positions, att_cache)
        x = x + y
        y, cnn = self.convolution(self.norms[2](x), cnn_cache)
        x = x + y
        x = x + 0.5 * self.after(self.norms[3](x))
        return self.norms[4](x), att, cnn


class Conformer(nn.Module):
    """Chunks [N, 1, 67, 80] -> [N, 8192]; `stream` has the inputs and outputs of wenet's file."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, FIRST, 3, 2), nn.Conv2d(FIRST, FIRST, 3, 2)
        bands = ((BANDS - 1) // 2 - 1) // 2
        self.flat = nn.Linear(FIRST * bands, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(BLOCKS))
        self.norm, self.out = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, FEATURES)
        place = torch.arange(OFFSET + STEPS + 4, dtype=torch.float32)[:, None]
        turn = torch.exp(torch.arange(0, WIDTH, 2) * -(math.log(10000.0) / WIDTH))
        table = torch.stack([torch.sin(place * turn), torch.cos(place * turn)], -1)
        self.register_buffer("positions", table.view(1, -1, WIDTH), persistent=False)

    def forward(self, chunks):
        return self.stream(chunks, torch.tensor([OFFSET]), *caches())[0].flatten(1)

    def vectors(self, chunks):
        """What the features are made of: [N, 16, 64]."""
        return self.hear(chunks, torch.tensor([OFFSET]), *caches())[0]

    def stream(self, chunk, offset, att_cache, cnn_cache):
        x, att, cnn = self.hear(chunk, offset, att_cache, cnn_cache)
        return self.out(x), att, cnn

    def hear(self, chunk, offset, att_cache, cnn_cache):
        x = (chunk - MEAN) * SCALE
        x = torch.relu(self.second(torch.relu(self.first(x))))
        b, c, t, f = x.shape
        x = self.flat(x.transpose(1, 2).contiguous().view(b, t, c * f))
        start = (offset - att_cache.size(2)).reshape(())
        places = start + torch.arange(att_cache.size(2) + STEPS)
        positions = torch.index_select(self.positions, 1, places)
        att, cnn = [], []
        for i, block in enumerate(self.blocks):
            x, new_att, new_cnn = block(x, positions, att_cache[i : i + 1], cnn_cache[i])
            att.append(new_att[:, :, -STEPS:])
            cnn.append(new_cnn.unsqueeze(0))
        return self.norm(x), torch.cat(att), torch.cat(cnn)


class Streaming(nn.Module):
    """What is exported: one chunk a call."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, chunk, offset, att_cache, cnn_cache):
        return self.net.stream(chunk, offset, att_cache, cnn_cache)


def example():
    """Inputs of a call."""
    return (torch.rand(1, 1, CHUNK_ROWS, BANDS) * 20 - 4, torch.tensor([OFFSET]), *caches())
