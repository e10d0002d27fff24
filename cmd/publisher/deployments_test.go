package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/lockstep-dev/lockstep/internal/agent"
	"github.com/lockstep-dev/lockstep/internal/publisher"
	"github.com/lockstep-dev/lockstep/internal/telemetry"
)

const (
	rulesFile     = "../../deployments/prometheus/lockstep.rules.yaml"
	rulesTests    = "../../deployments/prometheus/lockstep.rules_test.yaml"
	dashboardFile = "../../deployments/grafana/lockstep.json"
	runbooks      = "../../docs/runbooks"
	runbooksURL   = "https://github.com/lockstep-dev/lockstep/blob/main/docs/runbooks/"
)

// An alert is one rule; nothing else may be in the file.
type alert struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func readAlerts(t *testing.T) []alert {
	t.Helper()
	var file struct {
		Groups []struct {
			Name  string  `yaml:"name"`
			Rules []alert `yaml:"rules"`
		} `yaml:"groups"`
	}
	if err := yaml.NewDecoder(bytes.NewReader(readFile(t, rulesFile)), yaml.Strict()).Decode(&file); err != nil {
		t.Fatal(err)
	}
	var all []alert
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) == 0 {
		t.Fatal("there are no alerts")
	}
	return all
}

// selector is a metric in an expression with what is asked of its labels.
var selector = regexp.MustCompile(`(lockstep_\w+)(\{[^}]*\})?`)

// checkExpression demands that an expression uses metrics that the programs show, with labels that they have.
func checkExpression(t *testing.T, where, expr string) {
	t.Helper()
	found := selector.FindAllStringSubmatch(expr, -1)
	if len(found) == 0 {
		t.Errorf("%s: no metric in %s", where, expr)
	}
	for _, s := range found {
		metrics := shown(s[1])
		if len(metrics) == 0 {
			t.Errorf("%s: no program shows %s", where, s[1])
			continue
		}
		labels := []string{"job", "agent", "environment"} // job is Prometheus's; agent and environment are of every metric of an agent
		for _, m := range metrics {
			labels = append(labels, m.Labels...)
		}
		for _, l := range regexp.MustCompile(`(\w+)\s*(=|!=|=~|!~)"`).FindAllStringSubmatch(s[2], -1) {
			if !slices.Contains(labels, l[1]) {
				t.Errorf("%s: %s has no label %s", where, s[1], l[1])
			}
		}
	}
}

// shown are the metrics whose samples have a name.
func shown(sample string) (out []*telemetry.Metric) {
	for _, m := range append(publisher.Metrics.All(), agent.Metrics.All()...) {
		names := []string{m.Name}
		if m.Type == telemetry.Histogram {
			names = []string{m.Name, m.Name + "_bucket", m.Name + "_sum", m.Name + "_count"}
		}
		if slices.Contains(names, sample) {
			out = append(out, m)
		}
	}
	return out
}

func TestEveryAlertUsesMetricsThatAreThereAndHasARunbook(t *testing.T) {
	tests := string(readFile(t, rulesTests))
	pages := map[string]bool{}
	for _, a := range readAlerts(t) {
		checkExpression(t, a.Alert, a.Expr)
		pages[a.Alert+".md"] = true
		if a.Annotations["runbook_url"] != runbooksURL+a.Alert+".md" {
			t.Errorf("%s links to %q", a.Alert, a.Annotations["runbook_url"])
		}
		page := string(readFile(t, filepath.Join(runbooks, a.Alert+".md")))
		for _, want := range []string{"# " + a.Alert + "\n", "\n## What it means\n", "\n## Look\n", "\n## Do\n", "\n$ publisher "} {
			if !strings.Contains(page, want) {
				t.Errorf("the runbook of %s has no %q", a.Alert, want)
			}
		}
		if a.Annotations["summary"] == "" || a.Annotations["description"] == "" || a.For == "" || !slices.Contains([]string{"page", "warning"}, a.Labels["severity"]) {
			t.Errorf("%s does not say what it is about, how much it matters, or for how long that must be so", a.Alert)
		}
		if !regexp.MustCompile(`alertname: `+a.Alert+`\n\s+exp_alerts:`).MatchString(tests) || !strings.Contains(tests, "alertname: "+a.Alert+"}") {
			t.Errorf("promtool does not see %s both firing and not", a.Alert)
		}
	}
	entries, err := os.ReadDir(runbooks)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !pages[e.Name()] {
			t.Errorf("docs/runbooks/%s is of no alert", e.Name())
		}
	}
}

