"""The page: Gradio blocks and what their buttons do. `Studio` does the work, `html` draws."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from videoar.app import html
from videoar.app.snippets import command_line, python_code
from videoar.app.studio import FPS, LONGEST, SHOT, UPLOAD_BYTES, VIDEOS, Asked, Bits, Studio
from videoar.errors import UserError
from videoar.ranges import SEED
from videoar.sampling.guidance import default_guidance

CONSTANT = "constant"
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; "
    "style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; worker-src 'self' blob:; "
    "connect-src 'self' data: blob:"
)
"""The browser loads nothing from anywhere else, whatever a library of the page asks for."""


def build(studio: Studio) -> gr.Blocks:
    """The page of one model; `serve` shows it."""
    c = studio.config
    kind = {"class": f"{c.num_classes} classes", "none": "unconditional"}.get(c.condition, "prompts")
    facts = [f"{c.size[1]}x{c.size[0]} pixels", kind, f"{studio.generator.num_parameters() / 1e6:.1f} M parameters"]
    with gr.Blocks(title="VideoAR", analytics_enabled=False, delete_cache=(3600, 3600), fill_width=False) as page:
        gr.HTML(html.head(studio.name, facts), padding=False)
        with gr.Tabs():
            with gr.Tab("Sample"):
                last = _sample_tab(studio)
            with gr.Tab("Scale by scale"):
                _scales_tab(studio, last)
            with gr.Tab("Reconstruct"):
                _reconstruct_tab(studio)
    page.queue(max_size=16, default_concurrency_limit=1)
    return page


def _sample_tab(studio: Studio) -> gr.State:
    """Choices at the left, videos at the right; the last sample's (bits, captions)."""
    last = gr.State(((), []), time_to_live=3600)
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=320):
            inputs = _choices(studio)
            with gr.Row():
                go = gr.Button("Sample", variant="primary", scale=3)
                stop = gr.Button("Stop", scale=1)
        with gr.Column(scale=3, min_width=360):
            result = gr.HTML(html.empty("Choose and press Sample: frames appear as they are drawn."), padding=False)
            with gr.Accordion("The same from a shell or from Python", open=False):
                how: dict[str, Any] = {"interactive": False, "wrap_lines": True, "show_line_numbers": False}
                shell = gr.Code(label="command line", language="shell", lines=2, max_lines=4, **how)
                python = gr.Code(label="Python", language="python", lines=6, max_lines=14, **how)

    def sample(*values: Any) -> Iterator[tuple[Any, ...]]:
        asked = _asked(studio, *values)
        names = [f"{asked.condition or 'sample'} · seed {asked.seed + i}" for i in range(asked.number)]
        texts = command_line(studio.name, studio.config.condition, asked), python_code(studio.name, asked)
        with _messages():
            for view in studio.sample(asked):
                done, bits = view.clips[0].shape[0], view.bits
                yield html.progress(done, view.frames) + html.pictures(view.clips, names), *texts, ((), [])
        yield html.progress(done, done) + html.videos(view.clips, names, FPS), *texts, (bits, names)

    running = go.click(sample, inputs, [result, shell, python, last], show_progress="hidden", concurrency_id="model")
    stop.click(None, None, None, cancels=[running])
    return last


def _choices(studio: Studio) -> list[Any]:
    """The fields, in the order of `_asked`."""
    c = studio.config
    names = list(c.class_names) or [str(i) for i in range(c.num_classes)]
    if c.condition == "class":
        condition: Any = gr.Dropdown(names, value=names[0], label="Class")
    else:
        condition = gr.Textbox(label="Prompt", max_length=c.max_prompt, visible=c.condition != "none")
    with gr.Row():
        number = gr.Slider(1, VIDEOS, 2, step=1, label="Videos")
        seed = gr.Number(0, precision=0, minimum=0, maximum=SEED.high - VIDEOS, label="Seed")
    frames = gr.Slider(5, LONGEST, SHOT, step=4, label="Frames", info=f"beyond {SHOT}: shot after shot, {FPS} a second")
    guided = c.condition != "none"
    schedules = [("paper, UCF-101: 1 → 5 → 10", "ucf101"), ("paper, text: 5 → 3", "text")] if guided else []
    with gr.Row():
        guidance = gr.Dropdown(
            [*schedules, *([(CONSTANT, CONSTANT)] if guided else []), ("none", "none")],
            value=default_guidance(c.condition),
            label="Guidance",
        )
        strength = gr.Slider(0, 15, 2, step=0.5, label="Constant γ", visible=False)
    shown = gr.HTML(html.curve(studio.curve(default_guidance(c.condition), SHOT), studio.scales), padding=False)
    temperature = gr.Slider(0.1, 2, 1, step=0.05, label="Temperature")
    with gr.Accordion("Start from an image or a clip", open=False):
        start = gr.File(show_label=False, file_types=["image", "video"], height=140)

    def draw(chosen: str, value: float, length: float) -> tuple[Any, str]:
        rows = studio.curve(_guidance(chosen, value), int(length))
        return gr.update(visible=chosen == CONSTANT), html.curve(rows, studio.scales)

    for field in (guidance, strength, frames):
        field.change(draw, [guidance, strength, frames], [strength, shown], show_progress="hidden")
    return [condition, number, frames, seed, guidance, strength, temperature, start]


