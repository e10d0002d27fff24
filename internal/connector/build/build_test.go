package build

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/config"
	"github.com/lockstep-dev/lockstep/internal/connector"
)

type agentFile struct {
	Connectors []Config `yaml:"connectors"`
}

func parse(t *testing.T, text string) []Config {
	t.Helper()
	var f agentFile
	if err := config.Decode("agent.yaml", []byte(text), &f); err != nil {
		t.Fatal(err)
	}
	return f.Connectors
}

func TestConnectorsOfAnAgentsFileAreOpenedAndRouted(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "shop"), 0o700); err != nil {
		t.Fatal(err)
	}
	list := parse(t, `
connectors:
- name: shop-files
  step: true
  file:
    root: ./shop
    files:
    - path: flags.json
      resources: [flag/*]
      own: file
      at: /flags
    - path: .env
      resources: [variable/*]
      key: upper-snake
    mode: "0640"
    reload: {command: ["true"], timeout: 5s}
- name: crm
  resources: [connection/crm]
  exec: {command: [cat], timeout: 2s, env: [CRM_TOKEN]}
`)
	router, closer, err := Open(list, dir, "prod/agent-1")
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"flag/a": "shop-files", "variable/a": "shop-files", "connection/crm": "crm"} {
		route, err := router.Route(key)
		if err != nil || route.Connector.Name() != want || route.Step != (want == "shop-files") {
			t.Errorf("%s: %+v, %v", key, route, err)
		}
	}
	if _, err := router.Route("endpoint/a"); err == nil {
		t.Error("endpoint/a has a route")
	}
	if _, _, err := Open(list, dir, "prod/agent-2"); err == nil || !strings.Contains(err.Error(), "prod/agent-1, connector shop-files") {
		t.Errorf("a second agent: %v", err)
	}
	if err := closer.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestFailedOpenLeavesNothingOpen(t *testing.T) {
	dir := t.TempDir()
	const first = "- {name: a, file: {root: ., files: [{path: a.json, resources: [flag/*]}]}}\n"
	_, _, err := Open(parse(t, "connectors:\n"+first+"- {name: b, file: {root: ./missing, files: [{path: a.json, resources: [flag/*]}]}}\n"), dir, "x")
	if err == nil || !strings.Contains(err.Error(), "connector b: root:") {
		t.Fatalf("got %v", err)
	}
	_, closer, err := Open(parse(t, "connectors:\n"+first), dir, "x")
	if err != nil {
		t.Fatal(err)
	}
	if err := closer.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestValidateNamesConnectorAndField(t *testing.T) {
	const fileA = "file: {root: ., files: [{path: a.json, resources: [flag/*]}]}"
	for text, want := range map[string]string{
		"[]":                                "connectors:",
		"[{name: A, " + fileA + "}]":        "connectors[0]: name:",
		"[{name: a}]":                       "connectors[0]: a: give one kind",
		"[{name: a, exec: {command: [x]}}]": "connectors[0]: a: resources:",
		"[{name: a, exec: {command: [x]}, resources: [x]}]":     "connectors[0]: a: resources:",
		"[{name: a, exec: {command: []}, resources: [flag/*]}]": "connectors[0]: a: exec: command:",
		"[{name: a, resources: [flag/*], " + fileA + "}]":       "connectors[0]: a: resources:",
		"[{name: a, file: {root: .}}]":                          "connectors[0]: a: file: files:",
		"[{name: a, " + fileA + "}, {name: a, " + fileA + "}]":  "connectors[1]: name:",
		"[{name: a, " + fileA + ", exec: {command: [x]}}]":      "connectors[0]: a: give one kind",
	} {
		if err := Validate(parse(t, "connectors: "+text)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

func TestShippedExampleConfiguresAnInstance(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"agent.yaml", "one-file-each.sh"} {
		b, err := os.ReadFile(filepath.Join("../../../examples/exec-connector", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "agent.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	router, closer, err := Open(parse(t, string(text)), dir, "example")
	if err != nil {
		t.Fatal(err)
	}
	defer closer.Close()
	want := connector.Values{"variable/log-level": []byte(`"debug"`), "flag/x": nil}
	shares, err := router.Split(want)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range shares {
		plan, err := s.Connector.Plan(t.Context(), s.Values)
		if err == nil {
			err = s.Connector.Apply(t.Context(), plan)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	held, err := router.Observe(t.Context(), want)
	if err != nil || len(held) != 1 || string(held["variable/log-level"]) != `"debug"` {
		t.Errorf("%v, %v", held, err)
	}
}
