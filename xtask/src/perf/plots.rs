//! Plots, as SVG. Colours are those of a light page; [`dark`] is a style sheet that changes each for a dark one.
//!
//! Key types: [`Panel`], [`Bar`], [`Line`].

use anyhow::Result;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontDesc, FontFamily, FontStyle};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Colours with what they are on a dark page.
const INK: (RGBColor, &str) = (RGBColor(0x1f, 0x23, 0x28), "#e6edf3");
const MUTED: (RGBColor, &str) = (RGBColor(0x59, 0x63, 0x6e), "#9198a1");
const GRID: (RGBColor, &str) = (RGBColor(0xd1, 0xd9, 0xe0), "#3d444d");
const OURS: (RGBColor, &str) = (RGBColor(0x0b, 0x6e, 0x99), "#4fb3e0");
const OTHER: (RGBColor, &str) = (RGBColor(0xa9, 0xb4, 0xbe), "#6b7580");
const SERIES: [(RGBColor, &str); 5] = [
    OURS,
    (RGBColor(0xc2, 0x4e, 0x10), "#f0883e"),
    (RGBColor(0x6f, 0x42, 0xa8), "#b392f0"),
    (RGBColor(0x2a, 0x7d, 0x3f), "#56d364"),
    (RGBColor(0xa1, 0x3d, 0x63), "#f778ba"),
];

/// Width of plots that take the whole page.
const WIDTH: u32 = 860;
/// A line of text and the gap to the next, and where bars begin.
const LINE: i32 = 24;
const LABELS: i32 = 268;
/// Characters that are sure to fit there.
const LONGEST_LABEL: usize = 38;
/// A bar is drawn at most so many times as long as the longest of ours.
const LONGEST: u64 = 7;

/// The style sheet for dark pages: rules for the colours above.
pub fn dark() -> String {
    let all = [INK, MUTED, GRID, OTHER].into_iter().chain(SERIES);
    all.map(|(RGBColor(r, g, b), dark)| {
        let light = format!("#{r:02X}{g:02X}{b:02X}");
        format!("[fill=\"{light}\"]{{fill:{dark}}}[stroke=\"{light}\"]{{stroke:{dark}}}")
    })
    .collect()
}

/// A plot as a file of its own.
pub fn alone(svg: &str) -> String {
    let style = format!(
        "<style>text{{font-family:system-ui,-apple-system,'Segoe UI',sans-serif}}\
         @media (prefers-color-scheme:dark){{{}}}</style>",
        dark()
    );
    match svg.find('\n') {
        Some(end) => format!("{}\n{style}{}", &svg[..end], &svg[end..]),
        None => svg.to_owned(),
    }
}

fn draw(width: u32, height: u32, on: impl FnOnce(&Area) -> Result<()>) -> Result<String> {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, (width, height)).into_drawing_area();
    on(&area)?;
    area.present()?;
    drop(area);
    Ok(svg)
}

fn style(size: u32, bold: bool, colour: RGBColor, at: HPos) -> TextStyle<'static> {
    let weight = if bold { FontStyle::Bold } else { FontStyle::Normal };
    let font = FontDesc::new(FontFamily::SansSerif, size.into(), weight);
    TextStyle { color: colour.to_backend_color(), ..TextStyle::from(font) }.pos(Pos::new(at, VPos::Center))
}

fn text(area: &Area, what: &str, at: (i32, i32), style: &TextStyle<'static>) -> Result<()> {
    Ok(area.draw(&Text::new(what.to_owned(), at, style.clone()))?)
}

fn rectangle(area: &Area, from: (i32, i32), to: (i32, i32), colour: RGBColor) -> Result<()> {
    Ok(area.draw(&Rectangle::new([from, to], colour.filled()))?)
}

/// Bars that are compared with each other.
pub struct Panel {
    pub title: String,
    pub bars: Vec<Bar>,
}

/// A bar.
pub struct Bar {
    pub label: String,
    pub value: u64,
    /// It is our own.
    pub ours: bool,
}

/// Digits in groups of three.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().map(|c| str::from_utf8(c).unwrap_or_default()).collect();
    groups.join("\u{202f}")
}

/// Panels below each other, all to the same scale. What is much longer than ours is cut, which an arrow shows.
pub fn bars(panels: &[Panel]) -> Result<String> {
    let lines: i32 = panels.iter().map(|p| p.bars.len() as i32 * LINE + 44).sum();
    let all = || panels.iter().flat_map(|p| &p.bars);
    let ours = all().filter(|b| b.ours).map(|b| b.value).max().unwrap_or(u64::MAX / LONGEST);
    let scale = all().map(|b| b.value).filter(|v| *v <= ours * LONGEST).max().unwrap_or(1).max(1);
    draw(WIDTH, lines as u32 + 4, |area| {
        let mut y = 18;
        for p in panels {
            text(area, &p.title, (0, y), &style(15, true, INK.0, HPos::Left))?;
            y += LINE + 4;
            for b in &p.bars {
                bar(area, b, y, scale)?;
                y += LINE;
            }
            y += 16;
        }
        Ok(())
    })
}