def _scales_tab(studio: Studio, last: gr.State) -> None:
    """A sample decoded from its first scale, its first two, … ."""
    gr.HTML('<p class="va-note">What each scale adds: the last sample decoded from its first k scales only.</p>')
    with gr.Row(equal_height=True):
        which = gr.Slider(1, VIDEOS, 1, step=1, label="Video of the last sample", scale=3)
        go = gr.Button("Show its scales", variant="primary", scale=1)
    result = gr.HTML(html.empty("Sample something first."), padding=False)

    def show(number: float, kept: tuple[Bits, list[str]]) -> str:
        bits, names = kept
        with _messages():
            if not names:
                raise UserError("sample something first")
            if not bits:
                raise UserError(f"videos of more than {SHOT} frames keep no scales; sample a shorter one")
            if int(number) > len(names):
                raise UserError(f"the last sample has {len(names)} videos, there is no number {int(number)}")
            clips = studio.scale_by_scale(bits, int(number) - 1)
        K = len(clips)
        captions = [f"{grid}" if k == 0 else f"… + {grid}" for k, grid in enumerate(studio.scales[:K])]
        return html.videos(clips, captions, FPS, card=150)

    go.click(show, [which, last], result, concurrency_id="model")


def _reconstruct_tab(studio: Studio) -> None:
    """An uploaded clip beside its reconstruction."""
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            clip = gr.File(
                label=f"A clip, at most {UPLOAD_BYTES >> 20} MB", file_types=["video"], height=150, elem_id="clip"
            )
            go = gr.Button("Reconstruct", variant="primary")
        with gr.Column(scale=3, min_width=360):
            result = gr.HTML(html.empty("Upload a clip: it goes to bits and back."), padding=False)

    def rebuild(path: str | None) -> Iterator[str]:
        with _messages():
            if path is None:
                raise UserError("upload a clip first")
            for original, rebuilt, psnr in studio.reconstruct(path):
                names = ["yours", f"rebuilt · {psnr:.1f} dB PSNR"]
                yield f'<p class="va-note">{len(original)} frames</p>' + html.pictures([original, rebuilt], names)
        yield html.videos([original, rebuilt], names, FPS, card=240)

    go.click(rebuild, clip, result, show_progress="minimal", concurrency_id="model")


class _messages:
    """What a visitor can correct becomes a message on the page."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, UserError):
            raise gr.Error(str(error), duration=10, print_exception=False) from None


def _guidance(chosen: str, strength: float) -> str:
    return f"{strength:g}" if chosen == CONSTANT else chosen


def _asked(
    studio: Studio,
    condition: str | None,
    number: float,
    frames: float,
    seed: float | None,
    guidance: str,
    strength: float,
    temperature: float,
    start: str | None,
) -> Asked:
    """The fields' values as what is asked."""
    condition = None if studio.config.condition == "none" else condition
    settings = int(number), int(frames), int(seed or 0), _guidance(guidance, strength), float(temperature)
    return Asked(condition, *settings, start)


def serve(page: gr.Blocks, host: str = "127.0.0.1", port: int | None = None, wait: bool = True) -> str:
    """Show the page; returns its address, at once if `wait` is false.

    Raises:
        UserError: the port is taken.
    """
    from starlette.middleware import Middleware

    fonts = ["system-ui", "sans-serif"], ["ui-monospace", "monospace"]  # none that is fetched
    try:
        _, address, _ = page.launch(
            server_name=host,
            server_port=port,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            ssr_mode=False,
            max_file_size=UPLOAD_BYTES,
            theme=gr.themes.Soft(primary_hue="indigo", neutral_hue="slate", font=fonts[0], font_mono=fonts[1]).set(
                block_title_background_fill="none",
                block_title_background_fill_dark="none",
                block_title_padding="0",
                block_title_text_color="*body_text_color",
                block_title_text_color_dark="*body_text_color",
                block_label_background_fill="none",
                block_label_background_fill_dark="none",
                block_label_text_color="*body_text_color",
                block_label_text_color_dark="*body_text_color",
            ),
            css=html.STYLE,
            app_kwargs={"middleware": [Middleware(_Policy)], "docs_url": None, "redoc_url": None},
            footer_links=[],
            _frontend=False,  # Gradio's own check of the page gives a busy machine seconds only
        )
    except OSError as error:
        raise UserError(f"port {port} of {host} cannot be used: {error}") from error
    if wait:
        print(f"VideoAR is at {address} (Ctrl+C ends it)", flush=True)
        page.block_thread()
    return address


class _Policy:
    """ASGI middleware that sends `POLICY` along."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", POLICY.encode())]
            await send(message)

        await self.app(scope, receive, with_policy)
