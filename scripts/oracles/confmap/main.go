// What the OpenTelemetry Collector's confmap makes of placeholders and dollar signs: one JSON object a line, for
// config/tests/otel_expand.rs. "in" is a string of a configuration; "string" is what a key of type string then has,
// "any" what a key of any type has, "error" what the collector says in their place.
//
//	go run . >../../../config/tests/data/otel/confmap.jsonl
package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/provider/envprovider"
	"go.opentelemetry.io/collector/confmap/provider/fileprovider"
	"go.opentelemetry.io/collector/confmap/provider/yamlprovider"
)

// The environment of every case; the test has the same.
var environment = map[string]string{
	"X": "x", "EMPTY": "", "T": "true", "N": "0123", "FLOAT": "1.50", "NULL": "null", "NAME": "X",
	"NEST": "${env:X}", "NESTED_TRUE": "${env:T}", "TEXT_OF_NEST": "a${env:X}",
	"DOL": "a$b", "DOL2": "a$$b", "DOL_BRACE": "$${env:X}",
	"MAP": "{a: 1}", "MAP_OF_NEST": "{a: \"${env:X}\", b: \"$$1\"}", "LIST": "[a, b]", "CLASS": "[abc]",
	"QUOTED": "\"q\"", "COLON": "a: b", "BAD": "[", "LINES": "a\nb\n", "SPACES": " x ",
}

var cases = []string{
	"$1", "$X", "$", "$$", "$$1", "$$$", "$$$$1", "$${1}", "${1}", "${X}", "${env:X}", "${env:X}y", "a${X}b${env:X}",
	"${env:UNSET}", "a${env:UNSET}b", "${env:UNSET:-d}", "${env:EMPTY}", "${env:EMPTY:-d}", "${UNSET:-d}",
	"${env:UNSET:-}", "${env:UNSET:-7}", "${env:UNSET:-a:-b}", "$${env:X}", "$$${env:X}", "$$$${env:X}",
	"$${env:X} ${env:X}", "${env:X} $${env:X}", "$${a} ${env:X}", "${env:T}", "${env:N}", "${env:FLOAT}", "v${env:N}",
	"${env:N}${env:N}", "${env:NEST}", "${env:NESTED_TRUE}", "${env:TEXT_OF_NEST}", "${env:DOL}", "${env:DOL2}",
	"${env:DOL_BRACE}", "z${env:DOL2}", "${env:MAP}", "z${env:MAP}", "${env:MAP_OF_NEST}", "${env:LIST}",
	"${env:CLASS}", "${env:${env:NAME}}", "${env:${NAME}}", "${env:UNSET:-${env:X}}", "${env:QUOTED}", "${env:NULL}",
	"${env:COLON}", "${env:BAD}", "${env:LINES}", "${env:SPACES}", "${file:DIR/text}", "a${file:DIR/text}",
	"${file:DIR/map.yaml}", "${file:DIR/missing}", "${yaml:5}", "${yaml:{a: ${env:X}}}", "${nope:X}", "${env:a-b}",
	"${env:X", "env:X}", "${}", "$${1}:$${2}", "${env:}", "${ env:X}", "${env:X }", "$(X)", "{X}", "}${env:X}",
	"a}b${env:X}", "${X}${Y:-z}", "${env:DOL}${env:X}", "${env:${env:DOL}}", "(.+)\\.${env:X}$", "^$",
}

type answer struct {
	In     string  `json:"in"`
	String *string `json:"string,omitempty"`
	Any    *any    `json:"any,omitempty"`
	Error  string  `json:"error,omitempty"`
}

func main() {
	for name, value := range environment {
		os.Setenv(name, value)
	}
	directory, err := os.MkdirTemp("", "confmap")
	check(err)
	defer os.RemoveAll(directory)
	check(os.WriteFile(filepath.Join(directory, "text"), []byte("from file\n"), 0o600))
	check(os.WriteFile(filepath.Join(directory, "map.yaml"), []byte("a: ${env:X}\n"), 0o600))

	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	for _, in := range cases {
		given := strings.ReplaceAll(in, "DIR", directory)
		answer := answer{In: in}
		var asString struct {
			V string `mapstructure:"v"`
		}
		var asAny struct {
			V any `mapstructure:"v"`
		}
		stringError, anyError := read(given, &asString), read(given, &asAny)
		if stringError == nil {
			answer.String = &asString.V
		}
		if anyError == nil {
			answer.Any = &asAny.V
		} else {
			answer.Error = strings.ReplaceAll(anyError.Error(), directory, "DIR")
		}
		check(out.Encode(answer))
	}
}

func read(value string, into any) error {
	text, err := json.Marshal(map[string]string{"v": value})
	check(err)
	resolver, err := confmap.NewResolver(confmap.ResolverSettings{
		URIs: []string{"yaml:" + string(text)},
		ProviderFactories: []confmap.ProviderFactory{
			envprovider.NewFactory(), yamlprovider.NewFactory(), fileprovider.NewFactory(),
		},
		DefaultScheme: "env",
	})
	check(err)
	resolved, err := resolver.Resolve(context.Background())
	if err != nil {
		return err
	}
	return resolved.Unmarshal(into)
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
