//! Scrape loops with a positional series cache, limits, staleness and report series
