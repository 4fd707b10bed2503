// Decodes a snappy block from standard input to standard output.
package main

import (
	"fmt"
	"io"
	"os"

	"github.com/golang/snappy"
)

func main() {
	body, err := io.ReadAll(os.Stdin)
	if err != nil {
		os.Exit(2)
	}
	decoded, err := snappy.Decode(nil, body)
	if err != nil {
		// "go run" ends with 1 however its program ends: what is wrong has to be said.
		fmt.Fprintln(os.Stderr, "undecodable:", err)
		os.Exit(1)
	}
	if _, err := os.Stdout.Write(decoded); err != nil {
		os.Exit(2)
	}
}
