"""What distinguishes one character from another."""
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Skin:
    light: str
    base: str
    mid: str
    shade: str     # the far edge of the face
    shadow: str    # soft shadows on it
    deep: str      # outlines: nostrils, creases
    gleam: str     # highlights
    blush: str
    blush_alpha: float
    neck: tuple[str, str, str]
    freckles: tuple = ()


@dataclass(frozen=True)
class Lips:
    upper: tuple[str, str, str]
    lower: tuple[str, str, str]
    line: str
    gloss: float
    fullness: float = 1.0


@dataclass(frozen=True)
class Eyes:
    iris: tuple[str, str, str, str]
    rim: str
    lash: str
    wing: float        # how far the upper lash line reaches past the corner, 0..1
    brow: tuple[str, str]
    brow_weight: float
    brow_tilt: float   # degrees; more lifts the inner ends
    scale: tuple[float, float] = (1.14, 1.18)


@dataclass(frozen=True, eq=False)
class Character:
    """Everything that the illustrator needs beside the pose."""
    name: str
    title: str
    seed: int                      # of the idle motion
    blinks: tuple[int, ...]        # frames of the loop at which the lids come down
    region: int                    # 320 or 160: which contract the network follows
    channels: tuple[int, ...]
    n_frames: int                  # of the idle loop
    rect_size: int                 # side of the face rectangle, px
    rect_y: float                  # its centre below the eyes, px
    outline: tuple                 # right half of the face, top to bottom
    ears: bool
    skin: Skin
    lips: Lips
    eyes: Eyes
    draw_room: Callable
    draw_back_hair: Callable
    draw_front_hair: Callable
    draw_outfit: Callable          # shoulders, below the neck
    draw_collar: Callable          # over the neck
    smile: float = 0.5             # how much the corners of the closed mouth rise
    portrait: dict = field(default_factory=dict)
