//! Figures of several subjects side by side: a line for each figure, a column for each subject, the best marked.

use super::Figure;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Best {
    Least,
    Most,
}

/// What a figure measures.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    pub what: &'static str,
    pub unit: &'static str,
    pub best: Best,
    pub goal: Option<&'static str>,
}

#[derive(Default)]
pub struct Comparison {
    /// In the order they came in.
    subjects: Vec<&'static str>,
    lines: Vec<Line>,
}

struct Line {
    row: &'static str,
    metric: Metric,
    figures: Vec<(&'static str, Figure)>,
}

impl Line {
    fn median(&self, subject: &str) -> Option<f64> {
        self.figures.iter().find(|(name, _)| *name == subject).map(|(_, figure)| figure.median())
    }

    fn best(&self) -> Option<f64> {
        let medians = self.figures.iter().map(|(_, figure)| figure.median());
        match self.metric.best {
            Best::Least => medians.min_by(f64::total_cmp),
            Best::Most => medians.max_by(f64::total_cmp),
        }
    }
}

impl Comparison {
    /// Adds what one run measured of a subject.
    pub fn add(&mut self, row: &'static str, subject: &'static str, measured: &[(Metric, f64)]) {
        if !self.subjects.contains(&subject) {
            self.subjects.push(subject);
        }
        for (metric, value) in measured {
            let found = self.lines.iter().position(|line| line.row == row && line.metric == *metric);
            let index = found.unwrap_or_else(|| {
                self.lines.push(Line { row, metric: *metric, figures: Vec::new() });
                self.lines.len() - 1
            });
            let figures = &mut self.lines[index].figures;
            match figures.iter_mut().find(|(name, _)| *name == subject) {
                Some((_, figure)) => figure.values.push(*value),
                None => {
                    let what = format!("{row}: {} [{subject}]", metric.what);
                    let figure = Figure { goal: metric.goal, ..Figure::new(what, metric.unit, vec![*value]) };
                    figures.push((subject, figure));
                }
            }
        }
    }

    pub fn print(&self) {
        let name = |line: &Line| format!("{}: {} ({})", line.row, line.metric.what, line.metric.unit);
        let width = self.lines.iter().map(|line| name(line).len()).max().unwrap_or(0);
        print!("{:width$}", "median; * is the best");
        for subject in &self.subjects {
            print!("  {subject:>12}");
        }
        println!("  goal");
        for line in &self.lines {
            print!("{:width$}", name(line));
            for subject in &self.subjects {
                let median = line.median(subject);
                let mark = if median.is_some() && median == line.best() { "*" } else { "" };
                let text = median.map_or_else(|| "-".to_owned(), |value| format!("{mark}{}", rounded(value)));
                print!("  {text:>12}");
            }
            println!("  {}", line.metric.goal.unwrap_or(""));
        }
    }

    pub fn into_figures(self) -> Vec<Figure> {
        self.lines.into_iter().flat_map(|line| line.figures).map(|(_, figure)| figure).collect()
    }
}

/// Three digits that count.
fn rounded(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}
