//! What several rounds say of one figure, and how numbers are shown.

/// The lowest, the median and the highest of several values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) lowest: f64,
    pub(crate) median: f64,
    pub(crate) highest: f64,
}

impl Spread {
    /// `None` if there are no values.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let median = match values.len() {
            0 => return None,
            odd if odd % 2 == 1 => *values.get(odd / 2)?,
            even => f64::midpoint(*values.get(even / 2 - 1)?, *values.get(even / 2)?),
        };
        Some(Self {
            lowest: *values.first()?,
            median,
            highest: *values.last()?,
        })
    }

    /// The same in another unit.
    pub(crate) fn times(self, factor: f64) -> Self {
        Self {
            lowest: self.lowest * factor,
            median: self.median * factor,
            highest: self.highest * factor,
        }
    }

    /// The median and, unless they look the same, the lowest and the highest.
    pub(crate) fn show(self, digits: usize) -> String {
        let [lowest, median, highest] =
            [self.lowest, self.median, self.highest].map(|value| grouped(value, digits));
        if lowest == highest {
            median
        } else {
            format!("{median} ({lowest}–{highest})")
        }
    }
}

/// A number with its thousands apart.
pub(crate) fn grouped(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, format!(".{fraction}")),
        None => (text.as_str(), String::new()),
    };
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        let left = whole.len() - at;
        if at > 0 && left % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + &fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(grouped(1_234_567.891, 2), "1,234,567.89");
        assert_eq!(grouped(123.0, 0), "123");
    }

    #[test]
    fn the_median_is_shown_with_what_it_lies_between() {
        assert_eq!(Spread::of(Vec::new()), None);
        let three = Spread::of(vec![3.0, 1.0, 1.5]).unwrap();
        assert_eq!(three.show(1), "1.5 (1.0–3.0)");
        let two = Spread::of(vec![1.001, 1.003]).unwrap();
        assert_eq!(two.show(2), "1.00");
        assert_eq!(two.show(3), "1.002 (1.001–1.003)");
    }
}
