"""Pieces of a page that holds all it shows: its style, labels, pictures, and text without the paths of one computer.

Pictures become data URIs, shrunk to the size at which they are shown. Sizes are pixels.
"""

import base64
import html
import io
import re
from datetime import datetime
from pathlib import Path

from PIL import Image

from recon_lib import files

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#1c2430;max-width:1080px;margin:1.2rem auto;padding:0 1rem}
h1{margin:.1rem 0}h2{border-top:1px solid #dde2e8;padding-top:1rem;margin-top:1.6rem}h3{margin:.8rem 0 .2rem}
p{margin:.4rem 0}small{color:#566273;font-weight:400}.verdict{font-size:1.15rem}
nav a{display:inline-block;margin-right:1rem}
table{border-collapse:collapse;margin:.5rem 0}
td,th{padding:.15rem .7rem .15rem 0;border-bottom:1px solid #e6e9ee;text-align:left;vertical-align:top}
td{overflow-wrap:break-word}td:first-child{white-space:nowrap}td.number{text-align:right;font-variant-numeric:tabular-nums}
img{max-width:100%}.three img{outline:1px solid #e6e9ee}
pre{background:#f6f7f9;padding:.5rem .7rem;margin:.4rem 0;font:13px/1.45 ui-monospace,monospace;white-space:pre-wrap;
overflow-wrap:anywhere}
.status{display:inline-block;padding:0 .7rem;border-radius:1rem;color:#fff;font-weight:600}
.normal,.done,.reused{background:#1f8a4c}.warning,.running,.interrupted,.stale{background:#c77700}
.failure,.failed{background:#c0322b}.pending{background:#7a8594}
.banner{border-left:5px solid #c77700;background:#fff5e5;padding:.5rem .8rem;margin:.6rem 0;overflow-wrap:anywhere}
.banner.failed{border-color:#c0322b;background:#fdecea}
.pictures{display:grid;gap:8px;margin:.4rem 0}.pictures figure{margin:0;text-align:center;font-size:13px}
.pictures img{display:block;margin:0 auto}.beside{display:grid;grid-template-columns:1fr 1fr;gap:1.6rem;align-items:start}
.three{grid-template-columns:repeat(3,1fr)}.stills{grid-template-columns:repeat(3,180px) 1fr;align-items:center}
.turn{grid-column:4;grid-row:1/3}
@media(max-width:900px){.beside{grid-template-columns:1fr;gap:0}td:first-child{white-space:normal}td{overflow-wrap:anywhere}
.stills{grid-template-columns:repeat(3,1fr)}.turn{grid-column:1/4;grid-row:auto}}
details>summary{cursor:pointer;font-weight:600;margin:.5rem 0}.notebook h1{font-size:1.25rem;margin:.6rem 0}
.anchor-link,.jp-OutputArea-prompt,.jp-InputPrompt,.prompt{display:none}
"""
PATH = re.compile(r"(?<![\w:/.<])/(?:[^\s/:;,'\"<>()]+/)+([^\s/:;,'\"<>()]*)")
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def document(title: str, body: str) -> str:
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>'


def portable(text: str, run_dir: Path) -> str:
    """The text with paths from the run folder or the repository, and of all others the last name only."""
    text = ANSI.sub("", text).replace("file:///", "/")
    for folder in (run_dir.absolute(), run_dir.resolve(), files.root(".")):
        if len(folder.parts) > 1:
            text = re.sub(rf"{re.escape(str(folder))}(/|\b)", lambda m: "" if m[1] else "the run folder", text)
    return PATH.sub(lambda match: f"…/{match[1]}", text)


def label(status: str) -> str:
    return f'<span class="status {html.escape(status)}">{html.escape(status)}</span>'


def banner(text: str, kind: str = "") -> str:
    """A paragraph that is not overlooked; `text` is HTML."""
    return f'<p class="banner {kind}">{text}</p>'


def moment(written: str) -> str:
    """A time of run.json, to the minute."""
    return f"{datetime.fromisoformat(written):%Y-%m-%d %H:%M}"


def picture(path: Path, side: int, caption: str) -> str:
    """A figure with the picture on white, at most `side` wide and high."""
    image = Image.open(path).convert("RGBA")
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    flat = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    buffer = io.BytesIO()
    flat.save(buffer, "PNG")
    return figure(buffer.getvalue(), "png", caption)


def figure(content: bytes, kind: str, caption: str, style: str = "") -> str:
    name = html.escape(caption)
    uri = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    return f'<figure class="{style}"><img src="{uri}" alt="{name}"><figcaption>{name}</figcaption></figure>'
