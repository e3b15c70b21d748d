"""What the engine can be told: one immutable value. A change replaces the value (see ``Stream.configure``)."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.adapter_list import parse_loras, parse_pictures
from pipeline.backdrop import COLOURS, parse_backdrop
from pipeline.setting import Cost, Need, Pick, Section, check, setting
from pipeline.shape_list import HINTS, parse_shapes
from pipeline.timestep_list import MOST_STEPS, parse_timesteps

SOLVERS = (
    "lcm",
    "ddim",
    "euler",
    "dpmpp-2m",
    "dpmpp-3m",
    "dpmpp-3m-taylor",
    "dpmpp-2s",
    "dpmpp-3s",
    "dpmpp-2m-sde",
    "dpm-2m",
    "dpm-3m",
    "dpm-2",
    "dpm-3",
    "tcd",
    "unipc-2",
    "unipc-3",
)
SPACINGS = ("trailing", "leading", "linspace", "karras", "logsnr", "time-uniform", "time-quadratic", "skipping")
SEED_TRAVELS = ("hold", "walk", "swing")
ACCELERATIONS = ("auto", "eager", "compile", "cuda-graphs", "openvino", "openvino-gpu", "openvino-npu")
MEMORY_MODES = ("full", "sliced", "offload")  # from the fastest to what takes the least
GUIDANCE_KINDS = ("none", "full", "self-negative", "onetime-negative")

STYLED_PARTS = ("everything", "person", "background")

_GUIDED = Need("guidance", tuple(kind for kind in GUIDANCE_KINDS if kind != "none"))
_FILTERED = Need("similarity_filter", (True,))
_ON_A_GRID = Need("timesteps", ("",))
_SHAPED = Need("keep_shape", unless="")
_LIKENED = Need("look_like", unless="")


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """Settings of one stream. Sizes and frame buffer are not here: the engine reads them off the frames it is given.

    Raises:
        ValueError: a value is outside its range; the message names the setting, the value and the range.
    """

    prompt: str = setting("", "what the picture should become", cost=Cost.PROMPT, section=Section.ELSEWHERE)
    negative_prompt: str = setting(
        "", "what the picture should move away from", cost=Cost.PROMPT, section=Section.ELSEWHERE
    )
    prompt_b: str = setting(
        "",
        "a second prompt, to blend the first with",
        cost=Cost.PROMPT,
        label="Second prompt",
        section=Section.ELSEWHERE,
    )
    blend: float = setting(
        0.0,
        "how much of the second prompt: 0 none, 1 nothing else",
        low=0,
        high=1,
        step=0.01,
        cost=Cost.PROMPT,
        section=Section.ELSEWHERE,
    )
    transition: float = setting(
        0.0,
        "how long a change of the prompts takes",
        low=0,
        high=600,
        step=0.5,
        unit="seconds",
        section=Section.ELSEWHERE,
    )
    loras: str = setting(
        "",
        "LoRAs, files or hub names, with their strength: a.safetensors:0.8",
        cost=Cost.PROMPT,
        many=True,
        parse=parse_loras,
        label="LoRAs",
        pick=Pick.WEIGHTS,
        section=Section.ADD_ONS,
        reads_files=True,
    )
    embeddings: str = setting(
        "",
        "files of learned words (textual inversions) to know",
        cost=Cost.PROMPT,
        many=True,
        label="Textual inversions",
        pick=Pick.WEIGHTS,
        section=Section.ADD_ONS,
        reads_files=True,
    )
    strength: float = setting(
        0.8,
        "how far the picture moves from the input",
        low=0.05,
        high=1,
        step=0.05,
        cost=Cost.TABLES,
        section=Section.LOOK,
        need=_ON_A_GRID,
    )
    steps: int = setting(
        1,
        "denoising steps for each frame",
        low=1,
        high=MOST_STEPS,
        step=1,
        cost=Cost.SLOTS,
        section=Section.LOOK,
        need=_ON_A_GRID,
    )
    timesteps: str = setting(
        "",
        "the timesteps of the denoising steps, chosen by hand: 559,359,199,99; they stand in for steps, strength and "
        "spacing",
        cost=Cost.SLOTS,
        parse=parse_timesteps,
        section=Section.SAMPLING,
    )
    solver: str = setting(
        "lcm",
        "how a denoising step is taken",
        choices=SOLVERS,
        cost=Cost.TABLES,
        section=Section.SAMPLING,
        reads_files=True,  # on a model of many steps, lcm asks for the LoRA that makes it one of few
    )
    spacing: str = setting(
        "trailing",
        "where the steps lie between the strength and no noise; trailing keeps to those that a fast model was made for,"
        " leading begins below the strength (one step at half of it), logsnr, karras, time-uniform and time-quadratic"
        " go down to the least noise; lcm and tcd have their own, or that of the first LCM, skipping",
        choices=SPACINGS,
        cost=Cost.TABLES,
        section=Section.SAMPLING,
        need=_ON_A_GRID,
    )
    tcd_gamma: float = setting(
        0.3,
        "how much of its noise the tcd solver replaces at each step: 0 nothing, 1 all of it",
        low=0,
        high=1,
        step=0.05,
        cost=Cost.TABLES,
        label="TCD gamma",
        section=Section.SAMPLING,
        need=Need("solver", ("tcd",)),
    )
    guidance: str = setting(
        "none",
        "how the prompts steer",
        choices=GUIDANCE_KINDS,
        cost=Cost.SLOTS,
        label="Guidance",
        section=Section.GUIDANCE,
    )
    guidance_scale: float = setting(
        1.0,
        "how strongly the prompts steer",
        low=0,
        high=20,
        step=0.1,
        label="Scale",
        section=Section.GUIDANCE,
        need=_GUIDED,
    )
    guidance_rescale: float = setting(
        0.0,
        "how much of its contrast without guidance a guided picture keeps, so that nothing burns out; 0 is guidance as "
        "the papers have it",
        low=0,
        high=1,
        step=0.05,
        label="Rescale",
        section=Section.GUIDANCE,
        need=_GUIDED,
    )
    image_guidance: float = setting(
        1.0,
        "how strongly the input picture steers (InstructPix2Pix, full guidance)",
        low=0,
        high=10,
        step=0.1,
        label="Image scale",
        section=Section.GUIDANCE,
        need=Need("guidance", ("full",)),
    )
    attention_guidance: float = setting(
        1.0,
        "how strongly the negative prompt is avoided inside the attentions, which works at one and two steps as well; "
        "1 is off",
        low=1,
        high=20,
        step=0.5,
        cost=Cost.PROMPT,
        label="Attention scale",
        section=Section.GUIDANCE,
    )
    attention_limit: float = setting(
        2.5,
        "how far guidance inside the attentions may go, in multiples of what it starts from",
        low=1,
        high=10,
        step=0.1,
        label="Attention limit",
        section=Section.GUIDANCE,
    )
    attention_blend: float = setting(
        0.25,
        "how much of the guided attention is taken: 0 nothing, 1 nothing else",
        low=0,
        high=1,
        step=0.05,
        label="Attention blend",
        section=Section.GUIDANCE,
    )
    delta: float = setting(
        1.0,
        "weight of the virtual negative residual (RCFG)",
        low=0,
        high=2,
        step=0.05,
        section=Section.GUIDANCE,
        need=Need("guidance", ("self-negative", "onetime-negative")),
    )
    seed: int = setting(0, "which noise is used", low=0, high=2**31 - 1, step=1, cost=Cost.TABLES, section=Section.LOOK)
    seed_b: int = setting(
        0,
        "a second seed, to blend the first with",
        low=0,
        high=2**31 - 1,
        step=1,
        cost=Cost.TABLES,
        label="Second seed",
        section=Section.VARIATION,
    )
    seed_blend: float = setting(
        0.0,
        "how much of the second seed: 0 none, 1 nothing else",
        low=0,
        high=1,
        step=0.01,
        cost=Cost.TABLES,
        label="Blend",
        section=Section.VARIATION,
    )
    text_to_image: bool = setting(
        False,
        "make pictures of words alone, without an input picture",
        cost=Cost.SLOTS,
        section=Section.TEXT_TO_IMAGE,
    )
    seed_travel: str = setting(
        "hold",
        "text to image: the seed stays, walks on to ever new ones, or swings between the first and the second",
        choices=SEED_TRAVELS,
        section=Section.TEXT_TO_IMAGE,
    )
    prompt_travel: bool = setting(
        False,
        "text to image: swing between the first prompt and the second",
        cost=Cost.PROMPT,
        section=Section.TEXT_TO_IMAGE,
    )
    travel_frames: int = setting(
        60,
        "text to image: how far it is from one seed or prompt to the next",
        low=1,
        high=10_000,
        step=1,
        unit="frames",
        label="Frames per transition",
        section=Section.TEXT_TO_IMAGE,
    )
    keep_shape: str = setting(
        "",
        f"what of the input the picture keeps however strong the style is: {', '.join(HINTS)}, each with a weight and, "
        "after @, the T2I-Adapter or ControlNet to use, or else the one that is usual for the model",
        cost=Cost.SLOTS,
        many=True,
        parse=parse_shapes,
        section=Section.SHAPE,
        reads_files=True,
        offers=tuple(f"{hint}:0.8" for hint in HINTS),
        form="HINT:WEIGHT",
        label="Keep",
    )
    shape_strength: float = setting(
        1.0,
        "how strongly the shape is kept; 0 is off",
        low=0,
        high=2,
        step=0.05,
        label="Shape strength",
        section=Section.SHAPE,
        need=_SHAPED,
    )
    depth_model: str = setting(
        "",
        "the model that sees the depth of a frame, for depth in keep shape: a folder or hub name",
        label="Depth model",
        pick=Pick.FOLDER,
        section=Section.SHAPE,
        reads_files=True,
        need=_SHAPED,
    )
    pose_model: str = setting(
        "",
        "the model that sees the pose of a person, for pose in keep shape: a folder or hub name",
        label="Pose model",
        pick=Pick.FOLDER,
        section=Section.SHAPE,
        reads_files=True,
        need=_SHAPED,
    )
    look_like: str = setting(
        "",
        "pictures that the picture takes its look or its face from, with their weight: face.png:0.7",
        cost=Cost.PROMPT,
        many=True,
        parse=parse_pictures,
        section=Section.REFERENCE,
        reads_files=True,
        form="FILE:WEIGHT",
        label="Pictures",
        pick=Pick.PICTURE,
    )
    look_weight: float = setting(
        0.8,
        "how strongly those pictures steer beside the prompt; 0 is off",
        low=0,
        high=2,
        step=0.05,
        label="Picture weight",
        section=Section.REFERENCE,
        need=_LIKENED,
    )
    look_model: str = setting(
        "",
        "the IP-Adapter that shows them to the model: a file, a folder or a hub name; by default the one that is usual "
        "for the model",
        cost=Cost.PROMPT,
        label="IP-Adapter",
        pick=Pick.WEIGHTS,
        section=Section.REFERENCE,
        reads_files=True,
        need=_LIKENED,
    )
    only: str = setting(
        "everything",
        "what is styled: everything, only the person, or only the background; the rest stays as the camera sees it",
        choices=STYLED_PARTS,
        cost=Cost.SLOTS,
        label="Style only",
        section=Section.PERSON,
    )
    background: str = setting(
        "",
        "what stands behind the person: blur, blur:20 (pixels), none (transparent), a colour "
        f"(#00ff00, {', '.join(COLOURS)}), or a picture file; by default what is there",
        cost=Cost.SLOTS,
        parse=parse_backdrop,
        section=Section.PERSON,
        reads_files=True,
        offers=("blur", "none", "green", "black", "white"),
        form="BACKGROUND",
        pick=Pick.PICTURE,
    )
    mask_growth: int = setting(
        0,
        "how far the person's outline is moved out, or, below 0, in",
        low=-64,
        high=64,
        step=1,
        unit="pixels",
        label="Grow the person",
        section=Section.PERSON,
    )
    mask_feather: int = setting(
        3,
        "how soft the person's outline is",
        low=0,
        high=64,
        step=1,
        unit="pixels",
        label="Feather",
        section=Section.PERSON,
    )
    mask_smoothing: float = setting(
        0.5,
        "how much the outline stays as it was from frame to frame: 0 nothing",
        low=0,
        high=1,
        step=0.05,
        label="Steady outline",
        section=Section.PERSON,
    )
    feature_bank: float = setting(
        0.0,
        "how much of the last pictures each one takes over inside the model, against flicker (StreamV2V); 0 is off",
        low=0,
        high=1,
        step=0.05,
        cost=Cost.SLOTS,
        label="Feature bank",
        section=Section.MOTION,
    )
    similarity_filter: bool = setting(
        False,
        "skip frames that look like the last one (SSF)",
        label="Skip similar frames",
        section=Section.SIMILAR,
        look=False,  # as the two below, it says when frames are skipped
    )
    similarity_threshold: float = setting(
        0.98,
        "similarity above which a frame may be skipped (eta)",
        low=0,
        high=1,
        step=0.005,
        label="Threshold",
        section=Section.SIMILAR,
        need=_FILTERED,
        look=False,
    )
    similarity_skip_cap: int = setting(
        10,
        "at most this many frames are skipped in a row",
        low=0,
        high=10_000,
        step=1,
        unit="frames",
        label="Skip at most",
        section=Section.SIMILAR,
        need=_FILTERED,
        look=False,
    )
    sparse: bool = setting(False, "compute only what changed in the picture", section=Section.ENGINE)
    sparse_overlay: bool = setting(
        False,
        "tint what was computed anew, where only what changed is computed",
        section=Section.ENGINE,
        need=Need("sparse", (True,)),
    )

    def __post_init__(self) -> None:
        check(self)

    @property
    def step_count(self) -> int:
        """T, the denoising steps of each frame: as many as there are ``timesteps``, or else ``steps``."""
        return len(self.timestep_list) or self.steps

    @property
    def timestep_list(self) -> tuple[int, ...]:
        """The ``timesteps`` as numbers."""
        return parse_timesteps(self.timesteps)

    def unknown_timesteps(self, known: range) -> str | None:
        """Why these ``timesteps`` cannot be told to a model that knows those ``known``, in one sentence, or None."""
        if all(timestep in known for timestep in self.timestep_list):
            return None
        return f"timesteps are {self.timesteps!r}; those of this model are whole numbers from {known[0]} to {known[-1]}"

    @property
    def conflict(self) -> str | None:
        """Why these settings cannot be run together, in one sentence; None where they can."""
        if self.text_to_image and self.guidance == "self-negative":
            return (
                "self-negative guidance moves away from the input picture, and text to image has none; "
                "choose onetime-negative, full or none"
            )
        return None
