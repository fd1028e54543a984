"""Sample and reconstruct in the browser: a page on this machine, which loads nothing from the internet.

videoar app                                   # the shipped model, http://127.0.0.1:7860
videoar app --model outputs/atari-model --port 8000
videoar app --space outputs/space             # a folder to push to a Hugging Face Space
"""

from __future__ import annotations

import argparse

from videoar.cli import options
from videoar.errors import UserError
from videoar.ranges import Range


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add = parser.add_argument
    options.add_model(parser)
    add("--host", default="127.0.0.1", help="address to listen at (default 127.0.0.1: only you)")
    add("--port", type=Range(1, 65_535), default=7860, help="port to listen at (default 7860)")
    add("--space", metavar="DIR", help="write the app as a folder for a Hugging Face Space instead of serving it")


def run(args: argparse.Namespace) -> None:
    """Serve, or write the folder."""
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise UserError("the app needs gradio: pip install 'videoar[app]'") from error
    if args.space:
        from videoar.app.space import write_space

        print(f"{write_space(args.model, args.space)}: push it to a Space, or run `python app.py` in it")
        return
    from videoar.app.page import build, serve
    from videoar.app.studio import Studio

    serve(build(Studio(args.model)), args.host, args.port)
