package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/registry"
)

func TestTheManualsManifestsCanBeRead(t *testing.T) {
	b, err := os.ReadFile("../../docs/environments-as-code.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "```yaml\n")
	example, _, found := strings.Cut(rest, "```")
	s, err := registry.Read([]registry.File{{Name: "environments-as-code.md", Text: example + "---\napiVersion: lockstep/v1\nkind: Document\nmetadata: {name: theme}\n"}})
	if err != nil || !found {
		t.Fatal(err)
	}
	if _, err := registry.Check(s, time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)); err != nil {
		t.Error(err)
	}
	r, err := registry.NewRenderer().Render(s, registry.Target{Name: "prod-eu", Labels: map[string]string{"stage": "prod"}})
	if err != nil {
		t.Fatal(err)
	}
	if level, _ := r.Get("variable/log-level"); level.Value == nil || string(level.Value.JSON) != `"warn"` {
		t.Errorf("%+v", level)
	}
}
