//! The vocabulary of a metrics pipeline: labels, samples, histograms, target groups and the traits between its parts
