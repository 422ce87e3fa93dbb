//! From YAML text to a plan: every problem at once, each with its place and what would work.

pub mod plan;