/// The end of a name tells more than its beginning.
fn shortened(label: &str) -> String {
    let over = label.chars().count().saturating_sub(LONGEST_LABEL);
    if over == 0 { label.to_owned() } else { format!("\u{2026}{}", label.chars().skip(over + 1).collect::<String>()) }
}

fn bar(area: &Area, b: &Bar, y: i32, scale: u64) -> Result<()> {
    let longest = WIDTH as i32 - LABELS - 90;
    let cut = b.value > scale;
    let length = if cut { longest } else { (b.value as f64 / scale as f64 * f64::from(longest)).round() as i32 };
    let (colour, ink) = if b.ours { (OURS.0, INK.0) } else { (OTHER.0, MUTED.0) };
    text(area, &shortened(&b.label), (LABELS - 10, y), &style(14, b.ours, ink, HPos::Right))?;
    rectangle(area, (LABELS, y - 8), (LABELS + length.max(1), y + 8), colour)?;
    if cut {
        let end = LABELS + length;
        area.draw(&Polygon::new([(end, y - 8), (end + 10, y), (end, y + 8)], colour.filled()))?;
    }
    let gap = if cut { 16 } else { 7 };
    text(area, &grouped(b.value), (LABELS + length + gap, y), &style(14, b.ours, ink, HPos::Left))
}

/// Points that are joined.
pub struct Line {
    pub label: String,
    pub points: Vec<(u64, u64)>,
}

/// Curves over a logarithmic axis of powers of two.
pub fn curves(x: &str, y: &str, lines: &[Line]) -> Result<String> {
    let points = || lines.iter().flat_map(|l| &l.points);
    let last = points().map(|p| p.0).max().unwrap_or(2).max(2) as f64;
    let top = points().map(|p| p.1).max().unwrap_or(1) as f64 * 1.08;
    let above = lines.len() as i32 * 20;
    draw(WIDTH, 360 + above as u32, |area| {
        let small = style(13, false, MUTED.0, HPos::Center);
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .margin_right(24)
            .margin_top(above + 16)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d((1f64..last * 1.05).log_scale().base(2.0), 0f64..top)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .bold_line_style(GRID.0)
            .light_line_style(TRANSPARENT)
            .axis_style(MUTED.0)
            .label_style(style(13, false, MUTED.0, HPos::Left))
            .axis_desc_style(small)
            .x_label_formatter(&|v| format!("{v:.0}"))
            .y_label_formatter(&|v| grouped(*v as u64))
            .x_desc(x)
            .y_desc(y)
            .draw()?;
        for (l, (colour, _)) in lines.iter().zip(SERIES.iter().cycle()) {
            let points = || l.points.iter().map(|p| (p.0 as f64, p.1 as f64));
            chart.draw_series(LineSeries::new(points(), colour.stroke_width(2)))?;
            chart.draw_series(points().map(|p| Circle::new(p, 4, colour.filled())))?;
        }
        legend(area, lines)
    })
}

fn legend(area: &Area, lines: &[Line]) -> Result<()> {
    for (i, (l, (colour, _))) in lines.iter().zip(SERIES.iter().cycle()).enumerate() {
        let y = 12 + i as i32 * 20;
        rectangle(area, (92, y - 2), (112, y + 1), *colour)?;
        text(area, &l.label, (120, y), &style(13, false, INK.0, HPos::Left))?;
    }
    Ok(())
}

/// From minimum to 99th percentile with a mark at the median, and a dot for the maximum; a logarithmic axis.
pub struct Range {
    pub label: String,
    pub min: u64,
    pub median: u64,
    pub p99: u64,
    pub max: u64,
}

