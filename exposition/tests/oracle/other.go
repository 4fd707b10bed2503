package main

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

// negotiate says which of the offers a target answers with that gets this Accept header.
func negotiate(q question, accept string) []string {
	model.NameEscapingScheme = scheme(q)
	var offers []expfmt.Format
	for _, offer := range q.Offers {
		offers = append(offers, expfmt.Format(offer))
	}
	header := http.Header{"Accept": {accept}}
	return []string{string(expfmt.NegotiateAccept(header, offers...))}
}

// contentType says which parser reads a page with this Content-Type.
func contentType(q question, header string) ([]string, string) {
	opts := q.Options.parser()
	opts.FallbackContentType = q.Fallback
	p, err := textparse.New(nil, header, labels.NewSymbolTable(), opts)
	why := ""
	if err != nil {
		why = err.Error()
	}
	switch p.(type) {
	case nil:
		return []string{"refused"}, why
	case *textparse.PromParser:
		return []string{"text"}, why
	case *textparse.OpenMetricsParser:
		return []string{"openmetrics"}, why
	case *textparse.ProtobufParser:
		return []string{"protobuf"}, why
	}
	if name := fmt.Sprintf("%T", p); name != "*textparse.openMetrics2Parser" { // Which is not exported.
		panic("a parser that the oracle does not know: " + name)
	}
	return []string{"openmetrics2"}, why
}

func escape(q question, name string) []string {
	return []string{quote(model.EscapeName(name, scheme(q)))}
}

func unescape(q question, name string) []string {
	return []string{quote(model.UnescapeName(name, scheme(q)))}
}

func scheme(q question) model.EscapingScheme {
	scheme, err := model.ToEscapingScheme(q.Scheme)
	must(err)
	return scheme
}

// float says what number Go reads in a text, and how Go and OpenMetrics write it.
func float(text string) []string {
	value, err := strconv.ParseFloat(text, 64)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return []string{"range"}
	case err != nil:
		return []string{"syntax"}
	}
	return []string{
		fmt.Sprintf("%016x", math.Float64bits(value)),
		strconv.FormatFloat(value, 'g', -1, 64),
		labels.FormatOpenMetricsFloat(value),
	}
}
