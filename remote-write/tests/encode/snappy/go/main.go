// Decodes snappy blocks with golang/snappy, the decoder of most receivers: standard input holds one after the
// other, each behind its length (32 bits, little-endian), and so does standard output hold what is in them.
package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/golang/snappy"
)

func main() {
	in, out := bufio.NewReader(os.Stdin), bufio.NewWriter(os.Stdout)
	for n := 0; ; n++ {
		var length uint32
		err := binary.Read(in, binary.LittleEndian, &length)
		if errors.Is(err, io.EOF) {
			break
		}
		block := make([]byte, length)
		if _, err := io.ReadFull(in, block); err != nil {
			os.Exit(2)
		}
		decoded, err := snappy.Decode(nil, block)
		if err != nil {
			// "go run" ends with 1 however its program ends: what is wrong has to be said.
			fmt.Fprintf(os.Stderr, "undecodable: block %d: %v\n", n, err)
			os.Exit(1)
		}
		binary.Write(out, binary.LittleEndian, uint32(len(decoded)))
		out.Write(decoded)
	}
	if out.Flush() != nil {
		os.Exit(2)
	}
}
