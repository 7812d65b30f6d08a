//! Drawing: scales, axes and marks of one inline SVG.
//!
//! ```text
//!   width 460, height 300 units; the page scales it to its column
//!   +--LEFT--+---------------- plot ---------------+-RIGHT-+
//!            '--- x axis, labels, name of the axis ---'
//! ```
//!
//! Colours are classes (`s0`..`s7`), which the style sheet gives a value in light and in dark mode.

use std::fmt::Write;

pub const WIDTH: f64 = 460.0;
pub const HEIGHT: f64 = 300.0;
pub const LEFT: f64 = 62.0;
pub const RIGHT: f64 = 22.0;
pub const TOP: f64 = 12.0;
pub const BOTTOM: f64 = 46.0;
/// Colours of series; further ones begin again, with another dash.
pub const COLOURS: usize = 8;

/// Text that is safe between tags and in attributes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
    out
}

/// Values on a length.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    low: f64,
    high: f64,
    is_log: bool,
    from: f64,
    to: f64,
}

impl Scale {
    /// From 0 to a little more than `high`.
    pub fn linear(high: f64) -> Self {
        let high = if high > 0.0 { high * 1.05 } else { 1.0 };
        Self {
            low: 0.0,
            high,
            is_log: false,
            from: 0.0,
            to: 1.0,
        }
    }

    /// The values with a little room, by powers. Both are above 0.
    pub fn log(low: f64, high: f64) -> Self {
        let low = low.max(1e-12);
        Self {
            low: low / 1.15,
            high: high.max(low * 1.01) * 1.15,
            is_log: true,
            from: 0.0,
            to: 1.0,
        }
    }

    /// As [`Scale::log`], without room at the ends.
    pub fn log_exact(low: f64, high: f64) -> Self {
        Self {
            low,
            high: high.max(low * 1.01),
            ..Self::log(low, high)
        }
    }

    /// Left to right.
    pub fn across(self) -> Self {
        Self {
            from: LEFT,
            to: WIDTH - RIGHT,
            ..self
        }
    }

    /// Bottom to top.
    pub fn upwards(self) -> Self {
        Self {
            from: HEIGHT - BOTTOM,
            to: TOP,
            ..self
        }
    }

    pub fn place(&self, value: f64) -> f64 {
        let part = if self.is_log {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.from + part.clamp(0.0, 1.0) * (self.to - self.from)
    }

    /// Values for about five labels: 1, 2 or 5 times a power of ten; in a logarithmic scale over
    /// more than two decades the powers alone.
    pub fn ticks(&self) -> Vec<f64> {
        if !self.is_log {
            let rough = (self.high - self.low) / 5.0;
            let power = 10f64.powf(rough.log10().floor());
            let step = [1.0, 2.0, 5.0, 10.0]
                .into_iter()
                .map(|m| m * power)
                .find(|step| *step >= rough)
                .unwrap_or(rough);
            let count = ((self.high - self.low) / step) as usize;
            return (0..=count).map(|n| self.low + n as f64 * step).collect();
        }
        let decades = (self.high / self.low).log10();
        let factors: &[f64] = match decades {
            d if d > 2.5 => &[1.0],
            d if d > 0.6 => &[1.0, 2.0, 5.0],
            _ => &[1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0],
        };
        let (first, last) = (self.low.log10().floor(), self.high.log10().ceil());
        let mut ticks = Vec::new();
        let mut power = first;
        while power <= last {
            ticks.extend(factors.iter().map(|f| f * 10f64.powf(power)));
            power += 1.0;
        }
        ticks.retain(|tick| (self.low..=self.high).contains(tick));
        ticks
    }
}

/// An SVG in the making.
pub struct Drawing {
    body: String,
}

impl Drawing {
    pub fn new() -> Self {
        Self {
            body: String::new(),
        }
    }

    fn push(&mut self, text: std::fmt::Arguments) {
        // Writing to a String cannot fail.
        let _ = self.body.write_fmt(text);
    }

    /// Labels and lines across; `name` says what and in which unit.
    pub fn y_axis(&mut self, scale: &Scale, name: &str, label: impl Fn(f64) -> String) {
        for tick in scale.ticks() {
            let y = scale.place(tick);
            let (right, x) = (WIDTH - RIGHT, LEFT - 6.0);
            let text = escape(&label(tick));
            self.push(format_args!(
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text class=\"tick end\" x=\"{x}\" y=\"{:.1}\">{text}</text>\n",
                y + 4.0
            ));
        }
        let middle = (TOP + HEIGHT - BOTTOM) / 2.0;
        let name = escape(name);
        self.push(format_args!(
            "<text class=\"axis\" transform=\"translate(13 {middle}) rotate(-90)\">{name}</text>\n"
        ));
    }

