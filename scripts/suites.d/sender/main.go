// Command sender stands where a suite expects a Prometheus: it is started with Prometheus' flags, starts promferry
// with them, passes signals on and ends as promferry ends. All that promferry sends passes through it byte for byte,
// and when it ends it appends a line to a file: how many remote-write requests there were, the bytes of their
// bodies, and the status promferry ended with. So a case that passes because nothing was sent does not pass here.
//
// Its environment: PROMFERRY_SUITE_BINARY is promferry, PROMFERRY_SUITE_SENT the file for the line,
// PROMFERRY_SUITE_LE_FORMAT what every job is to have as its le_format, if anything.
package main

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
)

const configFlag = "--config.file="

var (
	urlLine = regexp.MustCompile(`(?m)^( +- url: +)['"]?([^'"\n]+)['"]?$`)
	jobLine = regexp.MustCompile(`(?m)^( +)- job_name:.*$`)
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("sender: ")
	status, err := run()
	if err != nil {
		log.Fatal(err)
	}
	os.Exit(status)
}

func run() (int, error) {
	scratch, err := os.MkdirTemp("", "promferry-suite-*")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(scratch)

	var sent sent
	args := []string{"run", "--storage.agent.path=" + filepath.Join(scratch, "data")}
	for _, arg := range os.Args[1:] {
		switch {
		case strings.HasPrefix(arg, configFlag):
			config, err := rewritten(strings.TrimPrefix(arg, configFlag), &sent)
			if err != nil {
				return 0, err
			}
			file := filepath.Join(scratch, "prometheus.yml")
			if err := os.WriteFile(file, config, 0o600); err != nil {
				return 0, err
			}
			args = append(args, configFlag+file)
		case strings.HasPrefix(arg, "--web.listen-address="):
			args = append(args, "--web.listen-address=127.0.0.1:0")
		case strings.HasPrefix(arg, "--enable-feature="):
			args = append(args, arg)
		default:
			return 0, fmt.Errorf("a suite starts its sender with %s, which promferry is not given", arg)
		}
	}

	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	promferry := exec.Command(os.Getenv("PROMFERRY_SUITE_BINARY"), args...)
	promferry.Stdout, promferry.Stderr = os.Stdout, os.Stderr
	// A group of its own, so that a suite's signal to a whole group comes once; and no orphan if this is killed.
	promferry.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	// It is the thread, not the process, whose end the kernel takes for the parent's death.
	runtime.LockOSThread()
	if err := promferry.Start(); err != nil {
		return 0, err
	}
	go func() {
		for received := range signals {
			_ = promferry.Process.Signal(received)
		}
	}()
	// An exit with another status than 0 is the result here, and no error.
	_ = promferry.Wait()
	status := promferry.ProcessState.ExitCode()
	return status, sent.write(os.Getenv("PROMFERRY_SUITE_SENT"), status)
}

// rewritten is the suite's configuration with the endpoint behind a counting connection and le_format set.
func rewritten(file string, sent *sent) ([]byte, error) {
	config, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	line := urlLine.FindSubmatch(config)
	if line == nil {
		return nil, fmt.Errorf("%s has no url of an endpoint", file)
	}
	endpoint, err := url.Parse(string(line[2]))
	if err != nil {
		return nil, err
	}
	// What is no http URL has to be promferry's to refuse.
	if endpoint.Scheme == "http" {
		address, err := listen(endpoint.Host, sent)
		if err != nil {
			return nil, err
		}
		endpoint.Host = address
		config = urlLine.ReplaceAll(config, []byte("${1}'"+endpoint.String()+"'"))
	}
	if format := os.Getenv("PROMFERRY_SUITE_LE_FORMAT"); format != "" {
		config = jobLine.ReplaceAll(config, []byte("${0}\n${1}  le_format: "+format))
	}
	return config, nil
}

// listen passes every connection to a new address on to host, and counts the requests that go there.
func listen(host string, sent *sent) (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			sent.connections.Add(1)
			go pass(client.(*net.TCPConn), host, sent)
		}
	}()
	return listener.Addr().String(), nil
}

func pass(client *net.TCPConn, host string, sent *sent) {
	defer client.Close()
	connection, err := net.Dial("tcp", host)
	if err != nil {
		// The nearest to the refusal that there would be without us.
		_ = client.SetLinger(0)
		return
	}
	server := connection.(*net.TCPConn)
	defer server.Close()
	counted, copied := io.Pipe()
	go sent.count(counted)
	go func() {
		_, err := io.Copy(server, io.TeeReader(client, copied))
		copied.CloseWithError(err)
		_ = server.CloseWrite()
	}()
	_, _ = io.Copy(client, server)
}

// sent is what promferry has sent.
type sent struct {
	connections, requests, bytes atomic.Int64
}

// count reads what goes to the endpoint as the HTTP requests it is.
func (s *sent) count(stream io.Reader) {
	// Never an obstacle to what is passed on.
	defer io.Copy(io.Discard, stream)
	reader := bufio.NewReader(stream)
	for {
		request, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		length, err := io.Copy(io.Discard, request.Body)
		if err != nil {
			return
		}
		if request.Method == http.MethodPost && length > 0 {
			s.requests.Add(1)
			s.bytes.Add(length)
		}
	}
}

func (s *sent) write(file string, status int) error {
	output, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	line := fmt.Sprintf("requests=%d bytes=%d connections=%d status=%d\n",
		s.requests.Load(), s.bytes.Load(), s.connections.Load(), status)
	if _, err := output.WriteString(line); err != nil {
		return err
	}
	return output.Close()
}
