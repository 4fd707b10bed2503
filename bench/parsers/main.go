// The rivals of the exposition crate: Prometheus' textparse and VictoriaMetrics' parser of the text format, over the
// pages that are named on the command line, each as FORMAT:PATH with text, openmetrics or protobuf as its format.
//
// It reads commands from standard input, "PARSER PAGE COUNT" with the page's place on the command line from 0, walks the
// page COUNT times, and answers each with a line: the process' CPU time in nanoseconds (all threads, so that garbage
// collection is in it), samples of one walk, and a sum over what was touched. A native histogram is one sample.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	victoria "github.com/VictoriaMetrics/VictoriaMetrics/lib/protoparser/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

var contentTypes = map[string]string{
	"text":        "text/plain; version=0.0.4",
	"openmetrics": "application/openmetrics-text; version=1.0.0",
	"protobuf":    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
}

type page struct {
	contentType string
	bytes       []byte
	text        string
}

// Remembers label names and values between pages, as the scrape loop's does.
var symbols = labels.NewSymbolTable()

// Prometheus' own: what its scrape loop calls for each sample, with the labels of a series that it does not know.
func walkTextparse(p page, withLabels, touch bool) (samples, sum int, _ error) {
	parser, err := textparse.New(p.bytes, p.contentType, symbols, textparse.ParserOptions{})
	if parser == nil {
		return 0, 0, err
	}
	var split labels.Labels
	for {
		entry, err := parser.Next()
		if errors.Is(err, io.EOF) {
			return samples, sum, nil
		}
		if err != nil {
			return 0, 0, err
		}
		switch entry {
		case textparse.EntrySeries:
			series, _, _ := parser.Series()
			sum += len(series)
		case textparse.EntryHistogram:
			series, _, _, _ := parser.Histogram()
			sum += len(series)
		default:
			continue
		}
		samples++
		if withLabels {
			parser.Labels(&split)
		}
		if touch {
			split.Range(func(label labels.Label) { sum += len(label.Name) + int(lastByte(label.Value)) })
		}
	}
}

// VictoriaMetrics' own: rows of tags, whose names it does not judge. Lines that it passes over are an error here.
func walkVictoria(p page, rows *victoria.Rows, metadata *victoria.MetadataRows, touch bool) (samples, sum int, _ error) {
	var refused string
	refuse := func(line string) { refused = line }
	if metadata == nil {
		rows.UnmarshalWithErrLogger(p.text, refuse)
	} else {
		*rows, *metadata = victoria.UnmarshalWithMetadata(*rows, *metadata, p.text, refuse)
		sum += len(metadata.Rows)
	}
	if refused != "" {
		return 0, 0, errors.New(refused)
	}
	if touch {
		for i := range rows.Rows {
			for j := range rows.Rows[i].Tags {
				tag := &rows.Rows[i].Tags[j]
				sum += len(tag.Key) + int(lastByte(tag.Value))
			}
		}
	}
	return len(rows.Rows), sum, nil
}

func lastByte(text string) byte {
	if text == "" {
		return 0
	}
	return text[len(text)-1]
}

func cpu() int64 {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}

func run() error {
	var pages []page
	for _, argument := range os.Args[1:] {
		format, path, _ := strings.Cut(argument, ":")
		bytes, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		// Without room behind it: the parser appends a line's end where one is missing.
		pages = append(pages, page{contentTypes[format], bytes[:len(bytes):len(bytes)], string(bytes)})
	}
	var rows victoria.Rows
	var metadata victoria.MetadataRows
	walks := map[string]func(page) (int, int, error){
		"textparse":                func(p page) (int, int, error) { return walkTextparse(p, false, false) },
		"textparse+labels":         func(p page) (int, int, error) { return walkTextparse(p, true, false) },
		"textparse+labels+touched": func(p page) (int, int, error) { return walkTextparse(p, true, true) },
		"victoriametrics":          func(p page) (int, int, error) { return walkVictoria(p, &rows, nil, false) },
		"victoriametrics+touched":  func(p page) (int, int, error) { return walkVictoria(p, &rows, nil, true) },
		"victoriametrics+metadata": func(p page) (int, int, error) { return walkVictoria(p, &rows, &metadata, false) },
	}
	commands := bufio.NewScanner(os.Stdin)
	for commands.Scan() {
		var name string
		var at, count int
		if _, err := fmt.Sscan(commands.Text(), &name, &at, &count); err != nil {
			return err
		}
		walk := walks[name]
		if walk == nil || at >= len(pages) {
			return fmt.Errorf("no such parser or page: %s", commands.Text())
		}
		start := cpu()
		var samples, sum int
		for range count {
			var err error
			if samples, sum, err = walk(pages[at]); err != nil {
				return fmt.Errorf("%s: %w", commands.Text(), err)
			}
		}
		fmt.Println(cpu()-start, samples, sum)
	}
	return commands.Err()
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "parsers:", err)
		os.Exit(1)
	}
}
