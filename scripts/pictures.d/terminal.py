#!/usr/bin/env python3
"""Makes a page of what `tmux capture-pane -pe` printed: the text with its colours, in a window.

    tmux capture-pane -pe | terminal.py TITLE > terminal.html
"""

import re
import sys
from html import escape

COLOURS = {31: "#ff7b72", 32: "#7ee787", 33: "#f2cc60", 36: "#56d4dd", 90: "#8b949e", 39: "#d6deeb"}

STYLE = """
html { background: #fff }
body { margin: 0; padding: 12px; width: max-content }
.window { background: #0d1117; border-radius: 8px; padding: 0 0 14px; box-shadow: 0 2px 10px #0006 }
.title { color: #8b949e; font: 12px sans-serif; text-align: center; padding: 9px; position: relative }
.title i { position: absolute; left: 14px; top: 10px; width: 11px; height: 11px; border-radius: 50% }
pre { margin: 0; padding: 4px 18px; color: #d6deeb; font: 14px/1.45 "DejaVu Sans Mono", monospace }
"""

# For who takes the picture.
SIZE = """
const body = document.body;
body.dataset.size = `${Math.ceil(body.offsetWidth)} ${Math.ceil(body.offsetHeight)}`;
"""


def spans(line):
    colour, bold = 39, False
    for part in re.split(r"(\x1b\[[0-9;]*m)", line):
        sequence = re.fullmatch(r"\x1b\[([0-9;]*)m", part)
        if sequence:
            for code in (int(code or 0) for code in sequence.group(1).split(";")):
                if code == 0:
                    colour, bold = 39, False
                elif code == 1:
                    bold = True
                elif code in COLOURS:
                    colour = code
        elif part:
            weight = ";font-weight:bold" if bold else ""
            yield f'<span style="color:{COLOURS[colour]}{weight}">{escape(part)}</span>'


def main(title):
    lines = [line.rstrip("\n") for line in sys.stdin]
    while lines and not lines[-1].strip():
        lines.pop()
    text = "\n".join("".join(spans(line)) for line in lines)
    buttons = "".join(
        f'<i style="margin-left:{18 * at}px;background:{colour}"></i>'
        for at, colour in enumerate(("#ff5f56", "#ffbd2e", "#27c93f"))
    )
    print(
        f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style><div class=window><div class=title>{buttons}{escape(title)}</div>"
        f"<pre>{text}</pre></div><script>{SIZE}</script></html>"
    )


if __name__ == "__main__":
    main(sys.argv[1])
