package registry_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/registry"
)

func TestAnUpgradeShowsThreeSidesAndEditsOneLine(t *testing.T) {
	texts := []string{
		"# ours\n" + manifest("Environment", "prod", "template: {name: production, version: 1.4.0} # pinned"),
		manifest("Template", "production", "version: 1.4.0\nvalues: {connection/crm: {pool: 10, tls: true, old: 1}}"),
		manifest("Template", "production", "version: 1.5.0\nvalues: {connection/crm: {pool: 20, tls: true, retries: 3}}"),
		manifest("Connection", "crm", "overrides: {prod: {pool: 15}}"), manifest("Variable", "other", "default: 1"),
	}
	list := files(texts...)
	after, place, err := registry.Pin(list, "prod", "1.5.0")
	if err != nil || place.String() != "f0.yaml:6" {
		t.Fatal(place, err)
	}
	if want := strings.Replace(texts[0], "version: 1.4.0", `version: "1.5.0"`, 1); after[0].Text != want || list[0].Text != texts[0] {
		t.Errorf("%s", after[0].Text)
	}
	old, err := registry.Read(list)
	if err != nil {
		t.Fatal(err)
	}
	pinned, err := registry.Read(after)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := registry.Upgrade(old, pinned, registry.Target{Name: "prod"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range rows {
		got = append(got, fmt.Sprintf("%s%s %s→%s %s→%s", r.Resource, r.Path, r.Old, r.New, r.Now, r.Then))
	}
	want := "connection/crm/old 1→ 1→\nconnection/crm/pool 10→20 15→15\nconnection/crm/retries →3 →3"
	if strings.Join(got, "\n") != want {
		t.Errorf("%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
}

func TestAPinIsWrittenHoweverTheTemplateIsNamed(t *testing.T) {
	for spec, want := range map[string]string{
		"template: production # ours":                                           `template: {name: production, version: "2.0.0"} # ours`,
		"template: {name: production}":                                          `template: {name: production, version: "2.0.0"}`,
		"template:\n  name: production\nfacts: {a: b}":                          "template:\n    name: production\n    version: \"2.0.0\"\n  facts: {a: b}",
		"template:\n  name: production\n  version: '1.0.0'":                     "template:\n    name: production\n    version: \"2.0.0\"",
		"facts: {version: 1.0.0}\ntemplate: {name: production, version: 1.0.0}": "facts: {version: 1.0.0}\n  template: {name: production, version: \"2.0.0\"}",
	} {
		after, _, err := registry.Pin(files(manifest("Environment", "prod", spec)), "prod", "2.0.0")
		if err != nil || !strings.Contains(after[0].Text, want) {
			t.Errorf("%s: %v", spec, err)
		}
	}
	for spec, want := range map[string]string{
		"facts: {a: b}": "gives environment prod no template",
		"{template: {name: production, version: 1.0.0}, facts: {version: 1.0.0}}": "f0.yaml:5:1: environment/prod: how the template is named here cannot be edited by a program: write {name: production, version: 2.0.0} yourself",
	} {
		_, _, err := registry.Pin(files(manifest("Environment", "prod", spec)), "prod", "2.0.0")
		if want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", spec, err)
		}
	}
}
