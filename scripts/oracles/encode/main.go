// Prometheus' half of the comparison of what encoding costs: the samples of a file become compressed requests
// through Prometheus' own functions, as a shard of its remote-write queue calls them.
//
// It reads commands from standard input, "v1 COUNT", "v2 COUNT" or "v2+metadata COUNT", encodes COUNT requests, and
// answers each with a line: the process' CPU time in nanoseconds (all threads, so that garbage collection is in it)
// and the bytes of one request before and after compression. 2.0 has metadata on its series with the feature
// metadata-wal-records, and none without.
package main

import (
	"bufio"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unique"
	_ "unsafe" // for go:linkname

	"github.com/gogo/protobuf/proto"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	_ "github.com/prometheus/prometheus/storage/remote"
	"github.com/prometheus/prometheus/util/compression"
)

//go:linkname buildWriteRequest github.com/prometheus/prometheus/storage/remote.buildWriteRequest
func buildWriteRequest(logger *slog.Logger, timeSeries []prompb.TimeSeries, metadata []prompb.MetricMetadata, pBuf *proto.Buffer, filter func(prompb.TimeSeries) bool, buf compression.EncodeBuffer, compr compression.Type) (_ []byte, highest, lowest int64, _ error)

//go:linkname buildV2WriteRequest github.com/prometheus/prometheus/storage/remote.buildV2WriteRequest
func buildV2WriteRequest(logger *slog.Logger, samples []writev2.TimeSeries, labels []string, pBuf *[]byte, filter func(writev2.TimeSeries) bool, buf compression.EncodeBuffer, compr compression.Type) (compressed []byte, req *writev2.Request, highest, lowest int64, _ error)

// What Prometheus' queue holds of a sample (timeSeries in storage/remote/queue_manager.go).
type sample struct {
	labels    labels.Labels
	metadata  unique.Handle[metadata.Metadata]
	value     float64
	timestamp int64
}

// Labels and values of one sample a line: name=value pairs, the family's type, unit and help, and the value,
// separated by tabs.
func read(path string, timestamp int64) ([]sample, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var samples []sample
	for line := range strings.Lines(string(text)) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		last := len(fields) - 1
		family := fields[last-3 : last]
		var pairs []string
		for _, pair := range fields[:last-3] {
			name, value, _ := strings.Cut(pair, "=")
			pairs = append(pairs, name, value)
		}
		value, err := strconv.ParseFloat(fields[last], 64)
		if err != nil {
			return nil, err
		}
		known := unique.Make(metadata.Metadata{Type: model.MetricType(family[0]), Unit: family[1], Help: family[2]})
		samples = append(samples, sample{labels.FromStrings(pairs...), known, value, timestamp})
	}
	return samples, nil
}

// The state of a shard (runShard), and its two ways to a request (populateTimeSeries, populateV2TimeSeries).
type shard struct {
	v1      []prompb.TimeSeries
	v2      []writev2.TimeSeries
	symbols writev2.SymbolsTable
	buffer  *proto.Buffer
	raw     []byte
	encode  compression.EncodeBuffer
}

func newShard(size int) *shard {
	s := &shard{
		v1:      make([]prompb.TimeSeries, size),
		v2:      make([]writev2.TimeSeries, size),
		symbols: writev2.NewSymbolTable(),
		buffer:  proto.NewBuffer(nil),
		encode:  compression.NewSyncEncodeBuffer(),
	}
	for i := range size {
		s.v1[i].Samples = []prompb.Sample{{}}
		s.v2[i].Samples = []writev2.Sample{{}}
	}
	return s
}

func (s *shard) requestV1(samples []sample) (int, int, error) {
	for i, d := range samples {
		s.v1[i].Samples = s.v1[i].Samples[:0]
		s.v1[i].Labels = prompb.FromLabels(d.labels, s.v1[i].Labels)
		s.v1[i].Samples = append(s.v1[i].Samples, prompb.Sample{Value: d.value, Timestamp: d.timestamp})
	}
	body, _, _, err := buildWriteRequest(slog.Default(), s.v1[:len(samples)], nil, s.buffer, nil, s.encode, compression.Snappy)
	return len(s.buffer.Bytes()), len(body), err
}

func (s *shard) requestV2(samples []sample, withMetadata bool) (int, int, error) {
	for i, d := range samples {
		s.v2[i].Samples = s.v2[i].Samples[:0]
		s.v2[i].Metadata = writev2.Metadata{}
		if withMetadata {
			known := d.metadata.Value()
			s.v2[i].Metadata.Type = writev2.FromMetadataType(known.Type)
			s.v2[i].Metadata.HelpRef = s.symbols.Symbolize(known.Help)
			s.v2[i].Metadata.UnitRef = s.symbols.Symbolize(known.Unit)
		}
		s.v2[i].LabelsRefs = s.symbols.SymbolizeLabels(d.labels, s.v2[i].LabelsRefs)
		s.v2[i].Samples = append(s.v2[i].Samples, writev2.Sample{Value: d.value, Timestamp: d.timestamp})
	}
	body, _, _, _, err := buildV2WriteRequest(slog.Default(), s.v2[:len(samples)], s.symbols.Symbols(), &s.raw, nil, s.encode, compression.Snappy)
	s.symbols.Reset()
	return len(s.raw), len(body), err
}

func cpu() int64 {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}

func run() error {
	if len(os.Args) != 3 {
		return fmt.Errorf("usage: encode-cost FILE TIMESTAMP_MS")
	}
	timestamp, err := strconv.ParseInt(os.Args[2], 10, 64)
	if err != nil {
		return err
	}
	samples, err := read(os.Args[1], timestamp)
	if err != nil {
		return err
	}
	s := newShard(len(samples))
	commands := bufio.NewScanner(os.Stdin)
	for commands.Scan() {
		var version string
		var count int
		if _, err := fmt.Sscan(commands.Text(), &version, &count); err != nil {
			return err
		}
		request := s.requestV1
		if version != "v1" {
			request = func(samples []sample) (int, int, error) {
				return s.requestV2(samples, version == "v2+metadata")
			}
		}
		start, rawLen, bodyLen := cpu(), 0, 0
		for range count {
			if rawLen, bodyLen, err = request(samples); err != nil {
				return err
			}
		}
		fmt.Println(cpu()-start, rawLen, bodyLen)
	}
	return commands.Err()
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
