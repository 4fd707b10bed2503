// Package library runs the compliance suite that Prometheus' continuous integration uses against promferry.
package library

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/compliance/remotewrite/sender"
)

// What Prometheus itself is configured with for this suite.
const config = `
global:
  scrape_interval: 1s
remote_write:
  - url: %q
    protobuf_message: %q
    send_exemplars: true
    queue_config: {retry_on_http_429: true}
    metadata_config: {send: true}
scrape_configs:
  - job_name: %q
    scrape_protocols: [PrometheusProto, OpenMetricsText1.0.0, PrometheusText0.0.4]
    static_configs:
      - targets: [%q]
`

type promferry struct{ folder string }

func (promferry) Name() string { return "promferry" }

func (p promferry) Run(ctx context.Context, options sender.Options) error {
	file := filepath.Join(p.folder, "prometheus.yml")
	text := fmt.Sprintf(config, options.RemoteWriteEndpointURL, options.RemoteWriteMessage,
		options.ScrapeTargetJobName, options.ScrapeTargetHostPort)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	return sender.RunCommand(ctx, p.folder, nil, os.Getenv("PROMFERRY_SUITE_SENDER"),
		"--config.file="+file, "--enable-feature=st-storage")
}

func TestRemoteWriteSender(t *testing.T) {
	sender.RunTests(t, promferry{folder: t.TempDir()}, sender.ComplianceTests())
}
