"""Turns a checkpoint (.pth) into an ONNX file that the server reads. See README.md.

Usage:
  export.py generator --project FOLDER --checkpoint FILE.pth --out unet.onnx [--audio ave] [--module unet_328]
  export.py encoder --checkpoint audio_visual_encoder.pth --out audio_encoder.onnx
  export.py hubert --checkpoint FOLDER --out hubert.onnx
  export.py wav2lip --project FOLDER --checkpoint FILE.pth --out wav2lip.onnx [--module models] [--name Wav2Lip]

A checkpoint holds weights and no network. The network of a generator comes from the project's own code in FOLDER, which
runs; the checkpoint itself is read with weights_only, so nothing in it runs.
"""

import argparse
import importlib
import inspect
import pathlib
import sys
import warnings

import torch
from torch import nn

# Windows [C, H, W] by audio kind, the older networks first.
WINDOWS = {
    "ave": [(32, 16, 16)],
    "hubert": [(32, 32, 32), (16, 32, 32)],
    "wenet": [(256, 16, 32), (128, 16, 32)],
}
SIDES = (320, 160)
# Where the projects keep the class `Model`.
MODULES = ("unet_328", "synctalk.core.unet_328", "unet", "models.unet")
# Where projects keep the class `Wav2Lip`, and the sides of its faces.
WAV2LIP_MODULES = ("models", "wav2lip.models", "avatars.wav2lip.models", "models.wav2lip", "models.wav2lipv2")
WAV2LIP_SIDES = (96, 256, 288, 384)
# The AVE encoder: channels out, stride, and how many residual layers follow.
STAGES = ((32, 1, 2), (64, (3, 1), 2), (128, 3, 2), (256, (3, 2), 1))
STEP = 512
TOLERANCE = 1e-5
# Of HuBERT, whose weights are written in f16: in f32 the file would be larger than any that the server reads (1 GiB).
TOLERANCE_F16 = 1e-2
HUBERT_SAMPLES, HUBERT_WIDTH = 16_000, 1024


def weights(path):
    """The state dict of a checkpoint, whatever it is wrapped in."""
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model", "net"):
        if isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    return {name.removeprefix("module."): tensor for name, tensor in loaded.items()}


def model_class(project, module, modules=MODULES, class_name="Model"):
    """A class of a project, by the first of its modules that there is."""
    sys.path.insert(0, str(project.resolve()))
    tried = []
    for name in [module] if module else modules:
        try:
            return getattr(importlib.import_module(name), class_name), name
        except (ImportError, AttributeError) as error:
            tried.append(f"{name}: {error}")
    raise SystemExit(f"no class {class_name} in the project; name its module with --module:\n  " + "\n  ".join(tried))


def built(make, kind):
    """A network for a kind of audio. Some projects have one kind only and take no name of it."""
    n_parameters = len(inspect.signature(make).parameters)
    return make(6, kind) if n_parameters > 1 else make(6)


def fitting(make, state, kinds):
    """Kinds of audio whose network takes the weights, and the last one's complaint."""
    found, complaint = {}, ""
    for kind in kinds:
        try:
            net = built(make, kind)
            net.load_state_dict(state)
            found[kind] = net.eval()
        except (RuntimeError, TypeError, AttributeError, ValueError) as error:
            complaint = str(error)[:600]
    return found, complaint


def inputs_of(net, kind):
    """Random inputs of the first size that the network runs with: weights do not show it."""
    for side in SIDES:
        for window in WINDOWS[kind]:
            inputs = (torch.rand(1, 6, side, side), torch.rand(1, *window))
            try:
                with torch.no_grad():
                    output = net(*inputs)
            except (RuntimeError, IndexError):
                continue
            if tuple(output.shape) == (1, 3, side, side):
                return inputs, f"{side}-pixel faces with {kind} windows of {list(window)}"
    raise SystemExit(f"the network runs with no known size of face and {kind} window")


def merged(net):
    """Without training-time branches, where the project can merge them."""
    for module in net.modules():
        if hasattr(module, "reparameterize"):
            module.reparameterize()
    return net


def generator(args):
    make, module = model_class(args.project, args.module)
    kinds = [args.audio] if args.audio else list(WINDOWS)
    found, complaint = fitting(make, weights(args.checkpoint), kinds)
    if not found:
        raise SystemExit(f"the weights do not fit {module}.Model: {complaint}")
    # The networks of two kinds may have the same weights, and differ in a stride.
    if len(found) > 1:
        raise SystemExit(f"the weights fit {' and '.join(found)}: name the one of the training with --audio")
    kind, net = found.popitem()
    inputs, about = inputs_of(net, kind)
    print(f"{module}.Model: {about}")
    save(merged(net), inputs, args.out, ["input", "audio"], "output")


class Layer(nn.Module):
    """A convolution, its normalisation, perhaps the input, and a ReLU; named as in the published checkpoint."""

    def __init__(self, c_in, c_out, kernel=3, stride=1, pad=1, residual=False):
        super().__init__()
        self.conv_block = nn.Sequential(nn.Conv2d(c_in, c_out, kernel, stride, pad), nn.BatchNorm2d(c_out))
        self.residual = residual

    def forward(self, x):
        y = self.conv_block(x)
        return torch.relu(y + x if self.residual else y)


class Encoder(nn.Module):
    """The AVE audio encoder: mel [N, 1, 80, 16] to [N, 512]."""

    def __init__(self):
        super().__init__()
        layers, c = [], 1
        for c_out, stride, n_more in STAGES:
            layers.append(Layer(c, c_out, stride=stride))
            layers += [Layer(c_out, c_out, residual=True) for _ in range(n_more)]
            c = c_out
        layers += [Layer(c, STEP, pad=0), Layer(STEP, STEP, kernel=1, pad=0)]
        self.audio_encoder = nn.Sequential(*layers)

    def forward(self, mel):
        return self.audio_encoder(mel).flatten(1)


