"""The parameters of one drawing."""
from dataclasses import dataclass, field


@dataclass
class Mouth:
    """What speech moves. All zero is the relaxed closed mouth of the frames."""
    open: float = 0.0    # 0 closed .. 1 wide open (vertical gap between the lips)
    width: float = 0.0   # -1 narrow .. 1 spread ("ee")
    round: float = 0.0   # 0 .. 1 puckered ("oo")
    teeth: float = 0.0   # 0 .. 1 upper teeth shown even when the gap is small ("s", "f")
    tongue: float = 0.0  # 0 .. 1 tongue raised to the teeth ("l", "th")


@dataclass
class Pose:
    """Where the head is and what the rest of the face does."""
    tx: float = 0.0      # head translation, pixels
    ty: float = 0.0
    roll: float = 0.0    # degrees
    yaw: float = 0.0     # pixels that the nose tip slides sideways
    pitch: float = 0.0   # pixels that the nose tip slides down
    breath: float = 0.0  # 0 .. 1
    blink: float = 0.0   # 0 open .. 1 shut
    gaze_x: float = 0.0  # pixels
    gaze_y: float = 0.0
    brow: float = 0.0    # -1 .. 1, up is positive
    smile: float = 0.0   # 0 .. 1, corners of the closed mouth
    mouth: Mouth = field(default_factory=Mouth)