/// Ranges below each other.
pub fn ranges(rows: &[Range]) -> Result<String> {
    let labels = 352;
    let width = f64::from(WIDTH as i32 - labels - 40);
    let log = |v: u64| (v.max(1) as f64).log10();
    let end = rows.iter().map(|r| log(r.max)).fold(1.0, f64::max).ceil();
    let begin = rows.iter().map(|r| log(r.min)).fold(end - 1.0, f64::min).floor();
    let at = |v: u64| labels + ((log(v) - begin) / (end - begin) * width).round() as i32;
    let height = rows.len() as i32 * 20 + 44;
    draw(WIDTH, height as u32, |area| {
        for power in begin as u32..=end as u32 {
            let x = at(10u64.pow(power));
            let line = PathElement::new([(x, 4), (x, height - 34)], GRID.0);
            area.draw(&line)?;
            text(area, &grouped(10u64.pow(power)), (x, height - 18), &style(13, false, MUTED.0, HPos::Center))?;
        }
        for (i, r) in rows.iter().enumerate() {
            let y = 16 + i as i32 * 20;
            text(area, &r.label, (labels - 12, y), &style(13, false, INK.0, HPos::Right))?;
            if r.max > r.p99 {
                rectangle(area, (at(r.min), y - 1), (at(r.max), y + 1), OTHER.0)?;
                area.draw(&Circle::new((at(r.max), y), 3, OTHER.0.filled()))?;
            }
            rectangle(area, (at(r.min), y - 4), (at(r.p99).max(at(r.min) + 1), y + 4), OURS.0)?;
            rectangle(area, (at(r.median) - 1, y - 7), (at(r.median) + 2, y + 7), INK.0)?;
        }
        Ok(())
    })
}

/// How many samples are in each interval, on a logarithmic axis: one in a thousand is to be seen too.
pub fn histogram(title: &str, intervals: &[(u64, u64)]) -> Result<String> {
    let (width, height, floor) = (274, 168, 140);
    let log = |n: u64| (n as f64 + 1.0).log2();
    let top = intervals.iter().map(|i| log(i.1)).fold(1.0, f64::max);
    let step = f64::from(width - 20) / intervals.len().max(1) as f64;
    draw(width as u32, height, |area| {
        text(area, title, (0, 12), &style(12, true, INK.0, HPos::Left))?;
        for (i, (_, n)) in intervals.iter().enumerate() {
            let x = |i: usize| 10 + (i as f64 * step) as i32;
            let high = (log(*n) / top * 96.0).round() as i32;
            rectangle(area, (x(i), floor - high), ((x(i + 1) - 2).max(x(i) + 1), floor), OURS.0)?;
            if intervals.len() <= 6 {
                let middle = (x(i) + x(i + 1)) / 2;
                text(area, &grouped(*n), (middle, floor - high - 8), &style(11, false, MUTED.0, HPos::Center))?;
            }
        }
        area.draw(&PathElement::new([(8, floor), (width - 8, floor)], MUTED.0))?;
        let every = intervals.len().div_ceil(4).max(1);
        for (i, (from, _)) in intervals.iter().enumerate().step_by(every) {
            let x = 10 + (i as f64 * step) as i32;
            text(area, &grouped(*from), (x, floor + 14), &style(11, false, MUTED.0, HPos::Left))?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel() -> Panel {
        let bar = |label: &str, value, ours| Bar { label: label.into(), value, ours };
        Panel {
            title: "IPC <1 word>".into(),
            bars: vec![bar("us", 195, true), bar("them", 395, false), bar("others", 20_000, false)],
        }
    }

    #[test]
    fn bars_are_labelled_and_very_long_ones_are_cut() {
        let svg = bars(&[panel()]).unwrap();
        assert!(svg.contains("IPC &lt;1 word&gt;") && svg.contains("20\u{202f}000"), "{svg}");
        assert_eq!((svg.matches("<rect").count(), svg.matches("<polygon").count()), (3, 1));
        assert!(bars(&[]).unwrap().contains("<svg"));
    }

    #[test]
    fn every_colour_has_a_dark_one() {
        let line = Line { label: "a".into(), points: vec![(1, 2), (512, 9)] };
        let range = Range { label: "r".into(), min: 1, median: 2, p99: 3, max: 4000 };
        let svgs = [
            bars(&[panel()]).unwrap(),
            curves("words", "instructions", &[line]).unwrap(),
            ranges(&[range]).unwrap(),
            histogram("h", &[(5, 1000), (9, 1)]).unwrap(),
        ];
        let sheet = dark();
        for svg in &svgs {
            for colour in svg.split(['"', ' ']).filter(|w| w.starts_with('#')) {
                assert!(sheet.contains(&format!("[fill=\"{colour}\"]")), "{colour}");
            }
            assert!(!svg.contains("http") || svg.matches("http").count() == 1, "only the name of the format");
        }
        let file = alone(&svgs[0]);
        assert!(file.starts_with("<svg") && file.contains("<style>") && file.trim_end().ends_with("</svg>"));
    }

    #[test]
    fn nothing_to_draw_is_drawn() {
        curves("x", "y", &[]).unwrap();
        ranges(&[]).unwrap();
        histogram("", &[]).unwrap();
        assert_eq!(shortened("short"), "short");
        let long = shortened(&"a::".repeat(30));
        assert!(
            long.chars().count() == LONGEST_LABEL && long.starts_with('\u{2026}') && long.ends_with("a::"),
            "{long}"
        );
        assert_eq!([grouped(0), grouped(999), grouped(1_234_567)], ["0", "999", "1\u{202f}234\u{202f}567"]);
    }
}
