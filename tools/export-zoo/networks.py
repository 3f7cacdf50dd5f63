"""Small networks with the shapes of the published families: our own definitions, seeded, with few channels."""

import torch
from torch import nn
from torch.nn import functional as F

# Windows [C, H, W] by audio kind.
WINDOWS = {
    "ave": (32, 16, 16),
    "hubert": (32, 32, 32),
    "wenet": (256, 16, 32),
    "hubert16": (16, 32, 32),
    "wenet128": (128, 16, 32),
}
CHANNELS = (2, 3, 4, 6, 8)


def norm_conv(c_in, c_out, kernel=1, stride=1, pad=0, groups=1):
    """A convolution without bias and its normalisation."""
    conv = nn.Conv2d(c_in, c_out, kernel, stride, pad, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out))


class Block(nn.Module):
    """1x1 to twice the channels, depthwise 3x3, 1x1; plus the input where asked for."""

    def __init__(self, c_in, c_out, stride=1, shortcut=None):
        super().__init__()
        wide = 2 * c_in
        self.shortcut = (c_in == c_out and stride == 1) if shortcut is None else shortcut
        self.expand = norm_conv(c_in, wide)
        self.depthwise = norm_conv(wide, wide, 3, stride, 1, groups=wide)
        self.project = norm_conv(wide, c_out)

    def forward(self, x):
        y = self.project(F.relu(self.depthwise(F.relu(self.expand(x)))))
        return x + y if self.shortcut else y


class OneBlock(nn.Module):
    """A depthwise and a pointwise convolution, each the sum of parallel branches while it is trained."""

    def __init__(self, c_in, c_out, stride=1, shortcut=None):
        super().__init__()
        self.depthwise = Branches(c_in, c_in, 3, stride, groups=c_in)
        self.pointwise = Branches(c_in, c_out, 1, 1)

    def forward(self, x):
        return self.pointwise(self.depthwise(x))


