"""Where things are. AVATAR_WORK moves the (large) scratch folder elsewhere."""
import os
from pathlib import Path

TOOL = Path(__file__).resolve().parent.parent
REPO = TOOL.parent.parent
SPEECH = REPO / "assets" / "speech"
WORK = Path(os.environ.get("AVATAR_WORK", TOOL / "work"))


def avatar_folder(name, suffix=""):
    """What is shipped of a character; with the suffix of a kind, what the server reads of the one of that kind."""
    return WORK / "avatars" / f"{name}{suffix}" if suffix else REPO / "assets" / "avatars" / name


def work_folder(name):
    """What only its training needs."""
    folder = WORK / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder
