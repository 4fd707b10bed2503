// Command cases runs a compliance suite case by case, each in a process and a folder of its own, with promferry where
// the suite expects a Prometheus, and says what became of it.
//
//	cases -suite FILE -program FILE -sender FILE -folder DIR [-fails CASE] [-only REGEXP] [-jobs N]
//
// A case has passed when all its leaves have, promferry ended with status 0, and at least one remote-write request
// was sent. All must pass, but for the one that is said to fail, which must fail. A line of the suite's file is the name of a case, then what differs: leaves=N, requests=N (at least so
// many), connections=N, ahead=N: it measures milliseconds in its first N seconds, so that the others start after them.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Where the suites would otherwise download a Prometheus to (targets/prometheus.go of each).
var standIns = []string{"prometheus-2.30.3", "prometheus-3.8.0"}

// No case takes longer than half a minute.
const caseTimeout = 2 * time.Minute

// suiteCase is one case and what it takes to pass.
type suiteCase struct {
	name                                 string
	leaves, requests, connections, ahead int
}

// outcome is what became of a case; passed if it has no problem.
type outcome struct {
	leaves, requests int
	problem          string
}

type runner struct {
	program, sender, folder string
}

func main() {
	var (
		run   runner
		suite = flag.String("suite", "", "file that names the cases")
		fails = flag.String("fails", "", "the case that is expected to fail")
		only  = flag.String("only", "", "regular expression: run only cases whose names match")
		jobs  = flag.Int("jobs", 10*runtime.NumCPU(), "how many cases run at once: mostly they wait")
	)
	flag.StringVar(&run.program, "program", "", "the suite's tests, compiled")
	flag.StringVar(&run.sender, "sender", "", "what is started as a Prometheus")
	flag.StringVar(&run.folder, "folder", "", "where the cases run and leave their logs")
	flag.Parse()
	if err := run.suite(*suite, *fails, *only, *jobs); err != nil {
		fmt.Fprintln(os.Stderr, "suites:", err)
		os.Exit(1)
	}
}

func (r runner) suite(file, fails, only string, jobs int) error {
	cases, err := read(file)
	if err != nil {
		return err
	}
	filter, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	var (
		start    = time.Now()
		outcomes = make([]outcome, len(cases))
		places   = make(chan struct{}, jobs)
		group    sync.WaitGroup
	)
	ahead := 0
	for _, c := range cases {
		if filter.MatchString(c.name) {
			ahead = max(ahead, c.ahead)
		}
	}
	for i, c := range cases {
		if !filter.MatchString(c.name) {
			continue
		}
		group.Go(func() {
			if c.ahead == 0 {
				time.Sleep(time.Duration(ahead) * time.Second)
			}
			places <- struct{}{}
			defer func() { <-places }()
			outcomes[i] = r.run(c)
		})
	}
	group.Wait()

	leaves, passed, unexpected, requests, least := 0, 0, 0, 0, -1
	for i, c := range cases {
		if !filter.MatchString(c.name) {
			continue
		}
		leaves += c.leaves
		requests += outcomes[i].requests
		problem := outcomes[i].problem
		switch {
		case c.name == fails && problem == "":
			fmt.Printf("suites: %s passed, which is not expected\n", c.name)
			unexpected++
		case c.name == fails:
			fmt.Printf("suites: %s fails, as it must\n", c.name)
			continue
		case problem != "":
			fmt.Printf("suites: FAILED %s: %s; see %s\n", c.name, problem, r.of(c))
			unexpected++
			continue
		}
		passed += c.leaves
		if c.requests > 0 && (least < 0 || outcomes[i].requests < least) {
			least = outcomes[i].requests
		}
	}
	fmt.Printf("suites: %s: %d of %d leaves passed; %d remote-write requests were sent, at least %d in each case that can send; %.0f s\n",
		filepath.Base(r.folder), passed, leaves, requests, max(least, 0), time.Since(start).Seconds())
	switch {
	case leaves == 0:
		return fmt.Errorf("%s: no case's name matches", filepath.Base(r.folder))
	case unexpected > 0:
		return fmt.Errorf("%s: %d cases did not end as they must", filepath.Base(r.folder), unexpected)
	}
	return nil
}