class Branches(nn.Module):
    """The sum of k x k, 1x1 and identity branches, each normalised, then a ReLU."""

    def __init__(self, c_in, c_out, kernel, stride, groups=1):
        super().__init__()
        self.large = norm_conv(c_in, c_out, kernel, stride, kernel // 2, groups)
        self.small = norm_conv(c_in, c_out, 1, stride, 0, groups) if kernel > 1 else None
        self.skip = nn.BatchNorm2d(c_in) if c_in == c_out and stride == 1 else None

    def forward(self, x):
        y = self.large(x)
        if self.small is not None:
            y = y + self.small(x)
        if self.skip is not None:
            y = y + self.skip(x)
        return F.relu(y)


def double(block, c_in, c_out, stride=1):
    return nn.Sequential(block(c_in, c_out, stride, shortcut=False), block(c_out, c_out))


class Up(nn.Module):
    """Doubles the size, joins the skip and mixes both."""

    def __init__(self, block, c_in, c_out):
        super().__init__()
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.mix = double(block, c_in, c_out)

    def forward(self, x, skip):
        x = self.up(x)
        rows, columns = skip.shape[2] - x.shape[2], skip.shape[3] - x.shape[3]
        x = F.pad(x, [columns // 2, columns - columns // 2, rows // 2, rows - rows // 2])
        return self.mix(torch.cat([x, skip], 1))


class AudioBranch(nn.Module):
    def __init__(self, kind, channels):
        super().__init__()
        _, c1, c2, c3, c4 = channels
        c_in, height, width = WINDOWS[kind]
        if (height, width) == (16, 32):
            first, second, stride, c2, c1 = c3, c3, (1, 2), c3, c3
        else:
            first, second, stride = c1, c2, (2 if height == 32 else 1)
        self.layers = nn.Sequential(
            Block(c_in, first),
            Block(first, second),
            norm_conv(second, c3, 3, stride, 1), nn.ReLU(),
            Block(c3, c3),
            norm_conv(c3, c4, 3, 2, 3), nn.ReLU(),
            Block(c4, c4),
            Block(c4, c4),
        )

    def forward(self, x):
        return self.layers(x)


class UNet(nn.Module):
    """A generator of `region` pixels; `block` is what it is built of."""

    def __init__(self, region=160, kind="ave", block=Block, channels=CHANNELS, head="sigmoid"):
        super().__init__()
        c0, c1, c2, c3, c4 = channels
        self.region, self.kind, self.head = region, kind, head
        widths = ([c0] if region == 320 else []) + [c1, c2, c3, c4]
        self.first = block(6, c0)
        downs, skips, c = [], [], c0
        for width in widths:
            skips.append(c)
            downs.append(double(block, c, width, 2))
            c = width
        self.downs = nn.ModuleList(downs)
        self.audio = AudioBranch(kind, channels)
        self.join = nn.Sequential(double(block, 2 * c4, c4), double(block, c4, c3))
        outs = [c2, c1, c0, c0] + ([max(c0 // 2, 1)] if region == 320 else [])
        ups, c = [], c3
        for width, skip in zip(outs, reversed(skips)):
            ups.append(Up(block, c + skip, width))
            c = width
        self.ups = nn.ModuleList(ups)
        self.last = nn.Conv2d(c, 3, 1)

    def forward(self, face, audio):
        x, skips = self.first(face), []
        for down in self.downs:
            skips.append(x)
            x = down(x)
        x = self.join(torch.cat([x, self.audio(audio)], 1))
        for up, skip in zip(self.ups, reversed(skips)):
            x = up(x, skip)
        x = self.last(x)
        return torch.sigmoid(x) if self.head == "sigmoid" else x

    def inputs(self, batch=1):
        return (torch.rand(batch, 6, self.region, self.region), torch.rand(batch, *WINDOWS[self.kind]))


class Encoder(nn.Module):
    """The shape of the AVE audio encoder: mel [N, 1, 80, 16] to [N, 512]."""

    def __init__(self, width=4, step=512):
        super().__init__()
        layers, c = [], 1
        stages = [(width, 1, 1), (2 * width, (3, 1), 1), (4 * width, 3, 1), (8 * width, (3, 2), 1)]
        for out, stride, n_more in stages:
            layers += [norm_conv(c, out, 3, stride, 1), nn.ReLU()]
            layers += [Residual(out) for _ in range(n_more)]
            c = out
        layers += [norm_conv(c, c, 3), nn.ReLU(), nn.Conv2d(c, step, 1), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, mel):
        x = self.layers(mel)
        return x.view(x.size(0), -1)

    def inputs(self, batch=1):
        return (torch.rand(batch, 1, 80, 16) * 8 - 4,)


class Residual(nn.Module):
    def __init__(self, c, relu=nn.ReLU):
        super().__init__()
        self.conv = norm_conv(c, c, 3, 1, 1)
        self.relu = relu()

    def forward(self, x):
        return self.relu(self.conv(x) + x)


# Of the face encoder: channels and residual layers of each stage, the first at full size and every other at half
# of the one before. Then channels of the face decoder, from one pixel up, and the kernel that makes the last
# stage one pixel.
WAV2LIP = {
    96: ([(16, 0), (32, 2), (64, 3), (128, 2), (256, 2), (512, 1)], [512, 512, 384, 256, 128, 64], 3),
    256: ([(16, 0), (32, 2), (64, 3), (128, 2), (256, 2), (512, 1), (512, 1)],
          [512, 512, 512, 384, 256, 128, 64], 4),
    288: ([(16, 0), (32, 1), (32, 2), (64, 3), (128, 2), (256, 2), (512, 1)],
          [512, 512, 512, 384, 256, 128, 64, 64], 3),
    384: ([(8, 0), (16, 2), (32, 2), (64, 2), (128, 2), (256, 2), (512, 2), (1024, 2)],
          [1024, 1024, 768, 512, 256, 128, 80, 64], 3),
}


class Attention(nn.Module):
    """A number a pixel, made of the mean and the largest channel of one value, that raises another."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, seen, x):
        seen = torch.cat([seen.mean(1, keepdim=True), seen.max(1, keepdim=True)[0]], 1)
        return x * torch.sigmoid(self.conv(seen)) + x


class Transposed(nn.Module):
    """A transposed convolution, its normalisation and a ReLU."""

    def __init__(self, c_in, c_out, kernel=3, stride=2, pad=1, more=1):
        super().__init__()
        self.conv = nn.ConvTranspose2d(c_in, c_out, kernel, stride, pad, more)
        self.norm = nn.BatchNorm2d(c_out)

    def forward(self, x):
        return F.relu(self.norm(self.conv(x)))


class Wav2Lip(nn.Module):
    """A network of the Wav2Lip family for faces of `side` pixels, with a part of its channels."""

    def __init__(self, side=96, part=1, prelu=False):
        super().__init__()
        stages, decoder, kernel = WAV2LIP[side]
        self.side = side
        relu = nn.PReLU if prelu else nn.ReLU

        def less(c):
            return max(c // part, 1)

        def layer(c_in, c_out, kernel=3, stride=1, pad=1):
            return nn.Sequential(norm_conv(c_in, c_out, kernel, stride, pad), relu())

        encoder, c, size, sizes = [], 6, side, []
        for i, (width, n_more) in enumerate(stages):
            first = layer(c, less(width), 7, 1, 3) if i == 0 else layer(c, less(width), 3, 2)
            c, size = less(width), size if i == 0 else -(-size // 2)
            encoder.append(nn.Sequential(first, *[Residual(c, relu) for _ in range(n_more)]))
            sizes.append((c, size))
        if side == 288:
            # From 5 pixels to 3, and to 1.
            encoder.append(nn.Sequential(layer(c, c, 3, pad=0), layer(c, c, 1, pad=0)))
            sizes.append((c, 3))
        encoder.append(nn.Sequential(layer(c, c, kernel, pad=0), layer(c, c, 1, pad=0)))
        self.encoder = nn.ModuleList(encoder)
        heard = less(decoder[0])
        self.audio = nn.Sequential(
            layer(1, less(32)), Residual(less(32)), Residual(less(32)),
            layer(less(32), less(64), 3, (3, 1)), Residual(less(64)), Residual(less(64)),
            layer(less(64), less(128), 3, 3), Residual(less(128)), Residual(less(128)),
            layer(less(128), less(256), 3, (3, 2)), Residual(less(256)),
            layer(less(256), heard, 3, pad=0), layer(heard, heard, 1, pad=0))
        self.bottom = layer(heard, heard, 1, pad=0)
        ups, c_in, size = [], heard + c, 1
        for i, (width, (skip, grown)) in enumerate(zip(decoder, reversed(sizes))):
            up = (Transposed(c_in, less(width), kernel, 1, 0, 0) if i == 0
                  else Transposed(c_in, less(width), more=grown - (2 * size - 1)))
            n_more = 1 if i == 0 else 2
            ups.append(nn.Sequential(up, *[Residual(less(width), relu) for _ in range(n_more)]))
            c_in, size = less(width) + skip, grown
        self.ups = nn.ModuleList(ups)
        self.attention = Attention() if side == 384 else None
        self.last = nn.Sequential(layer(c_in, less(32)), nn.Conv2d(less(32), 3, 1))

    def forward(self, mel, face):
        skips, x = [], face
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        x = self.bottom(self.audio(mel))
        for stage in [None, *self.ups]:
            x = x if stage is None else stage(x)
            skip = skips.pop()
            if self.attention is not None:
                x = self.attention(skip, x)
            x = torch.cat([x, skip], 1)
        return torch.sigmoid(self.last(x))

    def inputs(self, batch=1):
        return (torch.rand(batch, 1, 80, 16), torch.rand(batch, 6, self.side, self.side))


class Bytes(nn.Module):
    """A generator with what surrounds it: pixels of 0 to 255 in rows, or planes, in and out."""

    def __init__(self, net, rows=True, as_bytes=True):
        super().__init__()
        self.net, self.rows, self.as_bytes = net, rows, as_bytes

    def forward(self, face, audio):
        face = face.float()
        if self.rows:
            face = face.permute(0, 3, 1, 2)
        y = self.net(face / 255.0, audio) * 255.0
        if self.rows:
            y = y.permute(0, 2, 3, 1)
        return y.to(torch.uint8) if self.as_bytes else y

    def inputs(self, batch=1):
        face, audio = self.net.inputs(batch)
        face = face * 255.0
        if self.rows:
            face = face.permute(0, 2, 3, 1).contiguous()
        return (face.to(torch.uint8) if self.as_bytes else face, audio)


class WithFeatures(nn.Module):
    """A generator with a second output."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, face, audio):
        return self.net(face, audio), self.net.audio(audio)

    def inputs(self, batch=1):
        return self.net.inputs(batch)


def seeded(net, seed):
    """Weights, and statistics of normalisations, from a seed; ready for inference."""
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            fan_in = module.weight[0].numel()
            module.weight.data = torch.randn(module.weight.shape, generator=generator) * (2 / fan_in) ** 0.5
            if module.bias is not None:
                module.bias.data = torch.randn(module.bias.shape, generator=generator) * 0.1
        if isinstance(module, nn.BatchNorm2d):
            shape = module.weight.shape
            module.weight.data = torch.rand(shape, generator=generator) * 0.5 + 0.75
            module.bias.data = torch.randn(shape, generator=generator) * 0.2
    # Statistics of a real run: with random ones, values would grow from block to block, and rounding with them.
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        net.train()(*net.inputs(2))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            # A channel that is nearly constant would make much of little.
            module.running_var.clamp_(min=0.5)
    with torch.no_grad():
        # Pictures, not white ones.
        for module in net.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                module.weight.mul_(0.5)
    return net.eval()
