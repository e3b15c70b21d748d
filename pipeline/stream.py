"""The engine: one frame in, one frame out. ``Stream.__call__`` is the recipe: filter, encode, denoise, decode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from pipeline.backends.backend import Backend
from pipeline.backends.eager import EagerBackend
from pipeline.backends.sliced import SlicedBackend
from pipeline.companions import Companion, Hints, brought
from pipeline.conditioning.image_prompts import Look
from pipeline.conditioning.prompt_syntax import blended
from pipeline.conditioning.prompt_travel import FRAME_SECONDS
from pipeline.config import StreamConfig
from pipeline.denoiser import Denoiser
from pipeline.device import uploaded
from pipeline.diffusion.guidance import needs_negative_prompt
from pipeline.diffusion.noise import blended_noise
from pipeline.diffusion.similarity import SimilarityFilter
from pipeline.diffusion.solver import SolverTable, plan, plan_at
from pipeline.diffusion.stream_batch import StreamBatch
from pipeline.diffusion.text_to_image import SeedPath, colours, prompt_share, starting_noise
from pipeline.finite import FiniteWatch
from pipeline.frames import checked
from pipeline.hints.hints import Hints as HintMaker
from pipeline.in_flight import Group, InFlight
from pipeline.masking.compositor import Compositor
from pipeline.masking.inpainting import IN_ROWS, Inpainting
from pipeline.models.looks import Looks
from pipeline.models.model import Model
from pipeline.models.networks import DecoderNetwork, EncoderNetwork
from pipeline.models.residency import DENOISER
from pipeline.output import Output, Tags
from pipeline.setting import described
from pipeline.shape import ShapeKeeper
from pipeline.sparse.engine import SparseEngine
from pipeline.sparse.overlay import tinted
from pipeline.sparse.rectangles import Rectangle
from pipeline.timing import StageClock
from pipeline.trail import Trail

# For each frame, the rectangles in which it differs from the frame before; None for a frame of which that is unknown.
Changed = Sequence[Sequence[Rectangle] | None] | None

_FILTERING = ("similarity_filter", "similarity_threshold", "similarity_skip_cap")
_SPARSE = ("sparse", "sparse_overlay")
_GUIDING = ("guidance", "guidance_scale", "guidance_rescale", "image_guidance", "delta")
_IN_ATTENTION = ("attention_guidance", "attention_limit", "attention_blend")
_LOOKING = ("look_like", "look_model", "look_weight")
_SHAPING = ("keep_shape", "shape_strength", "depth_model", "pose_model")
_PICTURING = tuple(name for name, _, _ in described(StreamConfig) if name not in _FILTERING + _SPARSE)


class Stream:
    """A live stream on one model: pictures made over, or, with ``text_to_image``, made of words alone.

    Every call takes F frames and gives F pictures; with T denoising steps the pictures are of the frames of T - 1 calls
    ago. The first frames are denoised at once, so that no call ever returns a picture that is not finished. Frame
    size and frame buffer F are read off the frames and may change between calls. Not for use by two threads at once.
    LoRAs and learned words are the model's: of several streams on one model, the one configured last decides on them.

    Attributes:
        model, backend: as given.
        sparse: the engine that computes only what changed, while the settings ask for it (see ``pipeline.sparse``);
            else None.

    Example::

        stream = Stream(load_model("embedded"), StreamConfig(prompt="a watercolour", strength=0.8))
        output = stream(frame)  # frame: (3, 256, 256) float 0..1
        output.image            # (1, 3, 256, 256) float 0..1
    """

    def __init__(self, model: Model, config: StreamConfig | None = None, backend: Backend | None = None) -> None:
        """Args:
        model: as ``load_model`` gives it.
        config: the settings to begin with.
        backend: what runs the networks (see ``pipeline.backends.accelerate``); by default the modules themselves.
        """
        self.model = model
        self.backend: Backend = EagerBackend(model) if backend is None else backend
        self._config = _allowed(config or StreamConfig(), model)
        self._running = self.backend
        self._encoder, self._decoder = EncoderNetwork(model), DecoderNetwork(model)
        self._denoiser = Denoiser(model, self.backend)
        self._changed_parts: set[str] = set()
        self._torn = False  # a change of the settings was broken off, and what it has changed is not known
        self._watch = FiniteWatch()
        self._clock = StageClock(model.device)
        self._lanes = self.backend.lanes
        self._batch: StreamBatch | None = None
        self._frames_shape: tuple[int, ...] = ()
        self._in_flight = InFlight()
        self._count = 0
        self._now = 0.0  # when the last frame was taken, in seconds
        self._last_tags: Tags = ()
        self._compositor = Compositor(model.device)
        self._start: torch.Tensor | None = None  # the noise that the next pictures start from, of words alone
        self._seed_path = SeedPath()
        self._prompt_share = 0.0
        self._looks = Looks(lambda: model.unet, model.unet_config["cross_attention_dim"], model.family)
        self._given_look: Look | None = None  # by ``look_like``, in place of the settings'
        self._look_given = False  # since the last call
        self._hint_maker = HintMaker(model, self.backend)
        self._shape = ShapeKeeper(model, self._hint_maker)
        self._companions: list[Companion] = [self._shape]
        if model.sees_mask:
            self._companions.append(Inpainting(model, self._compositor))
        self._hints: Hints = {}
        self._seen_hints: Trail[torch.Tensor] = Trail()  # those that the frames in flight are made with
        self._brought: dict[str, torch.Tensor] = {}  # by the frames that came in last
        notes = self.prepare(self._config)
        model.adapters.follow(self._config, self)
        self._keep_shape()
        model.residency.subscribe(self)
        self.sparse: SparseEngine | None = None
        self.notes = [*notes, *self._set_backend(), *self._compositor.follow(self._config)]
        self._denoiser.set_guidance(self._config)
        self._denoiser.set_feature_bank(self._config.feature_bank)
        self._set_prompts()
        self._set_look()
        self._set_filter()

    @property
    def config(self) -> StreamConfig:
        """The settings in force; replace them with ``configure``."""
        return self._config

    @property
    def similarity(self) -> float:
        """Cosine similarity (0..1) that the filter last saw."""
        return self._filter.similarity

    def stages_ms(self) -> dict[str, float]:
        """Median milliseconds of ``encode``, ``unet`` and ``decode`` over the last calls."""
        return self._clock.medians_ms()

    def restart_clock(self) -> None:
        """Forget the times so far: ``stages_ms`` is then of later calls only."""
        self._clock = StageClock(self.model.device)

    @torch.inference_mode()
    def __call__(
        self,
        frames: torch.Tensor,
        tags: Sequence[Any] | None = None,
        *,
        at: float | None = None,
        changed: Changed = None,
        hints: Hints | None = None,
    ) -> Output:
        """Take the next frames, give the next pictures.

        Args:
            frames: (F, 3, H, W) or (3, H, W) float in 0..1, on any device; H and W multiples of the autoencoder's
                factor (8 for all common models). Of a text-to-image stream only the shape counts, and what hints are
                made of. Memory that is pinned is uploaded while this returns: it must not be written to before the
                picture is there.
            tags: one for each frame, given back with its picture; by default counted from 0.
            at: when the last of these frames was taken, in seconds of any steady clock; by default 1/30 s a frame.
                A transition between prompts is timed by it, and whether a scene stands still.
            changed: for each frame the rectangles (left, top, right, bottom) outside of which it equals the frame
                before (with a frame buffer of F, the frame F before), or None where that is not known. With
                ``sparse`` they are taken at their word; without it they are not looked at.
            hints: by name, (F, 3, H, W) in 0..1: hints for ``keep_shape`` that the caller has made; the others are made
                of the frames. The similarity filter looks at the frames alone.

        Raises:
            ValueError: the frames have another shape or type.
        """
        frames = checked(frames, self.model.autoencoder.factor)
        self._hints = hints or {}
        self._catch_up()
        arriving = self._tagged(tags, len(frames))
        self._now = self._now + len(frames) * FRAME_SECONDS if at is None else at
        turning = self._denoiser.advance(at, len(frames))
        if self._batch is None or frames.shape != self._frames_shape:
            return self._first(frames, arriving)
        if turning:
            self._denoiser.forget_frames()
        if (turning or self._hints) and self.sparse is not None:  # hints that are given may change where frames do not
            self.sparse.settings_changed(self._config.step_count)
        self._part_lanes(frames, turning)
        if self._skips(frames, turning):
            return self._skipped(self._batch, arriving)
        if self._filter.still:
            # By the cap or by chance: a picture of the scene is out, or on its way, and is that of these frames, too.
            leaving, _ = self._in_flight.repeat(arriving)
        else:
            leaving = self._in_flight.enter(arriving)
        self._enter(frames, changed)
        self._tick(self._batch)
        return self._output(leaving)

    def _part_lanes(self, frames: torch.Tensor, turning: bool) -> None:
        """Run this call's stages beside those of the calls before and after, where nothing else is done between."""
        alone = self._config.text_to_image or self.sparse is not None or turning or frames.device.type != "cpu"
        if alone:
            self._lanes.leave()
        else:
            self._lanes.fork()

    def _skips(self, frames: torch.Tensor, turning: bool) -> bool:
        """Whether the similarity filter leaves these frames out; ``turning``: the prompt turns into another."""
        if not self._config.similarity_filter or self._config.text_to_image:
            return False
        if turning:  # the picture is to change although the scene may be still
            self._filter.keep(frames, self._now)
            return False
        return self._filter.should_skip(frames, self._now)

    def _skipped(self, batch: StreamBatch, tags: Tags) -> Output:
        """Answer frames with the picture of those let in last, which they are like.

        While that is in flight, the batch pauses, and they wait for it: each tick that they brought about would cost a
        call of the UNet, and the filter would save none before T frames in a row are skipped. Only a scene that stands
        still is seen through to its picture, since no other frame may come that brings it out.
        """
        if self.sparse is not None:
            self.sparse.missed()
        if self._in_flight.unsettled and not self._filter.still:
            self._in_flight.follow(tags)
            return self._output(Group(self._last_tags, repeated=True), skipped=True)
        leaving, tick = self._in_flight.repeat(tags)
        if tick:
            self._tick(batch)
        return self._output(leaving, skipped=not tick)

    @torch.inference_mode()
    def idle(self) -> Output | None:
        """No frame has come for a while: move those in flight one step on, and let none in.

        Unlike ``flush`` this can be broken off at any step by a frame, and what comes next does not start anew.

        Returns:
            As a call would; None where the pictures of all frames are out, and nothing is done.
        """
        self._catch_up()
        if self._batch is None or self._in_flight.all_out:
            return None
        leaving, tick = self._in_flight.idle()
        if tick:
            self._tick(self._batch)
        return self._output(leaving, skipped=not tick)

    @torch.inference_mode()
    def flush(self) -> list[Output]:
        """Finish all frames in flight: their outputs, in order, each once. The next frame starts anew."""
        self._catch_up()
        self._watch.restart()
        finished = []
        while len(self._in_flight) and self._batch is not None:
            leaving, tick = self._in_flight.leave()
            if tick:
                self._tick(self._batch)
            if not leaving.repeated:
                finished.append(self._output(leaving))
        self._clear()
        return finished

    def reset(self) -> None:
        """Forget the frames in flight and how far the seeds have travelled: the next frame starts anew.

        To be called when the frames begin to come from another source.
        """
        self._clear()
        self._seed_path.restart()

    def _clear(self) -> None:
        self._lanes.leave()
        self._batch = None
        self._denoiser.forget_frames()
        self._in_flight.clear()
        self._seen_hints.clear()
        self._compositor.clear()
        self._filter.reset()
        for companion in self._companions:
            companion.reset()

    def is_prepared(self, config: StreamConfig) -> bool:
        """Whether ``configure`` would find in memory all that ``config`` asks for."""
        readers = (
            self.model.adapters,
            self.model.controls,
            self._hint_maker,
            self._compositor.pictures,
            self._looks,
        )
        return all(reader.is_ready(config) for reader in readers)

    def prepare(self, config: StreamConfig) -> list[str]:
        """Read all files that ``config`` names; on any thread, while this one streams on.

        Returns:
            What a user should know of them, one sentence each.

        Raises:
            ModelError: one is missing, damaged, or made for another model.
        """
        notes = [*self.model.adapters.read(config), *self.model.controls.read(config)]
        self._hint_maker.read(config)
        self._compositor.pictures.read(config)
        self._looks.read(config)
        return notes

    @property
    def look_obstacle(self) -> str | None:
        """Why the model can look like no picture (``look_like``), in one sentence without a full stop, or None."""
        return self._looks.obstacle

    def look_like(self, pictures: torch.Tensor | None, weights: Sequence[float] | None = None) -> None:
        """Have the pictures from the next call on look like these, in place of those that the settings name.

        They are encoded here and now, which takes a second or two on the CPU, on whichever thread this is called. They
        hold until other ones are given, or until ``look_like`` or ``look_model`` of the settings change.

        Args:
            pictures: (N, 3, H, W) float in 0..1; None for those of the settings again.
            weights: their shares in the look; by default all alike. How strong the look is, ``look_weight`` says.

        Raises:
            ModelError: there is no IP-Adapter for the model, or it cannot be read.
            ValueError: the pictures or the weights are not as they must be.
        """
        self._given_look = None if pictures is None else self._looks.of(pictures, weights, self._config.look_model)
        self._look_given = True

    @torch.inference_mode()
    def configure(self, config: StreamConfig) -> list[str]:
        """Take other settings from the next call on, by the cheapest rebuild that is enough.

        Frames in flight go on under the new settings. When ``steps`` shrinks, the oldest of them are dropped; call
        ``flush`` before where every frame counts.

        Returns:
            What a user should know of them, one sentence each.

        Raises:
            ValueError: settings that exclude each other, or that the model cannot follow; the old ones stay in force.
            ModelError: a file that was not read by ``prepare`` before cannot be used; nothing has changed.
            torch.OutOfMemoryError: memory was short on the way; the old settings stay in force, and whatever of the
                new ones was done is undone at the next call.
        """
        _allowed(config, self.model)
        self.prepare(config)
        old, self._config = self._config, config
        try:
            notes = self._follow(None if self._torn else old)
        except BaseException:
            self._config, self._torn = old, True
            raise
        self._torn = False
        return notes

    def _follow(self, old: StreamConfig | None) -> list[str]:
        """Do what differs between the settings in force and ``old``, or all there is to do where that is not known."""
        self._lanes.leave()
        config = self._config
        self.model.adapters.follow(config, self)
        self._watch.restart()

        def differ(*names: str) -> bool:
            return old is None or any(getattr(old, name) != getattr(config, name) for name in names)

        if differ(*_FILTERING, "seed"):
            self._set_filter()
        if differ("text_to_image"):
            self._clear()
        if differ("feature_bank"):
            self._denoiser.set_feature_bank(config.feature_bank)
        if differ("text_to_image", "seed_travel", "seed"):
            self._seed_path.restart()
        if differ(*_SHAPING):
            self._keep_shape()
        person = self._compositor.follow(config)
        if differ("guidance_scale", *_IN_ATTENTION):
            self._denoiser.set_guidance(config)
        wording = ("prompt", "prompt_b", "blend", "negative_prompt", "guidance", "text_to_image", "prompt_travel")
        if differ(*wording, *_IN_ATTENTION):
            self._set_prompts()
        if old is not None and (old.look_like, old.look_model) != (config.look_like, config.look_model):
            self._given_look = None
        if differ(*_LOOKING):
            self._set_look()
        self._catch_up_weights()
        grid_of = self.model.adapters.grid_of
        tables = ("steps", "timesteps", "strength", "solver", "spacing", "tcd_gamma", "seed", "seed_b", "seed_blend")
        if differ(*tables) or (old is not None and grid_of(old) != grid_of(config)):
            self._change_table()
        if differ("steps", "timesteps", "strength", "solver", "spacing", *_GUIDING):
            self._set_guidance()
        notes = self._set_backend() if differ("sparse", "text_to_image") else []
        if differ(*_PICTURING):
            self._show_at_once()
        return [*notes, *person]

    def _show_at_once(self) -> None:
        """The picture is to change although the scene may be still."""
        self._filter.reset()
        self._denoiser.forget_frames()
        if self.sparse is not None:
            self.sparse.settings_changed(self._config.step_count)

    def save_memory(self, mode: str) -> None:
        """Run in another of ``MEMORY_MODES`` from the next call on; see ``WeightPlaces.set`` and ``SlicedBackend``."""
        self._lanes.leave()
        self.model.memory.set(mode)
        self._catch_up()

    def changed(self, part: str, *, moved: bool) -> None:
        """See ``Listener`` in ``pipeline.models.residency``: nothing made of the old weights is used again."""
        self._changed_parts.add(part)

    def wait_for_engines(self, wait: bool) -> None:
        """With ``wait``, a picture is drawn only once its engine is built; else PyTorch draws pictures until then.

        Waiting is for films: all pictures of a film are then drawn by the same engines, so that they look alike, and
        the same film gives the same pictures each time. A live stream cannot wait.
        """
        if wait != self.backend.patient:
            self.backend.patient = wait
            self._set_backend()

    def news(self) -> list[str]:
        """What has come up since the last call that the user should know; may be asked on any thread."""
        return [*self.backend.news(), *self._watch.news()]

    def progress(self) -> str:
        """What runs the networks by now, and what is still being built; may be asked on any thread."""
        return self._running.progress()

    def close(self) -> None:
        """Stop using the model. Once no stream uses it, its LoRAs and learned words are taken out again."""
        if self.sparse is not None:
            self.sparse.close()
        self.model.adapters.release(self)
        self._shape.let_go()
        self._denoiser.set_controlnets(())
        self.model.controls.release(self)

    def _catch_up(self) -> None:
        """Take account of what has changed in the model since the last call: its weights, and its memory mode."""
        if isinstance(self._running, SlicedBackend) != (self.model.memory.mode != "full"):
            self._set_backend()
        if self._torn:
            self._follow(None)
            self._torn = False
        if self._look_given:
            self._look_given = False
            self._lanes.leave()
            self._set_look()
            self._show_at_once()
        self._catch_up_weights()

    def _catch_up_weights(self) -> None:
        if not self._changed_parts:
            return
        self._lanes.leave()
        with self.model.residency.lock:  # so that a change that is being written is complete
            parts = frozenset(self._changed_parts)
            if parts - {DENOISER}:
                self._set_prompts()
            if DENOISER in parts:
                self._denoiser.weights_changed()
            self._changed_parts.clear()  # last: where memory runs out above, the next call does all of it again
        if self.sparse is not None:
            self.sparse.weights_changed(parts)
        self._show_at_once()

    def _first(self, frames: torch.Tensor, tags: Tags) -> Output:
        """Denoise the first frames of a shape at once, and fill the slots with them."""
        self._clear()
        if self._config.similarity_filter:
            self._filter.keep(frames, self._now)
        self._frames_shape = tuple(frames.shape)
        if self.sparse is not None:
            self.sparse.begin(frames, self._config.step_count)
        self._enter(frames)
        channels, height, width = self._latent.shape[1:]
        in_rows = {name: self._brought[name].shape[1] for name in IN_ROWS if name in self._brought}
        self._batch = StreamBatch(
            self._denoiser,
            len(frames),
            (channels, height, width),
            self.model.sees_input,
            self.model.input_scale,
            beside={name: (count, height, width) for name, count in in_rows.items()},
        )
        self._batch.from_noise = self._from_noise()
        self._batch.prepare(self._table(), self._noise())
        self._batch.show(self._brought)
        self._set_guidance()
        with self._clock("unet"), self._denoiser.priming(self._batch.layout):
            latent = self._batch.prime(self._latent, self._start, self._brought)
        self._image = self._decode(latent)
        self._seen_hints.prime(self._shape.hint, self._config.step_count)
        self._compositor.prime(self._config.step_count)
        self._in_flight.fill(tags, self._config.step_count)
        self.model.modules.begin()  # the picture did without them; a change of the settings should not wait for them
        return self._output(Group(tags))

    def _tick(self, batch: StreamBatch) -> None:
        if self.sparse is not None:
            self.sparse.tick()
        with self._lanes("denoise", self._latent, *self._brought.values(), after="encode"), self._clock("unet"):
            moving = None if self.sparse is None else self.sparse.moving
            latent = batch.tick(self._latent, self._start, moving, self._brought)
            if self._lanes.apart:  # the next tick writes over it, maybe before it is decoded
                latent = latent.clone()
        self._seen_hints.tick(self._shape.hint)
        self._compositor.tick()
        if self.sparse is None or not self.sparse.still:
            self._image = self._decode(latent)

    def _admit(self, frames: torch.Tensor, changed: Changed) -> torch.Tensor:
        """The latent of the next frames."""
        with self._lanes("encode"):
            frames = self._compositor.enter(frames, self._running)
        if self.sparse is None:
            return self._encode(frames)
        self.sparse.frames_bring = bool(self._brought)  # by those before; where that changed, so did the settings
        effective = self.sparse.admit(frames, changed, self._compositor.needed())
        return self._latent if effective is None else self._encode(effective)

    def _output(self, leaving: Group, skipped: bool = False) -> Output:
        self._last_tags = leaving.tags
        # The caller may write to its picture without changing a later one: with the filter, the same picture may be
        # returned again, so that a copy is given away.
        self._lanes.join()
        self._lanes.hand_over(self._image)
        image, alpha = self._put_together()
        if image is self._image and self._config.similarity_filter:
            image = image.clone()
        if self.sparse is not None and self._config.sparse_overlay:
            image = tinted(image, self.sparse.active)
        hint = self._seen_hints.shown
        if hint is not None:
            self._lanes.hand_over(hint)
        return Output(image, leaving.tags, skipped, leaving.repeated, tuple(leaving.followers), hint=hint, alpha=alpha)

    def _put_together(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The picture decoded last with its background, and its opacity."""
        scene = self._compositor.shown
        if scene is not None:
            self._lanes.hand_over(scene.frames)
            self._lanes.hand_over(scene.masks)
        return self._compositor.finish(self._image)

    @property
    def _of_words(self) -> bool:
        """Whether pictures are made of noise alone; a UNet that sees an input picture is given colours instead."""
        return self._config.text_to_image and not self.model.sees_input

    def _enter(self, frames: torch.Tensor, changed: Changed = None) -> None:
        """Set what enters the slots: ``frames`` encoded, or for text to image the noise or colours to start from."""
        config = self._config
        if not config.text_to_image:
            self._latent, self._start = self._admit(frames, changed), None
            self._bring(frames)
            return
        self._bring(frames)
        count, _, height, width = frames.shape
        places = [self._seed_path.step(config) for _ in range(count)]
        if self._of_words:
            autoencoder = self.model.autoencoder
            shape = (autoencoder.latent_channels, height // autoencoder.factor, width // autoencoder.factor)
            noise = torch.cat([starting_noise(config, *place, shape) for place in places])
            self._start = uploaded(noise, self.model.device)
            self._latent = torch.zeros_like(self._start)
        else:
            drawn = torch.cat([colours(config, *place, height, width) for place in places])
            self._latent, self._start = self._encode(drawn), None
        if config.prompt_travel:
            self._prompt_share = prompt_share(*places[-1])
            self._set_prompts()

    def _bring(self, frames: torch.Tensor) -> None:
        """Set what these frames bring along besides their latents."""
        if self._companions:
            # Sparse inference computes only what changed of the frames, and nothing is known of what is made of them.
            whole = self._running if self.sparse is None else self.backend
            with self._lanes("encode"), self._clock("encode"):
                self._brought = brought(self._companions, frames, whole, self._hints)
        if self._batch is not None:
            self._batch.show(self._brought)

    def _encode(self, frames: torch.Tensor) -> torch.Tensor:
        with self._lanes("encode"), self._clock("encode"):
            return self._running.run(self._encoder, {"pictures": frames}, {})["latents"]

    def _decode(self, latent: torch.Tensor) -> torch.Tensor:
        with self._lanes("decode", latent, after="denoise"):
            with self._clock("decode"):
                picture = self._running.run(self._decoder, {"latents": latent}, {})["pictures"]
            self._watch.look(latent, picture)
        return picture

    def _tagged(self, tags: Sequence[Any] | None, count: int) -> Tags:
        tags = tuple(tags) if tags is not None else tuple(range(self._count, self._count + count))
        if len(tags) != count:
            raise ValueError(f"there are {len(tags)} tags for {count} frames")
        self._count += count
        return tags

    def _table(self) -> SolverTable:
        config = self._config
        if config.timestep_list:
            return plan_at(config.solver, self.model.schedule, config.timestep_list, gamma=config.tcd_gamma)
        return plan(
            config.solver,
            self.model.schedule,
            config.steps,
            config.strength,
            config.spacing,
            grid=min(self.model.adapters.grid_of(config) or self.model.grid or 0, len(self.model.schedule)) or None,
            gamma=config.tcd_gamma,
            from_noise=self._of_words or self._from_noise(),
        )

    def _noise(self) -> torch.Tensor:
        """(T + 1, C, h, w): one noise for each position, the same on every device and for every T."""
        config, shape = self._config, self._latent.shape[1:]
        noise = blended_noise(config.seed, config.seed_b, config.seed_blend, config.step_count + 1, shape)
        return uploaded(noise, self.model.device)

    def _change_table(self) -> None:
        if self._batch is None:
            return
        self._batch.from_noise = self._from_noise()
        self._batch.change(self._table(), self._noise())
        self._compositor.resize(self._config.step_count)
        self._in_flight.resize(self._config.step_count, self._last_tags)
        self._seen_hints.resize(self._config.step_count)

    def _from_noise(self) -> bool:
        """Whether a frame's latent is noise alone: at full strength, where the UNet is shown the input besides."""
        timesteps, last = self._config.timestep_list, self.model.schedule.timesteps[-1]
        whole = timesteps[0] == last if timesteps else self._config.strength == 1
        return self.model.raw_input and whole

    def _set_guidance(self) -> None:
        if self._batch is not None:
            config = self._config
            self._batch.set_guidance(
                config.guidance, config.guidance_scale, config.delta, config.image_guidance, config.guidance_rescale
            )

    def _set_prompts(self) -> None:
        config = self._config
        in_attention = config.attention_guidance != 1 and config.attention_blend > 0
        negative = config.negative_prompt if in_attention or needs_negative_prompt(config.guidance) else None
        if config.text_to_image and config.prompt_travel:
            # Both prompts are set even where one has no weight: their keys and values are then computed only once.
            share = self._prompt_share
            self._denoiser.set_prompts(((config.prompt, 1 - share), (config.prompt_b, share)), negative)
            return
        mix = blended(config.prompt, config.prompt_b, config.blend)
        self._denoiser.set_prompts(mix, negative, config.transition)

    def _set_look(self) -> None:
        config = self._config
        look = self._looks.follow(config, keep=self._given_look is not None)
        self._denoiser.set_look(self._given_look or look, config.look_weight, config.transition)

    def _set_backend(self) -> list[str]:
        """Choose what runs the networks: the backend, slices where memory is saved, or the sparse engine.

        Returns:
            Notes for the user.
        """
        if self.sparse is not None:
            self.sparse.close()
            self.sparse = None
        saving = self.model.memory.mode != "full"
        if saving:
            self.backend.release()  # engines that were built take memory, too
        self._running = SlicedBackend(self.model) if saving else self.backend
        # Sparse inference needs frames that can stand still, which text to image has none of, and it keeps much of
        # what it computed, which takes the memory that is to be saved.
        if self._config.sparse and not self._config.text_to_image and not saving:
            self.sparse = SparseEngine(self.model, self.backend)
            self.sparse.settings_changed(self._config.step_count)
            self._running = self.sparse
        self._denoiser.backend = self._running
        return [] if self.sparse is None else self.sparse.notes

    def _keep_shape(self) -> None:
        """Keep the shape that the settings ask for; see ``ShapeKeeper``."""
        self.model.controls.follow(self._config, self)
        self._hint_maker.follow(self._config)
        self._shape.follow(self._config)
        self._denoiser.set_controlnets(self._shape.controlnets)

    def _set_filter(self) -> None:
        config = self._config
        self._filter = SimilarityFilter(config.similarity_threshold, config.similarity_skip_cap, config.seed)


def _allowed(config: StreamConfig, model: Model) -> StreamConfig:
    """``config``, unless it cannot be run."""
    problem = config.conflict or config.unknown_timesteps(model.schedule.timesteps)
    if problem:
        raise ValueError(problem)
    return config
