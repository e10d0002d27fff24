package example_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/lockstep-dev/lockstep/internal/example"
	"github.com/lockstep-dev/lockstep/internal/registry"
)

func load(t *testing.T) []registry.File {
	t.Helper()
	files, err := registry.Load(example.Files(), "")
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestTheExampleIsClean(t *testing.T) {
	s, err := registry.Read(load(t))
	if err != nil {
		t.Fatal(err)
	}
	findings, err := registry.Check(s, time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC))
	if err != nil || len(findings) > 0 {
		t.Errorf("%v %v", findings, err)
	}
	kinds := map[string]int{}
	for _, m := range s.Manifests() {
		kinds[m.Kind()]++
		if m.Metadata().Owner == "" || m.Metadata().Description == "" {
			t.Errorf("%s does not say whose it is, and what for", m.Key)
		}
	}
	if kinds["environment"] != 5 || kinds["template"] != 2 || kinds["endpoint"] != 2 || kinds["connection"] != 1 {
		t.Errorf("%v", kinds)
	}
	for _, target := range s.Targets() {
		r, err := registry.NewRenderer().Render(s, target)
		if err != nil || len(r.Resources) != 12 {
			t.Errorf("%s has %d resources (%v)", target.Name, len(r.Resources), err)
		}
	}
}

// TestTheExampleIsGoodForItsSchema: editors find nothing wrong with it either, and are told where the schema is.
func TestTheExampleIsGoodForItsSchema(t *testing.T) {
	b, err := registry.Schema(registry.AnyKind)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("manifest", doc); err != nil {
		t.Fatal(err)
	}
	schema := c.MustCompile("manifest")
	for _, f := range load(t) {
		if !strings.HasPrefix(f.Text, "# yaml-language-server: $schema=../.schemas/manifest.json\n") {
			t.Errorf("%s does not say where its schema is", f.Name)
		}
		decoder := yaml.NewDecoder(strings.NewReader(f.Text))
		for {
			var document any
			if err := decoder.Decode(&document); err != nil {
				if !errors.Is(err, io.EOF) {
					t.Errorf("%s: %v", f.Name, err)
				}
				break
			}
			j, err := json.Marshal(document)
			if err != nil {
				t.Fatal(err)
			}
			instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(j))
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(instance); err != nil {
				t.Errorf("%s: %v", f.Name, err)
			}
		}
	}
}

// It checks pull requests, and proposes what is merged.
func TestTheExamplesWorkflowChecksAndProposes(t *testing.T) {
	b, err := fs.ReadFile(example.Files(), ".github/workflows/lockstep.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var workflow struct {
		Jobs map[string]struct {
			Steps []struct {
				Run string `yaml:"run"`
			} `yaml:"steps"`
		} `yaml:"jobs"`
	}
	if err := yaml.Unmarshal(b, &workflow); err != nil {
		t.Fatal(err)
	}
	for job, words := range map[string][]string{"check": {"publisher check -f .", "publisher policy test -f ."}, "propose": {"publisher diff -f . --exit-code", "publisher propose -f . -m"}} {
		steps := workflow.Jobs[job].Steps
		if len(steps) == 0 {
			t.Fatalf("there is no job %s", job)
		}
		for _, word := range words {
			found := false
			for _, step := range steps {
				found = found || strings.Contains(step.Run, word)
			}
			if !found {
				t.Errorf("%s does not run %s", job, word)
			}
		}
	}
}
