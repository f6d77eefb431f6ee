"""A bar chart as SVG that reads in light and dark."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#444}.t{font-weight:600}rect{fill:#8aa9b8}.us{fill:#00617f}"
    "@media(prefers-color-scheme:dark){text{fill:#c8d2d8}.us{fill:#4db6d6}}"
)


def bars(values: Mapping[str, float], title: str, ours: str = "Pilothouse") -> str:
    most = max(values.values())
    lines = [f'<text class="t" x="0" y="16">{escape(title)}</text>']
    for row, (name, value) in enumerate(values.items()):
        y, width = 34 + row * 30, max(1.0, 380 * value / most)
        mark = ' class="us"' if name == ours else ""
        lines.append(f'<text x="0" y="{y + 14}">{escape(name)}</text>')
        lines.append(f'<rect{mark} x="130" y="{y}" width="{width:.1f}" height="20" rx="3"/>')
        lines.append(f'<text x="{136 + width:.0f}" y="{y + 14}">{value:,.0f}</text>')
    height = 40 + 30 * len(values)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 600 {height}"><style>{STYLE}</style>'
    return "".join([head, *lines, "</svg>\n"])