func TestTheScrapeConfigurationLoadsTheRules(t *testing.T) {
	var config struct {
		Global map[string]string `yaml:"global"`
		Rules  []string          `yaml:"rule_files"`
		Scrape []struct {
			Job     string `yaml:"job_name"`
			Targets []struct {
				Targets []string `yaml:"targets"`
			} `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	file := "../../deployments/prometheus/prometheus.yaml"
	if err := yaml.NewDecoder(bytes.NewReader(readFile(t, file)), yaml.Strict()).Decode(&config); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(config.Rules, []string{filepath.Base(rulesFile)}) || len(config.Scrape) != 1 || config.Scrape[0].Job == "" {
		t.Errorf("%+v", config)
	}
}

// expressions is where the dashboard's are written as rules: promtool parses those.
var expressions = flag.String("expressions", "", "write the expressions of the Grafana dashboard there, as recording rules")

func TestTheDashboardUsesMetricsThatAreThere(t *testing.T) {
	var dashboard struct {
		UID        string `json:"uid"`
		Schema     int    `json:"schemaVersion"`
		Links      []struct{ URL string }
		Templating struct {
			List []struct{ Name, Type, Definition string } `json:"list"`
		} `json:"templating"`
		Panels []struct {
			ID          int    `json:"id"`
			Type        string `json:"type"`
			Title       string `json:"title"`
			Description string `json:"description"`
			Targets     []struct {
				RefID      string                     `json:"refId"`
				Expr       string                     `json:"expr"`
				Datasource struct{ Type, UID string } `json:"datasource"`
			} `json:"targets"`
		} `json:"panels"`
	}
	text := readFile(t, dashboardFile)
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	known := []string{"__rate_interval", "__all", "__value", "DS_PROMETHEUS"}
	for _, v := range dashboard.Templating.List {
		known = append(known, v.Name)
		if v.Type == "query" {
			checkExpression(t, "variable "+v.Name, v.Definition)
		}
	}
	if !slices.Contains(known, "environment") || dashboard.UID == "" || dashboard.Schema == 0 || len(dashboard.Links) == 0 {
		t.Error("no variable environment, uid, schemaVersion or links")
	}
	for _, used := range regexp.MustCompile(`\$\{?(\w+)`).FindAllStringSubmatch(string(text), -1) {
		if !slices.Contains(known, used[1]) {
			t.Errorf("there is no variable $%s", used[1])
		}
	}
	ids, rules := map[int]bool{}, []map[string]any{}
	values := strings.NewReplacer("$__rate_interval", "5m", "$job", ".*", "$environment", ".*")
	for _, p := range dashboard.Panels {
		if ids[p.ID] || p.Title == "" || (p.Type != "row" && (p.Description == "" || len(p.Targets) == 0)) {
			t.Errorf("panel %d, %q: not its own number, or without title, description or content", p.ID, p.Title)
		}
		ids[p.ID] = true
		for _, target := range p.Targets {
			rules = append(rules, map[string]any{"record": fmt.Sprintf("dashboard:panel%d:%s", p.ID, target.RefID), "expr": values.Replace(target.Expr), "labels": map[string]string{"panel": p.Title}})
			checkExpression(t, p.Title, target.Expr)
			if target.Datasource.UID != "${DS_PROMETHEUS}" {
				t.Errorf("%s: data from %q", p.Title, target.Datasource.UID)
			}
		}
	}
	out, err := yaml.Marshal(map[string]any{"groups": []map[string]any{{"name": "dashboard", "rules": rules}}})
	if err != nil || len(rules) == 0 {
		t.Fatalf("nothing is shown: %v", err)
	}
	if *expressions != "" {
		if err := os.WriteFile(*expressions, out, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
