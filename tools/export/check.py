"""Checks export.py: for each family a project folder with seeded weights is made, exported, and judged by inspect-model.

Usage: check.py SERVER_BINARY
"""

import pathlib
import subprocess
import sys
import tempfile

import torch
import transformers

HERE = pathlib.Path(__file__).resolve().parent
ZOO = HERE.parent / "export-zoo"
sys.path[:0] = [str(HERE), str(ZOO)]

from export import Encoder  # noqa: E402

# A project's module, written for the check: our networks of the published shapes, behind the projects' names.
PROJECT = """
import sys
sys.path.insert(0, {zoo!r})
from networks import CHANNELS, OneBlock, Block, UNet

class Model(UNet):
    def __init__(self, n_channels=6, mode="hubert"):
        super().__init__({side}, {{"ave": "ave", "hubert": {hubert!r}, "wenet": {wenet!r}}}[mode], {block})
"""
WAV2LIP = """
import sys
sys.path.insert(0, {zoo!r})
import networks

class Wav2Lip(networks.Wav2Lip):
    def __init__(self):
        super().__init__({side}, 16)
"""
# Name, module, side, windows of hubert and wenet, block, kind.
FAMILIES = [
    ("SyncTalk_2D 328, ave", "unet_328", 320, "hubert", "wenet", "Block", "ave"),
    ("SyncTalk_2D 328, hubert", "unet_328", 320, "hubert", "wenet", "Block", "hubert"),
    ("SyncTalk_2D 160, wenet", "unet", 160, "hubert", "wenet", "Block", "wenet"),
    ("Ultralight, hubert", "models/unet", 160, "hubert16", "wenet128", "Block", "hubert"),
    ("Ultralight, wenet", "models/unet", 160, "hubert16", "wenet128", "Block", "wenet"),
    ("MobileOne, hubert", "unet", 160, "hubert16", "wenet128", "OneBlock", "hubert"),
]


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def judged(server, code, text, onnx, expected):
    if code == 0:
        code, more = run(server, "inspect-model", onnx)
        text += more
    ok = code == 0 and expected in text
    return ok, text.strip().splitlines()[-1]


def main():
    server = sys.argv[1]
    failures = 0
    with tempfile.TemporaryDirectory() as work:
        for n, (name, module, side, hubert, wenet, block, kind) in enumerate(FAMILIES):
            project = pathlib.Path(work) / str(n)
            file = project / f"{module}.py"
            file.parent.mkdir(parents=True)
            text = PROJECT.format(zoo=str(ZOO), side=side, hubert=hubert, wenet=wenet, block=block)
            file.write_text(text)
            scope = {}
            exec(text, scope)  # noqa: S102 - the text above
            torch.manual_seed(n)
            net = scope["Model"](6, kind)
            torch.save({"state_dict": {f"module.{k}": v for k, v in net.state_dict().items()}}, project / "9.pth")
            onnx = project / "unet.onnx"
            code, text = run(sys.executable, HERE / "export.py", "generator", "--project", project, "--checkpoint",
                             project / "9.pth", "--out", onnx, "--audio", kind)
            ok, last = judged(server, code, text, onnx, f"serves as the generator of {side}-pixel faces with {kind} audio")
            failures += not ok
            print("ok  " if ok else "FAIL", name, "|", last)
        for side in (96, 256, 288, 384):
            project = pathlib.Path(work) / f"wav2lip{side}"
            (project / "models").mkdir(parents=True)
            text = WAV2LIP.format(zoo=str(ZOO), side=side)
            (project / "models" / "__init__.py").write_text(text)
            scope = {}
            exec(text, scope)  # noqa: S102 - the text above
            torch.manual_seed(side)
            torch.save({"state_dict": scope["Wav2Lip"]().state_dict()}, project / "9.pth")
            onnx = project / "wav2lip.onnx"
            code, text = run(sys.executable, HERE / "export.py", "wav2lip", "--project", project, "--checkpoint",
                             project / "9.pth", "--out", onnx)
            ok, last = judged(server, code, text, onnx, f"serves as the generator of {side}-pixel faces with mel audio")
            failures += not ok
            print("ok  " if ok else "FAIL", f"Wav2Lip {side}", "|", last)
        folder = pathlib.Path(work)
        state = {k.removeprefix("audio_encoder."): v for k, v in Encoder().state_dict().items()}
        torch.save(state, folder / "ave.pth")
        onnx = folder / "ave.onnx"
        code, text = run(sys.executable, HERE / "export.py", "encoder", "--checkpoint", folder / "ave.pth", "--out", onnx)
        ok, last = judged(server, code, text, onnx, "serves as an audio encoder of 512 floats a step")
        failures += not ok
        print("ok  " if ok else "FAIL", "AVE encoder |", last)
        # HuBERT large with fewer layers and channels: what its features are is the same.
        form = dict(feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True, feat_proj_layer_norm=True)
        config = transformers.HubertConfig(hidden_size=1024, num_hidden_layers=1, num_attention_heads=16,
                                           intermediate_size=64, conv_dim=(16,) * 7, **form)
        transformers.HubertModel(config).save_pretrained(folder / "hubert")
        onnx = folder / "hubert.onnx"
        code, text = run(sys.executable, HERE / "export.py", "hubert", "--checkpoint", folder / "hubert", "--out", onnx)
        ok, last = judged(server, code, text, onnx, "serves as a hubert audio encoder of 2048 floats a step")
        failures += not ok
        print("ok  " if ok else "FAIL", "HuBERT encoder |", last)
    raise SystemExit(failures)


if __name__ == "__main__":
    main()
