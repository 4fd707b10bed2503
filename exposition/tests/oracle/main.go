// The oracle: what Prometheus' own parsers say of pages.
//
// It reads cases from standard input, one JSON object a line, and writes one verdict a line to standard
// output: what the page means, entry by entry in a canonical spelling, or that it is refused. A case marked as
// a digest gets a hash of those lines instead.
package main

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

type testCase struct {
	Name    string `json:"name"`
	Format  string `json:"format"`
	Native  bool   `json:"native"`
	Classic bool   `json:"classic"`
	Start   bool   `json:"start"`
	Digest  bool   `json:"digest"`
	Page    string `json:"page"` // Hexadecimal.
}

type verdict struct {
	Name   string   `json:"name"`
	Lines  []string `json:"lines,omitempty"`
	Digest string   `json:"digest,omitempty"`
}

var contentTypes = map[string]string{
	"text":        "text/plain",
	"openmetrics": "application/openmetrics-text",
	"protobuf":    "application/vnd.google.protobuf",
}

func main() {
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return
		}
		var c testCase
		if err := json.Unmarshal(line, &c); err != nil {
			panic(err)
		}
		page, err := hex.DecodeString(c.Page)
		if err != nil {
			panic(err)
		}
		v := verdict{Name: c.Name, Lines: judgeInTime(c, page)}
		if c.Digest {
			v = verdict{Name: c.Name, Digest: digest(v.Lines)}
		}
		written, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		fmt.Fprintln(out, string(written))
	}
}

func digest(lines []string) string {
	if len(lines) == 1 {
		if lines[0] == "refused" || lines[0] == "hangs" {
			return lines[0]
		}
	}
	h := fnv.New64a()
	for _, line := range lines {
		io.WriteString(h, line+"\n")
	}
	return fmt.Sprintf("%016x", h.Sum64())
}

// judgeInTime gives up on pages over which Prometheus does not come to an end: it looks for start timestamps
// beyond exemplars that it cannot read for ever.
func judgeInTime(c testCase, page []byte) []string {
	judged := make(chan []string, 1)
	go func() { judged <- judge(c, page) }()
	select {
	case lines := <-judged:
		return lines
	case <-time.After(3 * time.Second):
		return []string{"hangs"}
	}
}

func judge(c testCase, page []byte) (lines []string) {
	defer func() {
		if recover() != nil { // A scrape that panics brings nothing home either.
			lines = []string{"refused"}
		}
	}()
	p, err := textparse.New(page, contentTypes[c.Format], labels.NewSymbolTable(), textparse.ParserOptions{
		IgnoreNativeHistograms:                  !c.Native,
		KeepClassicOnClassicAndNativeHistograms: c.Classic,
		OpenMetricsSkipSTSeries:                 c.Start,
	})
	if p == nil {
		panic(err)
	}
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return append(lines, "end")
		}
		if err != nil {
			return []string{"refused"}
		}
		switch entry {
		case textparse.EntryHelp:
			name, help := p.Help()
			lines = append(lines, fmt.Sprintf("help %s %s", quote(string(name)), quote(string(help))))
		case textparse.EntryType:
			name, t := p.Type()
			lines = append(lines, fmt.Sprintf("type %s %s", quote(string(name)), t))
		case textparse.EntryUnit:
			name, unit := p.Unit()
			lines = append(lines, fmt.Sprintf("unit %s %s", quote(string(name)), quote(string(unit))))
		case textparse.EntryComment:
			lines = append(lines, "comment "+quote(string(p.Comment())))
		case textparse.EntrySeries:
			_, ts, value := p.Series()
			lset, ok := labelSet(p)
			if !ok {
				return []string{"refused"}
			}
			lines = append(lines, fmt.Sprintf("series %s %016x%s", lset, math.Float64bits(value), stamp(ts)))
			lines = append(lines, details(c, p)...)
		case textparse.EntryHistogram:
			_, ts, h, fh := p.Histogram()
			lset, ok := labelSet(p)
			if !ok {
				return []string{"refused"}
			}
			value := ""
			if h != nil {
				value = integerHistogram(h)
			} else {
				value = floatHistogram(fh)
			}
			lines = append(lines, fmt.Sprintf("histogram %s %s%s", lset, value, stamp(ts)))
			lines = append(lines, details(c, p)...)
		}
	}
}

func details(c testCase, p textparse.Parser) (lines []string) {
	if c.Start {
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

// labelSet says no where a scrape fails on names or values that are not UTF-8.
func labelSet(p textparse.Parser) (string, bool) {
	var lset labels.Labels
	p.Labels(&lset)
	valid := true
	lset.Range(func(l labels.Label) {
		valid = valid && utf8.ValidString(l.Name) && utf8.ValidString(l.Value)
	})
	return spell(lset), valid
}

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
	return fmt.Sprintf("integer schema=%d threshold=%016x zero=%d count=%d sum=%016x positive=%s%v negative=%s%v gauge=%t",
		h.Schema, math.Float64bits(h.ZeroThreshold), h.ZeroCount, h.Count, math.Float64bits(h.Sum),
		spans(h.PositiveSpans), h.PositiveBuckets, spans(h.NegativeSpans), h.NegativeBuckets,
		h.CounterResetHint == histogram.GaugeType)
}

func floatHistogram(h *histogram.FloatHistogram) string {
	return fmt.Sprintf("float schema=%d threshold=%016x zero=%016x count=%016x sum=%016x positive=%s%s negative=%s%s gauge=%t",
		h.Schema, math.Float64bits(h.ZeroThreshold), math.Float64bits(h.ZeroCount), math.Float64bits(h.Count),
		math.Float64bits(h.Sum), spans(h.PositiveSpans), bits(h.PositiveBuckets), spans(h.NegativeSpans),
		bits(h.NegativeBuckets), h.CounterResetHint == histogram.GaugeType)
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
