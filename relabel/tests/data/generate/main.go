// Writes the tables that promferry-relabel is compared with: what Go's regexp package and Prometheus 3.16's
// relabelling make of the inputs below. One JSON object a line.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand"
	"os"
	"strings"
	"unicode"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
)

type replaceCase struct {
	Regex    string  `json:"regex"`
	Input    string  `json:"input"`
	Template string  `json:"template"`
	Output   *string `json:"output"` // null: no match
	Error    string  `json:"error,omitempty"`
	All      *string `json:"all"` // ReplaceAllString, what labelmap does
}

func one(re, in, tpl string) replaceCase {
	c := replaceCase{Regex: re, Input: in, Template: tpl}
	r, err := relabel.NewRegexp(re)
	if err != nil {
		c.Error = err.Error()
		return c
	}
	if m := r.FindStringSubmatchIndex(in); m != nil {
		s := string(r.ExpandString(nil, tpl, in, m))
		c.Output = &s
		a := r.ReplaceAllString(in, tpl)
		c.All = &a
	}
	return c
}

var pieces = []string{
	"a", "b", "é", "K", "_", "-", "1", "٣", " ", "\n", ".", "*", "+", "?", "|", "(", ")", "(?:", "(?P<n>", "(?<m>", "(?i)", "(?i:", "(?-s)",
	"(?m)", "(?U)", "(?s-i:", "^", "$", `\A`, `\z`, `\b`, `\B`, `\d`, `\D`, `\w`, `\W`, `\s`, `\S`, `\pL`, `\PN`, `\p{Greek}`, `\p{^Lu}`, `\Q`, `\E`, `\.`,
	`\x41`, `\x{e9}`, `\101`, `\0`, `\n`, `\v`, `\a`, "[", "]", "[^", "[a-c]", `[\w-]`, "[[:alpha:]]", "[[:^digit:]_]", "[a&&b]", "[^a]", "-", "&&", "~~", "{", "}",
	"{2}", "{1,}", "{0,3}", "{,2}", "{01}", "{0}", "{1001}", "{40}", "<", ">", ":", ";", "#", ".*", ".+", "(.*)", "(.+)", "x*?",
}
var alphabet = []string{"a", "b", "c", "A", "B", "é", "É", "K", "k", "K", "ſ", "s", "_", "-", "1", "2", "٣", " ", "\n", "\v", "\x00", ".", "&", "~", "{", "}", "[", "]", ":", ";", "<", ">", "#", "x", "α", "aa", "ab", "E", "Q", "(", ")", "\u00a0", "^", "$", "|", ","}
var templates = []string{"$0", "$1", "${1}-${2}", "$1x", "$$1", "$n", "${m}", "${n}${m}$2", "$1é", "${01}", "$", "${", "${}", "[$1|$2|$3]", "x$-", "${n-m}", "$10", "${ 1}", "$_", "a$b", "$100000000", "$1000000000", "${1}٣", "$1٣"}

func gen(r *rand.Rand, from []string, n int) string {
	var b strings.Builder
	for range r.Intn(n + 1) {
		b.WriteString(from[r.Intn(len(from))])
	}
	return b.String()
}

func main() {
	w := bufio.NewWriter(os.Stdout)
	defer w.Flush()
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	switch os.Args[1] {
	case "regex":
		r := rand.New(rand.NewSource(316))
		var n int
		fmt.Sscan(os.Args[2], &n)
		kept, wrong := 0, 0
		for kept < n {
			c := one(gen(r, pieces, 6), gen(r, alphabet, 4), templates[r.Intn(len(templates))])
			if c.Error != "" {
				if wrong > kept/4 {
					continue
				}
				wrong++
			} else if c.Output == nil && r.Intn(4) > 0 {
				continue
			}
			kept++
			e.Encode(c)
		}
	case "case":
		// Every character whose case Go maps, in one line each way.
		var from, lower, upper strings.Builder
		for c := rune(0x80); c <= unicode.MaxRune; c++ {
			if unicode.ToLower(c) != c || unicode.ToUpper(c) != c || c == 'ß' || c == 'ŉ' || c == 'ﬁ' {
				from.WriteRune(c)
				lower.WriteRune(unicode.ToLower(c))
				upper.WriteRune(unicode.ToUpper(c))
			}
		}
		e.Encode(map[string]string{"from": from.String(), "lower": lower.String(), "upper": upper.String()})
	case "relabel":
		s := bufio.NewScanner(os.Stdin)
		for s.Scan() {
			var c struct {
				Note   string            `json:"note,omitempty"`
				Legacy bool              `json:"legacy,omitempty"`
				Labels map[string]string `json:"labels"`
				Rules  []json.RawMessage `json:"rules"`
				Kept   *bool             `json:"kept,omitempty"`
				Output map[string]string `json:"output,omitempty"`
				Error  string            `json:"error,omitempty"`
			}
			if err := json.Unmarshal(s.Bytes(), &c); err != nil {
				panic(err)
			}
			scheme := model.UTF8Validation
			if c.Legacy {
				scheme = model.LegacyValidation
			}
			c.Kept, c.Output, c.Error = nil, nil, ""
			var cfgs []*relabel.Config
			for _, raw := range c.Rules {
				cfg := relabel.DefaultRelabelConfig
				if err := json.Unmarshal(raw, &cfg); err != nil {
					c.Error = err.Error()
					break
				}
				if err := cfg.Validate(scheme); err != nil {
					c.Error = err.Error()
					break
				}
				cfgs = append(cfgs, &cfg)
			}
			if c.Error == "" {
				lb := labels.NewBuilder(labels.FromMap(c.Labels))
				kept := relabel.ProcessBuilder(lb, cfgs...)
				c.Kept = &kept
				if kept {
					c.Output = lb.Labels().Map()
				}
			}
			e.Encode(c)
		}
	}
}
