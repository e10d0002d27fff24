package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-dev/lockstep/internal/agent"
	"github.com/lockstep-dev/lockstep/internal/publisher"
	"github.com/lockstep-dev/lockstep/internal/telemetry"
)

const metricsPage = "../../docs/metrics.md"

func TestTheListOfMetricsIsWhatTheProgramsShow(t *testing.T) {
	want := metricsDocument()
	if *update {
		if err := os.WriteFile(metricsPage, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	is, err := os.ReadFile(metricsPage)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(is)); diff != "" {
		t.Errorf("docs/metrics.md is not what the programs show; write it anew with 'go test ./cmd/publisher -run ListOfMetrics -update':\n%s", diff)
	}
}

// metricsDocument is docs/metrics.md.
func metricsDocument() string {
	var b strings.Builder
	b.WriteString(`# Metrics

<!-- Written by 'go test ./cmd/publisher -run ListOfMetrics -update' from what the programs declare; do not edit. -->

Both programs serve these at ` + "`/metrics`" + `: the publisher at its HTTP address, an agent at its ` + "`listen`" + ` address on loopback. What the publisher says about
environments and agents is the same projection that ` + "`publisher status`" + ` and the API read; on several publishers of one bus the numbers that count what
one did (` + "`events_applied`, `signature_failures`, `propagation_lag`" + `) are added up, of the others any one that has checked its ledger is right.

- Times are Unix timestamps, not ages: write ` + "`time() - lockstep_agent_last_seen_timestamp_seconds`" + `. One that is not known is absent.
- Labels are bounded by how many environments and agents there are; no label is a change, a person or a tenant. Of a retired environment nothing is
  shown but that it is retired, of a revoked agent nothing.
- Where others count messages of a stream, Lockstep counts revisions of an environment: ` + "`lockstep_environment_head_revision`" + ` is its stream's last sequence,
  ` + "`lockstep_checkpoint_revision`" + ` its consumer's. The release stream is rebuilt from the ledger when it is damaged, and its sequences are others then.
- Histograms have classic buckets, from a millisecond to an hour, and are native histograms where Prometheus scrapes those
  (` + "`scrape_native_histograms: true`" + `).
- A command belongs to a trace (W3C trace context): that of the CI job that sets ` + "`TRACEPARENT`" + `, or one of its own. The ledger keeps it, releases carry
  it, lines in the logs of publisher (` + "`--log-level debug`" + `) and agents name it beside change, environment and revision, and in OpenMetrics the lag
  has it as an exemplar, ` + "`trace_id`" + `. [Traces](traces.md) says how spans are exported.

`)
	table := func(title, text string, c *telemetry.Catalogue) {
		fmt.Fprintf(&b, "## %s\n\n%s| metric | type | labels | meaning |\n|---|---|---|---|\n", title, text)
		for _, m := range c.All() {
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m.Name, m.Type, strings.Join(m.Labels, ", "), m.Help)
		}
		b.WriteString("\n")
	}
	table("Publisher", "", &publisher.Metrics)
	table("Agent", "Each also has the labels `environment` and `agent`.\n\n", &agent.Metrics)
	b.WriteString("Alert rules and a dashboard that use them are in `deployments/prometheus` and `deployments/grafana`; each alert has a page in [runbooks](runbooks).\n")
	return b.String()
}
