"""The words: every style and tint with its phrases. Data only; `prompts.py` makes sentences of them.

`held_out` phrases are never trained on, in any sentence: they measure whether free wording is understood.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Phrases:
    """One style or tint: what a chip shows, the prompt it sets, trained phrases, phrases kept for the test."""

    name: str
    prompt: str
    trained: tuple[str, ...]
    held_out: tuple[str, ...]


STYLES: dict[str, Phrases] = {
    "photo": Phrases(
        "Photo",
        "a photo",
        ("a photo", "a photograph", "photo", "photorealistic", "realistic photo", "a natural photograph", "unchanged",
         "the original picture", "no style", "as it is", "a plain photo", "real life", "a camera picture",
         "dslr photo", "raw photo", "a snapshot", "photography", "a realistic picture", "normal", "plain"),
        ("a realistic photograph", "just a normal photo", "leave the picture unchanged"),
    ),
    "pencil": Phrases(
        "Pencil sketch",
        "a pencil sketch",
        ("a pencil sketch", "a pencil drawing", "pencil", "a graphite drawing", "graphite", "pencil on paper",
         "a sketch", "hand drawn sketch", "sketched in pencil", "a charcoal drawing", "charcoal sketch",
         "pencil portrait", "a drawing in pencil", "sketchbook page", "graphite pencil", "pencil shading", "a drawing"),
        ("a graphite pencil drawing on paper", "sketched with a pencil", "a hand drawn pencil portrait"),
    ),
    "ink": Phrases(
        "Ink drawing",
        "an ink drawing",
        ("an ink drawing", "ink", "pen and ink", "a black ink drawing", "brush and ink", "ink illustration",
         "ink lines", "bold ink", "inked", "india ink", "linocut", "a black and white ink drawing", "ink on paper",
         "a woodcut print in black", "pen drawing", "line art", "lineart", "stencil"),
        ("drawn with pen and ink", "a bold ink illustration", "black ink on white paper"),
    ),
    "comic": Phrases(
        "Comic",
        "a comic book",
        ("a comic book", "comic", "a comic", "comic book style", "comic strip", "a superhero comic", "pop art",
         "cartoon", "a cartoon", "marvel comic", "graphic novel", "comic panel", "halftone comic", "lichtenstein",
         "comics", "american comic", "cartoon drawing", "comic illustration"),
        ("a page from a comic book", "drawn like a superhero cartoon", "pop art comic panel"),
    ),
    "anime": Phrases(
        "Anime",
        "an anime character",
        ("an anime character", "anime", "an anime", "anime film", "shinkai", "makoto shinkai", "ghibli",
         "studio ghibli", "manga", "japanese animation", "anime style", "an anime still", "anime scene",
         "anime movie", "a manga character", "japanese anime", "anime art", "cel shaded anime"),
        ("a still from an anime film", "japanese anime character", "drawn like a studio ghibli movie"),
    ),
    "oil": Phrases(
        "Oil painting",
        "an oil painting",
        ("an oil painting", "oil", "oil paint", "oil on canvas", "oils", "a classical painting", "thick paint",
         "brush strokes", "a painting in oil", "impasto", "rembrandt", "an old master painting", "painted in oil",
         "a canvas painting", "oil portrait", "painterly", "acrylic painting", "a painting"),
        ("painted with oils on canvas", "a classical oil portrait", "thick oil paint brush strokes"),
    ),
    "watercolour": Phrases(
        "Watercolour",
        "a watercolour",
        ("a watercolour", "watercolor", "watercolour", "a watercolor painting", "a watercolour painting", "aquarelle",
         "water colours", "watercolors", "watercolor wash", "painted in watercolour", "soft watercolor",
         "a wet watercolor", "watercolour sketch", "aquarell", "watercolor on paper", "gouache", "water color"),
        ("a soft watercolour wash on paper", "painted in water colors", "an aquarelle painting"),
    ),
    "van_gogh": Phrases(
        "Van Gogh",
        "van gogh",
        ("van gogh", "vincent van gogh", "starry night", "the starry night", "a van gogh painting", "vangogh",
         "by van gogh", "painted by vincent van gogh", "gogh", "van gogh style", "vincent", "post impressionist",
         "swirling brush strokes like van gogh", "a starry night painting", "van goghs starry night"),
        ("the starry night by vincent van gogh", "how van gogh would paint it", "a picture by vincent"),
    ),
    "ukiyo_e": Phrases(
        "Ukiyo-e",
        "a japanese woodblock print",
        ("a japanese woodblock print", "ukiyo-e", "ukiyo e", "ukiyoe", "hokusai", "the great wave", "woodblock print",
         "an old japanese woodblock print", "japanese print", "hiroshige", "woodblock", "a hokusai print",
         "the great wave off kanagawa", "by hokusai", "edo period print", "japanese woodcut", "great wave"),
        ("an old woodblock print from japan", "hokusai's great wave", "a ukiyo-e print by hiroshige"),
    ),
    "stained_glass": Phrases(
        "Stained glass",
        "a stained glass window",
        ("a stained glass window", "stained glass", "a church window", "cathedral window", "leaded glass",
         "glass window", "stained-glass", "coloured glass", "a glass painting", "colored glass panes",
         "gothic window", "cathedral glass", "tiffany glass", "a window of stained glass", "glass panes with lead"),
        ("a gothic church window of coloured glass", "made of stained glass panes", "a cathedral stained glass"),
    ),
    "mosaic": Phrases(
        "Mosaic",
        "a mosaic",
        ("a mosaic", "mosaic", "a roman mosaic", "mosaic tiles", "tiles", "a tile mosaic", "made of tiles",
         "byzantine mosaic", "ceramic tiles", "tessellated", "a mosaic floor", "ancient mosaic", "tiled",
         "tesserae", "mosaic art", "mosaic of small stones", "azulejo tiles"),
        ("an ancient roman tile mosaic", "a floor mosaic of ceramic tiles", "built from small mosaic stones"),
    ),
    "pixel_art": Phrases(
        "Pixel art",
        "pixel art",
        ("pixel art", "pixels", "8 bit", "8-bit game", "16 bit", "retro game", "a retro video game", "pixelated",
         "pixel", "a pixel art game", "nintendo", "game boy", "minecraft", "8bit pixel art", "an old video game",
         "lego", "pixel style", "sprite", "an arcade game"),
        ("a retro 8 bit video game", "a pixelated sprite", "old nintendo game pixels"),
    ),
    "neon": Phrases(
        "Neon",
        "neon lights",
        ("neon lights", "neon", "a neon sign", "glowing neon", "neon glow", "cyberpunk", "glowing lines",
         "glowing edges", "neon tubes", "synthwave", "tron", "neon outlines", "glow in the dark", "blacklight",
         "neon light", "cyberpunk neon city", "vaporwave", "laser lines"),
        ("a glowing neon sign at night", "drawn in neon light tubes", "cyberpunk glowing outlines"),
    ),
}  # fmt: skip

TINTS: dict[str, Phrases] = {
    "none": Phrases("No tint", "", (), ()),
    "warm": Phrases(
        "Warm",
        "warm colours",
        ("warm colours", "warm colors", "warm", "golden hour", "sunset colours", "warm tones", "warm light",
         "orange tint",
         "golden light", "autumn colours", "sunset", "warmer"),
        ("in warm golden tones", "warm sunset light"),
    ),
    "cold": Phrases(
        "Cold",
        "cold colours",
        ("cold colours", "cold colors", "cold", "cool colours", "cool tones", "blue tint", "icy", "winter colours",
         "moonlight", "cold light", "cool colors", "bluish", "colder"),
        ("in cool blue tones", "cold winter light"),
    ),
    "sepia": Phrases(
        "Sepia",
        "sepia",
        ("sepia", "sepia tone", "in sepia", "an old sepia photograph", "vintage sepia", "brown tint", "sepia toned",
         "daguerreotype", "faded brown", "old photo", "vintage", "antique"),
        ("an antique sepia tone", "vintage brown tint"),
    ),
    "bw": Phrases(
        "Black and white",
        "black and white",
        ("black and white", "monochrome", "b&w", "greyscale", "grayscale", "without colour", "in black and white",
         "black & white", "noir", "colourless", "film noir", "desaturated", "black white"),
        ("monochrome black and white", "in greyscale without colour"),
    ),
}  # fmt: skip

SUBJECTS = (
    "a woman", "a man", "a portrait of a woman", "a portrait", "my face", "a face", "a person", "people", "a child",
    "a girl", "a boy", "two friends", "a woman in a garden", "a man with glasses", "a cat", "a dog", "a room",
    "my room", "an office", "a street", "a city", "a landscape", "a mountain", "a house", "flowers", "a car", "me",
    "a selfie", "the picture", "a man at a desk", "someone talking", "a family", "a tree", "a river", "the sea", "food",
    "a shirt", "a robot", "a musician", "a dancer", "an old man", "a young woman smiling", "a person in a kitchen",
    "a horse", "a bird", "a bottle of milk", "a cup of tea", "a king", "a queen", "an astronaut", "a castle",
)  # fmt: skip

TEMPLATES = (
    "{s}",
    "{s}",
    "{s}",
    "{s}",
    "{s} of {x}",
    "{s} of {x}",
    "{x} as {s}",
    "{x} as {s}",
    "{x}, {s}",
    "as {s}",
    "in the style of {s}",
    "{s} style",
    "{x} in {s} style",
    "make it look like {s}",
    "turn me into {s}",
    "turn this photo into {s}",
    "{x} drawn as {s}",
    "make it {s}",
    "like {s}",
    "{x} like {s}",
    "{a} {s}",
    "{a} {s} of {x}",
    "{s}, {a}",
    "{x}, {s}, {a}",
    "draw me as {s}",
    "paint it as {s}",
    "this should be {s}",
    "i want {s}",
    "please make me {s}",
    "{s} effect",
    "{s} filter",
    "{s} with {x}",
    "show me as {s}",
    "{s} art",
    "convert to {s}",
    "style: {s}",
    "{x} rendered as {s}",
    "{s}, {x}, {a}",
    "how about {s}",
    "a picture in {s} style",
    "{s} look",
)

PLAIN_TEMPLATES = (
    "{x}",
    "{x}, {a}",
    "{a} {x}",
    "{x} and {x}",
    "{x} with {x}",
    "a photo of {x}",
    "photo of {x}",
    "{x} {r}",
    "{r} {r}",
    "{r}",
)

ADJECTIVES = (
    "beautiful",
    "detailed",
    "highly detailed",
    "masterpiece",
    "best quality",
    "simple",
    "elegant",
    "dramatic",
    "quick",
    "lovely",
    "soft",
    "fine",
    "expressive",
    "high quality",
    "4k",
    "nice",
    "stunning",
    "colourful",
    "colorful",
    "rough",
    "clean",
)

TINT_TEMPLATES = ("{p}, {t}", "{p}, {t}", "{p} in {t}", "{p} with {t}", "{t} {p}", "{t}, {p}", "{p} {t}")
