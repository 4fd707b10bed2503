// The oracle: what Prometheus' own code says of pages, headers, names and numbers.
//
// It reads questions from standard input, one JSON object a line, and writes one verdict a line to standard
// output, in the same order: the answer in a canonical spelling, line by line, or that the page is refused.
// A question marked as a digest gets a hash of those lines instead.
package main

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"os/exec"
	"time"
)

// question is one line of the input. Input is hexadecimal, as pages need not be UTF-8.
type question struct {
	Name     string   `json:"name"`
	Kind     string   `json:"kind"` // page, negotiate, content-type, escape, unescape, float
	Format   string   `json:"format"`
	Options  options  `json:"options"`
	Digest   bool     `json:"digest"`
	Input    string   `json:"input"`
	Scheme   string   `json:"scheme"`   // Of escape, unescape and negotiate.
	Fallback string   `json:"fallback"` // Of content-type: a media type, or nothing.
	Offers   []string `json:"offers"`   // Of negotiate: content types, preferred ones first.
}

type options struct {
	Native   bool `json:"native"`
	Classic  bool `json:"classic"`
	Start    bool `json:"start"`
	NHCB     bool `json:"nhcb"`
	TypeUnit bool `json:"typeunit"`
	OM2      bool `json:"om2"`
}

type verdict struct {
	Name   string   `json:"name"`
	Lines  []string `json:"lines,omitempty"`
	Digest string   `json:"digest,omitempty"`
	Why    string   `json:"why,omitempty"` // Prometheus' words on a refusal; for reading only.
}

// patience is how long a page may take: Prometheus looks for start timestamps beyond exemplars that it cannot
// read for ever.
const patience = 3 * time.Second

const workerArgument = "worker"

func main() {
	if len(os.Args) > 1 && os.Args[1] == workerArgument {
		work()
		return
	}
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	var w *worker
	for {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			w.end()
			return
		}
		if w == nil {
			w = startWorker()
		}
		answer, ok := w.ask(line)
		if !ok {
			w.end()
			w = nil
			answer = mustMarshal(spellVerdict(mustRead(line), []string{"hangs"}, ""))
		}
		fmt.Fprintln(out, string(answer))
	}
}

// worker is a process of its own, as a goroutine that does not come to an end cannot be ended.
type worker struct {
	process *exec.Cmd
	in      io.WriteCloser
	answers chan []byte
}

func startWorker() *worker {
	self, err := os.Executable()
	must(err)
	w := &worker{process: exec.Command(self, workerArgument), answers: make(chan []byte, 1)}
	w.process.Stderr = os.Stderr
	w.in, err = w.process.StdinPipe()
	must(err)
	out, err := w.process.StdoutPipe()
	must(err)
	must(w.process.Start())
	go func() {
		lines := bufio.NewReaderSize(out, 1<<20)
		for {
			line, err := lines.ReadBytes('\n')
			if err != nil {
				close(w.answers)
				return
			}
			w.answers <- line[:len(line)-1]
		}
	}()
	return w
}

func (w *worker) ask(line []byte) ([]byte, bool) {
	_, err := w.in.Write(line)
	must(err)
	select {
	case answer, alive := <-w.answers:
		if !alive {
			panic("the worker has died over " + string(line))
		}
		return answer, true
	case <-time.After(patience):
		return nil, false
	}
}

func (w *worker) end() {
	if w == nil {
		return
	}
	must(w.process.Process.Kill())
	_ = w.process.Wait() // It was killed, which is what it says.
}

func work() {
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	for {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return
		}
		q := mustRead(line)
		input, err := hex.DecodeString(q.Input)
		must(err)
		lines, why := answer(q, input)
		_, err = os.Stdout.Write(append(mustMarshal(spellVerdict(q, lines, why)), '\n'))
		must(err)
	}
}

func answer(q question, input []byte) (lines []string, why string) {
	switch q.Kind {
	case "page":
		return judge(q, input)
	case "negotiate":
		return negotiate(q, string(input)), ""
	case "content-type":
		return contentType(q, string(input))
	case "escape":
		return escape(q, string(input)), ""
	case "unescape":
		return unescape(q, string(input)), ""
	case "float":
		return float(string(input)), ""
	}
	panic("unknown kind of question: " + q.Kind)
}

func spellVerdict(q question, lines []string, why string) verdict {
	if q.Digest {
		return verdict{Name: q.Name, Digest: digest(lines)}
	}
	return verdict{Name: q.Name, Lines: lines, Why: why}
}

func digest(lines []string) string {
	if len(lines) == 1 && (lines[0] == "refused" || lines[0] == "hangs" || lines[0] == "panics") {
		return lines[0]
	}
	h := fnv.New64a()
	for _, line := range lines {
		_, _ = io.WriteString(h, line+"\n") // A hash cannot fail.
	}
	return fmt.Sprintf("%016x", h.Sum64())
}

func mustRead(line []byte) (q question) {
	must(json.Unmarshal(line, &q))
	return q
}

func mustMarshal(v verdict) []byte {
	written, err := json.Marshal(v)
	must(err)
	return written
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