def encoder(args):
    state = weights(args.checkpoint)
    prefix = "audio_encoder."
    # The file of SyncTalk_2D leaves the prefix out; others hold more networks than this.
    inner = {name: tensor for name, tensor in state.items() if name.startswith(prefix)}
    state = inner or {prefix + name: tensor for name, tensor in state.items()}
    net = Encoder()
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise SystemExit(f"these are not the weights of an AVE audio encoder: {str(error)[:600]}") from None
    save(net.eval(), (torch.rand(2, 1, 80, 16) * 8 - 4,), args.out, ["mel"], "step")


class Hidden(nn.Module):
    """The last hidden state alone."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, samples):
        return self.net(samples).last_hidden_state


def hubert(args):
    import transformers

    if not (args.checkpoint / "config.json").is_file():
        raise SystemExit(f"{args.checkpoint} is no folder of Hugging Face's, with config.json and the weights")
    net = transformers.HubertModel.from_pretrained(args.checkpoint, local_files_only=True, dtype=torch.float32)
    if net.config.hidden_size != HUBERT_WIDTH:
        raise SystemExit(f"features of {net.config.hidden_size} numbers; avatars are trained with {HUBERT_WIDTH}: HuBERT large")
    net = Hidden(net.eval())
    samples = torch.randn(1, HUBERT_SAMPLES)
    with torch.no_grad():
        expected = net(samples).numpy()
    save(net.half(), (samples.half(),), args.out, ["input"], "output", ({"input": {1: "size"}}, expected, TOLERANCE_F16))


def wav2lip(args):
    make, module = model_class(args.project, args.module, WAV2LIP_MODULES, args.name)
    net = make()
    try:
        net.load_state_dict(weights(args.checkpoint))
    except RuntimeError as error:
        raise SystemExit(f"the weights do not fit {module}.{args.name}: {str(error)[:600]}") from None
    net.eval()
    for side in WAV2LIP_SIDES:
        # The network hears first.
        inputs = (torch.rand(1, 1, 80, 16) * 8 - 4, torch.rand(1, 6, side, side))
        try:
            with torch.no_grad():
                output = net(*inputs)
        except (RuntimeError, IndexError):
            continue
        if tuple(output.shape) == (1, 3, side, side):
            print(f"{module}.{args.name}: {side}-pixel faces")
            if float(output.min()) < 0.0 or float(output.max()) > 1.0:
                print("it writes numbers outside 0..1, which the server refuses: end it in a sigmoid, or in (tanh + 1) / 2")
            return save(net, inputs, args.out, ["mel", "face"], "output")
    raise SystemExit(f"the network runs with no face of {', '.join(map(str, WAV2LIP_SIDES))} pixels")


def save(net, inputs, out, names, output, special=None):
    """Writes one file and compares it with PyTorch where ONNX Runtime is installed.

    The batch axis is open, unless `special` names the open axes, what is expected and the tolerance.
    """
    if out.exists():
        raise SystemExit(f"{out} exists and is left as it is")
    axes, expected, tolerance = special or ({name: {0: "batch"} for name in [*names, output]}, None, TOLERANCE)
    with warnings.catch_warnings():
        # The older exporter is meant: it writes one file, and every opset.
        warnings.simplefilter("ignore")
        torch.onnx.export(net, inputs, str(out), input_names=names, output_names=[output], dynamic_axes=axes,
                          opset_version=17, dynamo=False)
    try:
        import onnxruntime
    except ImportError:
        print(f"wrote {out}; not compared, since onnxruntime is not installed")
        return
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    answer = session.run(None, {name: x.numpy() for name, x in zip(names, inputs)})[0]
    if expected is None:
        with torch.no_grad():
            expected = net(*inputs).numpy()
    error = float(((answer - expected) ** 2).sum() ** 0.5 / (expected ** 2).sum() ** 0.5)
    print(f"wrote {out}: relative L2 {error:.1e} between ONNX Runtime and PyTorch")
    if not error <= tolerance:
        out.unlink()
        raise SystemExit(f"more than {tolerance}: the file was removed")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    of_generator = commands.add_parser("generator")
    of_generator.add_argument("--project", type=pathlib.Path, required=True, help="folder of the project's code")
    of_generator.add_argument("--module", help=f"Python module with the class Model [default: the first of {', '.join(MODULES)}]")
    of_generator.add_argument("--audio", choices=list(WINDOWS), help="kind of audio of the training, if the weights fit several")
    of_generator.set_defaults(run=generator)
    of_encoder = commands.add_parser("encoder")
    of_encoder.set_defaults(run=encoder)
    of_hubert = commands.add_parser("hubert")
    of_hubert.set_defaults(run=hubert)
    of_wav2lip = commands.add_parser("wav2lip")
    of_wav2lip.add_argument("--project", type=pathlib.Path, required=True, help="folder of the project's code")
    of_wav2lip.add_argument("--module", help=f"Python module with the class [default: the first of {', '.join(WAV2LIP_MODULES)}]")
    of_wav2lip.add_argument("--name", default="Wav2Lip", help="the class [default: Wav2Lip]")
    of_wav2lip.set_defaults(run=wav2lip)
    for command in (of_generator, of_encoder, of_hubert, of_wav2lip):
        command.add_argument("--checkpoint", type=pathlib.Path, required=True, help="the .pth file; of HuBERT, the folder")
        command.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
