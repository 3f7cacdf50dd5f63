"""Where things are. MIRA_WORK moves the (large) scratch folder elsewhere."""
import os
from pathlib import Path

TOOL = Path(__file__).resolve().parent.parent
REPO = TOOL.parent.parent
AVATAR = REPO / "assets" / "avatars" / "mira"
SPEECH = REPO / "assets" / "speech"
WORK = Path(os.environ.get("MIRA_WORK", TOOL / "work"))