func read(file string) ([]suiteCase, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var cases []suiteCase
	for line := range strings.Lines(string(content)) {
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		c := suiteCase{name: words[0], leaves: 1, requests: 1, connections: 1}
		for _, word := range words[1:] {
			key, value, _ := strings.Cut(word, "=")
			number, err := strconv.Atoi(value)
			if err != nil {
				return nil, fmt.Errorf("%s: %q is no key=number", file, word)
			}
			switch key {
			case "leaves":
				c.leaves = number
			case "requests":
				c.requests = number
			case "connections":
				c.connections = number
			case "ahead":
				c.ahead = number
			default:
				return nil, fmt.Errorf("%s: unknown key %q", file, key)
			}
		}
		cases = append(cases, c)
	}
	return cases, nil
}

func (r runner) of(c suiteCase) string {
	return filepath.Join(r.folder, strings.ReplaceAll(c.name, "/", "."))
}

func (r runner) run(c suiteCase) outcome {
	folder := r.of(c)
	if err := r.prepare(folder); err != nil {
		return outcome{problem: err.Error()}
	}
	log, err := os.Create(filepath.Join(folder, "log"))
	if err != nil {
		return outcome{problem: err.Error()}
	}
	defer log.Close()
	ctx, cancel := context.WithTimeout(context.Background(), caseTimeout)
	defer cancel()
	parts := strings.Split(c.name, "/")
	for i, part := range parts {
		parts[i] = "^" + regexp.QuoteMeta(part) + "$"
	}
	sentFile := filepath.Join(folder, "sent")
	tests := exec.CommandContext(ctx, r.program, "-test.v", "-test.run", strings.Join(parts, "/"))
	tests.Dir, tests.Stdout, tests.Stderr = folder, log, log
	tests.Env = append(os.Environ(),
		"PROMFERRY_SUITE_SENT="+sentFile,
		"PROMFERRY_SUITE_SENDER="+r.sender,
		"TMPDIR="+filepath.Join(folder, "tmp"),
		// The suite's own name for what stands in.
		"PROMETHEUS_RW2_COMPLIANCE_SENDERS=prometheus",
		// promferry's output goes to the log of a suite that would hide it.
		"DEBUG=1",
	)
	failure := tests.Run()

	var result outcome
	result.leaves, err = passedLeaves(log.Name())
	if err != nil {
		return outcome{problem: err.Error()}
	}
	sent, err := readSent(sentFile)
	result.requests = sent["requests"]
	switch {
	case failure != nil:
		result.problem = failure.Error()
	case result.leaves != c.leaves:
		result.problem = fmt.Sprintf("%d leaves passed instead of %d", result.leaves, c.leaves)
	case err != nil:
		result.problem = err.Error()
	case sent["status"] != 0:
		result.problem = fmt.Sprintf("promferry ended with status %d", sent["status"])
	case sent["requests"] < c.requests:
		result.problem = fmt.Sprintf("only %d remote-write requests were sent", sent["requests"])
	case sent["connections"] < c.connections:
		result.problem = "no connection was tried"
	}
	if result.problem == "" {
		_ = os.RemoveAll(filepath.Join(folder, "tmp"))
	}
	return result
}

func (r runner) prepare(folder string) error {
	if err := os.MkdirAll(filepath.Join(folder, "bin"), 0o755); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(folder, "tmp"), 0o755); err != nil {
		return err
	}
	for _, name := range standIns {
		name = fmt.Sprintf("%s.%s-%s", name, runtime.GOOS, runtime.GOARCH)
		if err := os.Symlink(r.sender, filepath.Join(folder, "bin", name)); err != nil {
			return err
		}
	}
	return nil
}

var verdictLine = regexp.MustCompile(`^ *--- (PASS|FAIL|SKIP): (.+) \([0-9.]+s\)$`)

// passedLeaves counts the tests that passed and contain no others.
func passedLeaves(log string) (int, error) {
	file, err := os.Open(log)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	verdicts := map[string]string{}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		if match := verdictLine.FindStringSubmatch(lines.Text()); match != nil {
			verdicts[match[2]] = match[1]
		}
	}
	passed := 0
	for name, verdict := range verdicts {
		leaf := true
		for other := range verdicts {
			if strings.HasPrefix(other, name+"/") {
				leaf = false
				break
			}
		}
		if leaf && verdict == "PASS" {
			passed++
		}
	}
	return passed, lines.Err()
}

// readSent reads the line that the sender leaves when it ends.
func readSent(file string) (map[string]int, error) {
	content, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, errors.New("promferry was not run to its end")
	}
	if err != nil {
		return nil, err
	}
	sent := map[string]int{}
	for word := range strings.FieldsSeq(string(content)) {
		key, value, _ := strings.Cut(word, "=")
		number, err := strconv.Atoi(value)
		if err != nil {
			return nil, fmt.Errorf("%s: %q is no key=number", file, word)
		}
		sent[key] += number
	}
	return sent, nil
}
