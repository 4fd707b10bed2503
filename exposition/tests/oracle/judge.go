package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

var mediaTypes = map[string]string{
	"text":         "text/plain",
	"openmetrics":  "application/openmetrics-text",
	"openmetrics2": "application/openmetrics-text; version=2.0.0",
	"protobuf":     "application/vnd.google.protobuf",
}

var errNotUTF8 = errors.New("a name or value is not UTF-8, on which a scrape fails")

// judge says what the page means, entry by entry, in the order in which the scrape loop asks.
func judge(q question, page []byte) (lines []string, why string) {
	defer func() {
		if panicked := recover(); panicked != nil { // Which is no judgement of the page.
			lines, why = []string{"panics"}, fmt.Sprint(panicked)
		}
	}()
	p, err := textparse.New(page, mediaTypes[q.Format], labels.NewSymbolTable(), q.Options.parser())
	if p == nil {
		panic(err) // Of the oracle: it names the formats.
	}
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return append(lines, "end"), ""
		}
		if err == nil {
			lines, err = appendEntry(lines, q, p, entry)
		}
		if err != nil {
			return []string{"refused"}, err.Error()
		}
	}
}

func (o options) parser() textparse.ParserOptions {
	return textparse.ParserOptions{
		EnableTypeAndUnitLabels:                 o.TypeUnit,
		IgnoreNativeHistograms:                  !o.Native,
		ConvertClassicHistogramsToNHCB:          o.NHCB,
		KeepClassicOnClassicAndNativeHistograms: o.Classic,
		OpenMetricsSkipSTSeries:                 o.Start,
		EnableOpenMetrics2:                      o.OM2,
	}
}

func appendEntry(lines []string, q question, p textparse.Parser, entry textparse.Entry) ([]string, error) {
	switch entry {
	case textparse.EntryHelp:
		name, help := p.Help()
		return append(lines, fmt.Sprintf("help %s %s", quote(string(name)), quote(string(help)))), nil
	case textparse.EntryType:
		name, t := p.Type()
		return append(lines, fmt.Sprintf("type %s %s", quote(string(name)), t)), nil
	case textparse.EntryUnit:
		name, unit := p.Unit()
		return append(lines, fmt.Sprintf("unit %s %s", quote(string(name)), quote(string(unit)))), nil
	case textparse.EntryComment:
		return append(lines, "comment "+quote(string(p.Comment()))), nil
	case textparse.EntrySeries:
		_, ts, value := p.Series()
		lset, err := labelSet(p)
		if err != nil {
			return nil, err
		}
		lines = append(lines, fmt.Sprintf("series %s %016x%s", lset, math.Float64bits(value), stamp(ts)))
		return append(lines, details(q, p)...), nil
	case textparse.EntryHistogram:
		_, ts, h, fh := p.Histogram()
		lset, err := labelSet(p)
		if err != nil {
			return nil, err
		}
		value := ""
		if h != nil {
			value = integerHistogram(h)
		} else {
			value = floatHistogram(fh)
		}
		lines = append(lines, fmt.Sprintf("histogram %s %s%s", lset, value, stamp(ts)))
		return append(lines, details(q, p)...), nil
	}
	panic(fmt.Sprint("an entry that the oracle does not know: ", entry))
}

func details(q question, p textparse.Parser) (lines []string) {
	if q.Options.Start {
		if start := p.StartTimestamp(); start != 0 {
			lines = append(lines, fmt.Sprintf("start %d", start))
		}
	}
	var e exemplar.Exemplar
	for p.Exemplar(&e) {
		ts := (*int64)(nil)
		if e.HasTs {
			ts = &e.Ts
		}
		lines = append(lines, fmt.Sprintf("exemplar %s %016x%s", spell(e.Labels), math.Float64bits(e.Value), stamp(ts)))
		e = exemplar.Exemplar{}
	}
	return lines
}

// labelSet is an error where a scrape fails on names or values that are not UTF-8.
func labelSet(p textparse.Parser) (string, error) {
	var lset labels.Labels
	p.Labels(&lset)
	valid := true
	lset.Range(func(l labels.Label) {
		valid = valid && utf8.ValidString(l.Name) && utf8.ValidString(l.Value)
	})
	if !valid {
		return "", errNotUTF8
	}
	return spell(lset), nil
}
