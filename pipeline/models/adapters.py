"""LoRAs on a loaded model: several at once, their strengths changed live, and every weight given back exactly."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from pipeline.adapter_list import Wanted, parse_files, parse_loras
from pipeline.conditioning.prompt_encoder import PromptEncoder
from pipeline.config import StreamConfig
from pipeline.models.errors import ModelError
from pipeline.models.families import Family, character_of_name, tells_few_steps
from pipeline.models.hub import download_part, looks_like_hub_id
from pipeline.models.lora import Lora, Place, flat_modules, read_lora
from pipeline.models.lora_names import Layer
from pipeline.models.modules import UNet
from pipeline.models.residency import DENOISER, TEXT, TEXT_2, Residency
from pipeline.models.textual_inversion import LearnedWord, read_embedding
from pipeline.user_path import is_file, is_folder, is_there, user_path

# LoRAs that have been read and are not in use are kept up to this many bytes, for whoever tries several in turn.
UNUSED_BYTES = 256 * 2**20


class Adapters:
    """The LoRAs and learned words of one model.

    ``read`` may run on any thread, at any time; ``follow`` on a thread that runs the model, between two calls. Weights
    are changed where they lie, so that what runs on them goes on with the new ones; the originals are kept in main
    memory, so that no strength, however often it is changed, leaves a trace.

    Args:
        residency: the owner of the weights, through which all of them are changed.
        unet: gives the UNet, which may have to be read first.
        prompts: the text encoders.
        family: which kind of model it is.
        few_step: it takes few steps by itself; any other is given its family's LCM-LoRA under the LCM solver.

    Attributes:
        applied: the LoRAs that the weights now have in them.
    """

    def __init__(
        self,
        residency: Residency,
        unet: Callable[[], UNet],
        prompts: PromptEncoder,
        family: Family,
        few_step: bool,
    ) -> None:
        self.applied: Wanted = ()
        self._residency = residency
        self._unet = unet
        self._prompts = prompts
        self._lcm_lora = "" if few_step else family.lcm_lora
        self._loras: OrderedDict[str, Lora] = OrderedDict()  # the one used last at the end
        self._words: dict[str, LearnedWord] = {}
        self._learned: Mapping[str, Sequence[torch.Tensor]] = {}
        self._own: dict[Place, torch.Tensor] = {}  # the model's own value of each parameter that LoRAs have changed
        self._torn = False  # whether some weights have been written and others not
        self._followers: weakref.WeakSet[object] = weakref.WeakSet()
        self._reading = threading.Lock()  # held while ``_loras`` changes, as ``read`` may run on another thread

    @property
    def in_denoiser(self) -> bool:
        """Whether LoRAs have changed weights of the denoiser."""
        return any(place.part == DENOISER for place in self._own)

    def loras_of(self, config: StreamConfig) -> Wanted:
        """The LoRAs that ``config`` asks for, the one that the LCM solver needs included."""
        wanted = parse_loras(config.loras)
        if config.solver == "lcm" and self._lcm_lora and not any(tells_few_steps(spec) for spec, _ in wanted):
            wanted += ((self._lcm_lora, 1.0),)
        return wanted

    def grid_of(self, config: StreamConfig) -> int | None:
        """How many timesteps the LoRA knows that makes the model one of few steps; None where there is no such LoRA."""
        characters = (character_of_name(spec) for spec, strength in self.loras_of(config) if strength)
        return next((one.grid for one in characters if one is not None and one.grid), None)

    def is_ready(self, config: StreamConfig) -> bool:
        """Whether all that ``config`` asks for has been read."""
        words = parse_files(config.embeddings)
        return all(spec in self._loras for spec, _ in self.loras_of(config)) and all(w in self._words for w in words)

    def read(self, config: StreamConfig) -> list[str]:
        """Read what ``config`` asks for and has not been read; notes on what cannot be used.

        Raises:
            ModelError: a file is missing, damaged, or made for another model.
        """
        notes: list[str] = []
        for spec, _ in self.loras_of(config):
            if spec not in self._loras:
                notes += self._read_lora(spec)
        for spec in parse_files(config.embeddings):
            if spec not in self._words:
                widths = [encoder.width for encoder in self._prompts.encoders]
                self._words[spec] = read_embedding(find_file(spec, "embedding"), widths)
                notes += self._words[spec].notes
        return notes

    def _read_lora(self, spec: str) -> list[str]:
        per_block = self._unet().config["layers_per_block"]
        per_block = per_block if isinstance(per_block, int) else per_block[0]
        try:
            lora = read_lora(find_file(spec, "LoRA"), self._targets(), per_block)
        except ModelError as error:
            if spec != self._lcm_lora:
                raise
            # The user did not ask for this LoRA: the stream goes on without it, and a note says what that costs.
            self._keep(spec, Lora(spec, {}))
            return [
                "this model takes many steps, and the LCM-LoRA that would spare them cannot be had "
                f"({error}); choose the solver dpmpp-2m with 8 to 12 steps"
            ]
        self._keep(spec, lora)
        own = [f"{spec} is added, so that the model takes few steps"] if spec == self._lcm_lora else []
        return own + list(lora.notes)

    def _keep(self, spec: str, lora: Lora) -> None:
        with self._reading:
            self._loras[spec] = lora

    def follow(self, config: StreamConfig, follower: object) -> None:
        """Make the model the one that ``config`` asks for, all of whose files have been read.

        Args:
            follower: the user of the model for whom this is done; see ``release``.
        """
        loras, embeddings = self.loras_of(config), parse_files(config.embeddings)
        words = {word: vectors for spec, _ in loras for word, vectors in self._loras[spec].words.items()}
        words |= {self._words[spec].word: self._words[spec].vectors for spec in embeddings}
        self._followers.add(follower)
        self._learn(words)
        self._apply(loras)
        self._words = {spec: self._words[spec] for spec in embeddings}

    def release(self, follower: object) -> None:
        """``follower`` no longer uses the model: once nobody does, LoRAs and words are taken out of it again."""
        self._followers.discard(follower)
        if not self._followers:
            self._learn({})
            self._apply(())

    def _learn(self, words: Mapping[str, Sequence[torch.Tensor]]) -> None:
        if list(words) != list(self._learned) or any(words[word] is not self._learned[word] for word in words):
            with self._residency.changing(*self._text_parts()):
                self._prompts.learn(words)
                self._learned = words

    @torch.inference_mode()
    def _apply(self, wanted: Wanted) -> None:
        """Make the weights those of the model with these LoRAs, all of which have been read."""
        if wanted == self.applied and not self._torn:
            return
        strengths: dict[str, float] = {}
        for spec, strength in wanted:
            strengths[spec] = strengths.get(spec, 0.0) + strength
            with self._reading:
                self._loras.move_to_end(spec)
        loras = [(self._loras[spec], strength) for spec, strength in strengths.items() if strength]
        places = {place for lora, _ in loras for place in lora.updates} | set(self._own)
        targets = self._targets()
        with self._residency.changing(*sorted({place.part for place in places})):
            self._torn = True  # until all are written: where memory runs out on the way, the next call writes all again
            for place in places:
                self._write(place, getattr(targets[place.part][place.layer], place.parameter), loras)
            self.applied, self._torn = wanted, False
        self._forget_unused(set(strengths))

    def _write(self, place: Place, parameter: torch.Tensor, loras: list[tuple[Lora, float]]) -> None:
        """The parameter's own value plus all updates of it, rounded once."""
        own = self._own.get(place)
        if own is None:
            own = self._own[place] = parameter.detach().cpu().clone()
        updates = [(lora.updates[place], strength) for lora, strength in loras if place in lora.updates]
        if not updates:
            parameter.copy_(self._own.pop(place))
            return
        base = own.to(parameter.device, torch.float32)
        total = base
        for update, strength in updates:
            total = total + strength * update.delta(base)
        parameter.copy_(total)

    def _forget_unused(self, used: set[str]) -> None:
        kept = 0
        with self._reading:
            for spec in reversed([spec for spec in self._loras if spec not in used]):
                updates = self._loras[spec].updates.values()
                kept += sum(tensor.nbytes for update in updates for tensor in update.factors.values())
                if kept > UNUSED_BYTES:
                    del self._loras[spec]

    def _text_parts(self) -> tuple[str, ...]:
        return (TEXT, TEXT_2)[: len(self._prompts.encoders)]

    def _targets(self) -> dict[str, dict[str, Layer]]:
        parts = zip(self._text_parts(), self._prompts.encoders, strict=True)
        return {DENOISER: flat_modules(self._unet()), **{name: flat_modules(encoder.module) for name, encoder in parts}}


def find_file(spec: str, what: str) -> Path:
    """The file that ``spec`` means: itself, the only one in a folder, or in a hub repository, which is fetched.

    Raises:
        ModelError: there is none, or more than one.
    """
    path = user_path(spec)
    if not is_there(path) and looks_like_hub_id(spec):
        path = download_part(spec, what)
    if is_folder(path):
        files = sorted(path.glob("*.safetensors"))
        preferred = [file for file in files if file.name == "pytorch_lora_weights.safetensors"]
        if len(preferred or files) != 1:
            names = ", ".join(file.name for file in files[:4])
            held = f"{len(files)} .safetensors files ({names}); give one" if files else "no .safetensors file; give one"
            raise ModelError(f"{spec} holds {held} by its path")
        return (preferred or files)[0]
    if not is_file(path):
        raise ModelError(f"there is no {what} {spec!r}: give a .safetensors file, a folder, or a hub name (owner/name)")
    return path