    /// Labels below and the name of the axis; lines upwards.
    pub fn x_axis(&mut self, ticks: &[(f64, String)], name: &str) {
        let bottom = HEIGHT - BOTTOM;
        for (x, label) in ticks {
            let text = escape(label);
            self.push(format_args!(
                "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
                 <text class=\"tick middle\" x=\"{x:.1}\" y=\"{:.1}\">{text}</text>\n",
                bottom + 16.0
            ));
        }
        let (x, y) = ((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 8.0);
        let name = escape(name);
        self.push(format_args!(
            "<text class=\"axis\" x=\"{x}\" y=\"{y}\">{name}</text>\n"
        ));
    }

    /// A line through the points in the colour and dash of series `index`.
    pub fn line(&mut self, index: usize, class: &str, points: &[(f64, f64)]) {
        let mut list = String::new();
        for (x, y) in points {
            let _ = write!(list, "{x:.1},{y:.1} ");
        }
        let stroke = stroke(index);
        self.push(format_args!(
            "<polyline class=\"line {stroke} {class}\" points=\"{}\"/>\n",
            list.trim_end()
        ));
    }

    /// A filled shape in the colour of series `index`, faint.
    pub fn area(&mut self, index: usize, points: &[(f64, f64)]) {
        let mut list = String::new();
        for (x, y) in points {
            let _ = write!(list, "{x:.1},{y:.1} ");
        }
        let colour = index % COLOURS;
        self.push(format_args!(
            "<polygon class=\"area f{colour}\" points=\"{}\"/>\n",
            list.trim_end()
        ));
    }

    pub fn dot(&mut self, index: usize, x: f64, y: f64) {
        let colour = index % COLOURS;
        self.push(format_args!(
            "<circle class=\"f{colour}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"/>\n"
        ));
    }

    pub fn rectangle(&mut self, class: &str, x: f64, y: f64, width: f64, height: f64) {
        self.push(format_args!(
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{height:.1}\"/>\n",
            width.max(0.5)
        ));
    }

    pub fn straight(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        self.push(format_args!(
            "<line class=\"{class}\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>\n",
            from.0, from.1, to.0, to.1
        ));
    }

    pub fn text(&mut self, class: &str, x: f64, y: f64, text: &str) {
        let text = escape(text);
        self.push(format_args!(
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{text}</text>\n"
        ));
    }

    /// The whole element. `title` and `description` are what a screen reader says.
    pub fn finish(self, height: f64, title: &str, description: &str) -> String {
        let (title, description) = (escape(title), escape(description));
        format!(
            "<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"{title}\">\n\
             <title>{title}</title><desc>{description}</desc>\n{}</svg>\n",
            self.body
        )
    }
}

/// Classes of a series' line: a colour, and a dash when the colours have been used up.
pub fn stroke(index: usize) -> String {
    format!("s{} d{}", index % COLOURS, index / COLOURS % 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_escapes() {
        assert_eq!(
            escape("<a href='x'>&\"</a>"),
            "&lt;a href=&#39;x&#39;&gt;&amp;&quot;&lt;/a&gt;"
        );
    }

    #[test]
    fn ticks_are_few_round_and_inside() {
        for high in [0.003, 1.0, 7.0, 283.7, 3.1e6] {
            let scale = Scale::linear(high);
            let ticks = scale.ticks();
            assert!((3..=7).contains(&ticks.len()), "{high}: {ticks:?}");
            assert_eq!(ticks[0], 0.0);
            assert!(ticks.iter().all(|t| *t <= scale.high));
        }
        for (low, high) in [(1.0, 1.3), (1.0, 10_000.0), (100.0, 550.0), (3e5, 3e9)] {
            let ticks = Scale::log(low, high).ticks();
            assert!((2..=8).contains(&ticks.len()), "{low}..{high}: {ticks:?}");
        }
    }

    #[test]
    fn scales_go_from_end_to_end() {
        let scale = Scale::log_exact(1.0, 10_000.0).across();
        assert_eq!(scale.place(1.0), LEFT);
        assert_eq!(scale.place(10_000.0), WIDTH - RIGHT);
        assert!((scale.place(100.0) - (LEFT + WIDTH - RIGHT) / 2.0).abs() < 1e-9);
        let scale = Scale::linear(100.0).upwards();
        assert_eq!(scale.place(0.0), HEIGHT - BOTTOM);
        assert_eq!(scale.place(1e9), TOP, "clamped");
    }
}
