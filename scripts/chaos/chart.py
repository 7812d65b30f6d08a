"""A small chart as one SVG file that needs nothing else: panels over a common time axis."""

WIDTH, PANEL, GAP, LEFT, RIGHT, TOP = 760, 110, 34, 64, 14, 46
COLOURS = ("#2563eb", "#d97706")
STYLE = """
  svg { background: #fff; font: 12px system-ui, sans-serif; fill: #1f2937 }
  .grid { stroke: #d1d5db; stroke-width: 1 } .small { fill: #6b7280; font-size: 11px }
  .line { fill: none; stroke-width: 1.5 }
  @media (prefers-color-scheme: dark) {
    svg { background: #111827; fill: #e5e7eb } .grid { stroke: #374151 } .small { fill: #9ca3af }
  }
"""


def nice_top(value):
    """The next 1, 2 or 5 times a power of ten."""
    top = 1e-6
    while True:
        for step in (1, 2, 5):
            if value <= top * step:
                return top * step
        top *= 10


def number(value):
    """Without needless digits."""
    return f"{value:.0f}" if value >= 10 else f"{value:g}"


def points(times, values, x_of, y_of):
    """SVG path; a gap where a value is missing."""
    path, pen_is_up = [], True
    for time, value in zip(times, values):
        if value is None:
            pen_is_up = True
            continue
        path.append(f"{'M' if pen_is_up else 'L'}{x_of(time):.1f} {y_of(value):.1f}")
        pen_is_up = False
    return "".join(path)


def thinned(times, values, most=600):
    """At most so many points: of each group its largest, so that no peak is hidden."""
    step = -(-len(times) // most)
    groups = range(0, len(times), step)
    largest = [max((v for v in values[i:i + step] if v is not None), default=None) for i in groups]
    return [times[i] for i in groups], largest


def panel(title, times, lines, top, span):
    """One panel: its title, a grid of three lines, one or two curves."""
    values = [v for _, column in lines for v in column if v is not None]
    highest = nice_top(max(values, default=1) or 1)
    x_of = lambda t: LEFT + (WIDTH - LEFT - RIGHT) * t / span
    y_of = lambda v: top + PANEL - PANEL * v / highest
    out = [f'<text x="{LEFT}" y="{top - 8}">{title}</text>']
    for share in (0, 0.5, 1):
        y = y_of(highest * share)
        out.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        out.append(f'<text class="small" x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{number(highest * share)}</text>')
    x = WIDTH - RIGHT
    for colour, (label, column) in reversed(list(zip(COLOURS, lines))):
        path = points(*thinned(times, column), x_of, y_of)
        out.append(f'<path class="line" stroke="{colour}" d="{path}"/>')
        if len(lines) > 1:
            out.append(f'<text x="{x}" y="{top - 8}" text-anchor="end" style="fill:{colour}">{label}</text>')
            x -= 50
    return out


def draw(title, times, panels):
    """The whole file. `panels` is a list of (title, [(label, column), ...]); times in seconds."""
    span = max(times[-1], 1e-9)
    height = TOP + len(panels) * (PANEL + GAP) + 6
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{title}</title><style>{STYLE}</style>",
        f'<text x="{LEFT}" y="18" style="font-weight:600">{title}</text>',
    ]
    for index, (name, lines) in enumerate(panels):
        out += panel(name, times, lines, TOP + index * (PANEL + GAP) + 10, span)
    for share in (0, 0.25, 0.5, 0.75, 1):
        x = LEFT + (WIDTH - LEFT - RIGHT) * share
        out.append(f'<text class="small" x="{x:.0f}" y="{height - 4}" text-anchor="middle">{number(span * share / 60)} min</text>')
    return "\n".join([*out, "</svg>", ""])
