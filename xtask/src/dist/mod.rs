//! What a distribution gets: units, and later packages.

#[cfg(test)]
mod units;
