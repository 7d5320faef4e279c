"""A picture that stands for a widget where the widget is gone: in a notebook that is opened again, without its kernel.

The picture follows the widget as an output of its own, because a browser that may show a widget shows nothing else of the same
output. While the widget lives, the picture is hidden; where it does not, its renderer's complaint is.
"""

import base64

from IPython.display import HTML

HIDING = """<style>
.jp-OutputArea-child:has(.{of}) + .jp-OutputArea-child:has(.{of}-still) {{ display: none; }}
.jp-OutputArea-child:not(:has(.{of})):has(+ .jp-OutputArea-child .{of}-still) {{ display: none; }}
</style>"""


def still(of: str, words: str, *pictures: bytes) -> HTML:
    """Words (HTML) and pictures (PNG or JPEG) for the widget that has the CSS class `of`."""
    shown = "".join(f"<img src='data:image/{_kind(one)};base64,{base64.b64encode(one).decode()}'>" for one in pictures)
    return HTML(f"<div class='{of}-still'>{HIDING.format(of=of)}<p>{words}</p>{shown}</div>")


def _kind(picture: bytes) -> str:
    return "png" if picture.startswith(b"\x89PNG") else "jpeg"
