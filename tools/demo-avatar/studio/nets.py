"""The networks of AVE avatars, and the audio branch of wenet ones. The generator is the family's U-Net with fewer channels."""
import torch
from torch import nn

AUDIO_CHANNELS = (8, 16, 32, 64, 128)


class InvertedResidual(nn.Module):
    """Expand x2, depthwise 3x3, project; optional skip."""

    def __init__(self, inp, oup, stride, residual):
        super().__init__()
        self.residual = residual
        mid = inp * 2
        self.conv = nn.Sequential(
            nn.Conv2d(inp, mid, 1, bias=False), nn.BatchNorm2d(mid), nn.ReLU(inplace=True),
            nn.Conv2d(mid, mid, 3, stride, 1, groups=mid, bias=False), nn.BatchNorm2d(mid), nn.ReLU(inplace=True),
            nn.Conv2d(mid, oup, 1, bias=False), nn.BatchNorm2d(oup))

    def forward(self, x):
        return x + self.conv(x) if self.residual else self.conv(x)


def double(inp, oup, stride):
    return nn.Sequential(InvertedResidual(inp, oup, stride, False), InvertedResidual(oup, oup, 1, True))


def conv_bn(inp, oup, padding, stride):
    return nn.Sequential(nn.Conv2d(inp, oup, 3, stride, padding, bias=False), nn.BatchNorm2d(oup), nn.ReLU(inplace=True))


class AudioBranch(nn.Module):
    """[B, 32, 16, 16] -> [B, c4, 10, 10]."""

    def __init__(self, ch=AUDIO_CHANNELS):
        super().__init__()
        self.net = nn.Sequential(
            InvertedResidual(32, ch[1], 1, False), InvertedResidual(ch[1], ch[2], 1, False),
            conv_bn(ch[2], ch[3], 1, 1), InvertedResidual(ch[3], ch[3], 1, True),
            conv_bn(ch[3], ch[4], 3, 2), InvertedResidual(ch[4], ch[4], 1, True),
            InvertedResidual(ch[4], ch[4], 1, True))

    def forward(self, a):
        return self.net(a)


class WenetBranch(nn.Module):
    """[B, 128, 16, 32] -> [B, c4, 10, 10]: 8 steps of 16 vectors, each of 512 numbers."""

    def __init__(self, ch=AUDIO_CHANNELS):
        super().__init__()
        self.net = nn.Sequential(
            InvertedResidual(128, ch[3], 1, False), InvertedResidual(ch[3], ch[3], 1, True),
            nn.Conv2d(ch[3], ch[3], 3, (1, 2), 1, bias=False), nn.BatchNorm2d(ch[3]), nn.ReLU(inplace=True),
            InvertedResidual(ch[3], ch[3], 1, True),
            conv_bn(ch[3], ch[4], 3, 2), InvertedResidual(ch[4], ch[4], 1, True),
            InvertedResidual(ch[4], ch[4], 1, True))

    def forward(self, a):
        return self.net(a)


class Up(nn.Module):
    def __init__(self, inp, oup):
        super().__init__()
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.conv = double(inp, oup, 1)

    def forward(self, x, skip):
        return self.conv(torch.cat([self.up(x), skip], 1))


class Generator(nn.Module):
    """(visual [B, 6, H, W], audio of the branch's kind) -> [B, 3, H, W]; H = W = region, 320 or 160.

    Networks of 160 px lack the outermost scale, so that both have a 10x10 bottleneck and the
    audio branch, trained once, serves both.
    """

    def __init__(self, ch, region, branch=AudioBranch):
        super().__init__()
        c0, c1, c2, c3, c4 = ch
        outer = region == 320
        self.audio = branch()
        self.inc = InvertedResidual(6, c0, 1, False)
        downs = [double(c0, c0, 2)] if outer else []
        self.down = nn.ModuleList([*downs, double(c0, c1, 2), double(c1, c2, 2), double(c2, c3, 2), double(c3, c4, 2)])
        self.fuse = nn.Sequential(double(2 * c4, c4, 1), double(c4, c3, 1))
        last = c0 // 2 if outer else c0
        ups = [Up(2 * c0, c0 // 2)] if outer else []
        self.up = nn.ModuleList([Up(c3 + c3, c2), Up(c2 + c2, c1), Up(c1 + c1, c0), Up(c0 + c0, c0), *ups])
        self.out = nn.Conv2d(last, 3, 1)

    def picture(self, visual, audio_map):
        """The U-Net with the audio branch's output given (crops of it in training)."""
        skips = [self.inc(visual)]
        for d in self.down:
            skips.append(d(skips[-1]))
        x = self.fuse(torch.cat([skips.pop(), audio_map], 1))
        for u in self.up:
            x = u(x, skips.pop())
        return torch.sigmoid(self.out(x))

    def forward(self, visual, audio):
        return self.picture(visual, self.audio(audio))


class Encoder(nn.Module):
    """One audio step [N, 1, 80, 16] -> [N, 512] >= 0; strides end at 1x1."""

    def __init__(self):
        super().__init__()
        def block(i, o, s):
            return [nn.Conv2d(i, o, 3, s, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True)]
        self.net = nn.Sequential(
            *block(1, 16, (2, 1)), *block(16, 32, 2), *block(32, 48, 2), *block(48, 48, 2),
            nn.Conv2d(48, 512, (5, 2)), nn.ReLU())

    def forward(self, x):
        return self.net(x).flatten(1)


def count_macs(net, *inputs):
    total = 0

    def hook(m, _, out):
        nonlocal total
        total += out[0].numel() * m.weight[0].numel()
    handles = [m.register_forward_hook(hook) for m in net.modules() if isinstance(m, nn.Conv2d)]
    was = net.training
    net.eval()
    with torch.no_grad():
        net(*inputs)
    net.train(was)
    for h in handles:
        h.remove()
    return total
