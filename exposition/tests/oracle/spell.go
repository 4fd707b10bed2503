package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
)

func spell(lset labels.Labels) string {
	var pairs []string
	lset.Range(func(l labels.Label) {
		pairs = append(pairs, quote(l.Name)+"="+quote(l.Value))
	})
	slices.Sort(pairs)
	return "{" + strings.Join(pairs, ",") + "}"
}

func stamp(ts *int64) string {
	if ts == nil {
		return ""
	}
	return fmt.Sprintf(" @%d", *ts)
}

func integerHistogram(h *histogram.Histogram) string {
	return fmt.Sprintf("integer schema=%d threshold=%016x zero=%d count=%d sum=%016x positive=%s%v negative=%s%v gauge=%t%s",
		h.Schema, math.Float64bits(h.ZeroThreshold), h.ZeroCount, h.Count, math.Float64bits(h.Sum),
		spans(h.PositiveSpans), h.PositiveBuckets, spans(h.NegativeSpans), h.NegativeBuckets,
		h.CounterResetHint == histogram.GaugeType, custom(h.Schema, h.CustomValues))
}

func floatHistogram(h *histogram.FloatHistogram) string {
	return fmt.Sprintf("float schema=%d threshold=%016x zero=%016x count=%016x sum=%016x positive=%s%s negative=%s%s gauge=%t%s",
		h.Schema, math.Float64bits(h.ZeroThreshold), math.Float64bits(h.ZeroCount), math.Float64bits(h.Count),
		math.Float64bits(h.Sum), spans(h.PositiveSpans), bits(h.PositiveBuckets), spans(h.NegativeSpans),
		bits(h.NegativeBuckets), h.CounterResetHint == histogram.GaugeType, custom(h.Schema, h.CustomValues))
}

// custom spells the bounds of custom buckets, which other histograms do not have.
func custom(schema int32, values []float64) string {
	if !histogram.IsCustomBucketsSchema(schema) && len(values) == 0 {
		return ""
	}
	return " custom=" + bits(values)
}

func spans(spans []histogram.Span) string {
	var spelled []string
	for _, s := range spans {
		spelled = append(spelled, fmt.Sprintf("%d:%d", s.Offset, s.Length))
	}
	return "<" + strings.Join(spelled, " ") + ">"
}

func bits(values []float64) string {
	var spelled []string
	for _, v := range values {
		spelled = append(spelled, fmt.Sprintf("%016x", math.Float64bits(v)))
	}
	return "[" + strings.Join(spelled, " ") + "]"
}

// quote writes a text in ASCII; one that is not UTF-8 has no spelling that matters.
func quote(s string) string {
	if !utf8.ValidString(s) || strings.ContainsRune(s, utf8.RuneError) {
		return "<not UTF-8>"
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range []byte(s) {
		if c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
			fmt.Fprintf(&b, "\\x%02x", c)
		} else {
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
