//! The bar chart of calls per second for each contestant.

use plotters::{
    chart::ChartBuilder,
    drawing::IntoDrawingArea as _,
    element::{Rectangle, Text},
    prelude::SVGBackend,
    style::{Color as _, IntoFont as _, RGBColor},
};

use crate::{
    Failure,
    contestant::Kind,
    results::{Metric, Results},
    work::Work,
};

const OURS: RGBColor = RGBColor(0x1f, 0x6f, 0xb4);
const FLOOR: RGBColor = RGBColor(0x8a, 0x8a, 0x8a);
const OTHERS: RGBColor = RGBColor(0xd9, 0x7b, 0x29);
const BACKGROUND: RGBColor = RGBColor(0xff, 0xff, 0xff);
const TEXT: RGBColor = RGBColor(0x22, 0x22, 0x22);
const WIDTH: u32 = 860;
const BAR: u32 = 22;
const HEAD: u32 = 50;

/// Returns the chart for small calls with many in flight, as SVG. Returns `None` if this work was
/// not measured.
pub(crate) fn chart(results: &Results) -> Result<Option<String>, Failure> {
    let work = Work::echo(64, 1024);
    let mut bars: Vec<_> = results
        .measured
        .iter()
        .filter(|measured| measured.work == work)
        .map(|measured| (measured.contestant, measured.median(Metric::CallsPerSecond)))
        .collect();
    if bars.is_empty() {
        return Ok(None);
    }
    bars.sort_by(|a, b| a.1.total_cmp(&b.1));
    let longest = bars.last().map_or(1.0, |bar| bar.1);
    let count = u32::try_from(bars.len())?;
    let mut svg = String::new();
    {
        let area =
            SVGBackend::with_string(&mut svg, (WIDTH, HEAD + BAR * count)).into_drawing_area();
        area.fill(&BACKGROUND)?;
        let title = ("sans-serif", 18).into_font().color(&TEXT);
        area.draw(&Text::new(format!("{}: calls/s", work.title()), (10, 14), title))?;
        let (_, area) = area.split_vertically(HEAD - 8);
        let label = ("sans-serif", 13).into_font().color(&TEXT);
        // The range leaves room for the names left of zero, and for the figure right of the longest
        // bar.
        let range = (-0.3 * longest)..(1.15 * longest);
        let mut chart =
            ChartBuilder::on(&area).margin(5).build_cartesian_2d(range, 0.0..f64::from(count))?;
        for (at, (contestant, calls)) in (0..count).map(f64::from).zip(bars) {
            let color = match contestant.kind {
                Kind::Rpc(..) => OURS,
                Kind::Floor | Kind::Lapin | Kind::Copy => FLOOR,
                Kind::Tarpc | Kind::Tonic | Kind::Python | Kind::Pika => OTHERS,
            };
            let bar = Rectangle::new([(0.0, at + 0.15), (calls, at + 0.85)], color.filled());
            let name = Text::new(contestant.name(), (-0.29 * longest, at + 0.75), label.clone());
            let figure = Text::new(
                format!("{:.0} k", calls / 1e3),
                (calls + 0.01 * longest, at + 0.75),
                label.clone(),
            );
            chart.draw_series([bar])?;
            chart.draw_series([name, figure])?;
        }
        area.present()?;
    }
    Ok(Some(svg))
}
