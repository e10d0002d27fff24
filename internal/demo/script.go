package demo

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lockstep-dev/lockstep/internal/example"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/registry"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

const (
	// agentName is the name of the one agent of each environment.
	agentName = "a1"
	// source is the directory of manifests, below the demo's.
	source = "order-desk"
)

var environments = []ledger.AddEnvironment{
	{Name: "dev", Labels: map[string]string{"product": "order-desk", "stage": "dev"}, Steward: "dora", Approvals: 1},
	{Name: "test", Labels: map[string]string{"product": "order-desk", "stage": "test"}, Steward: "dora", Approvals: 1},
	{Name: "staging", Labels: map[string]string{"product": "order-desk", "stage": "staging"}, Steward: "dora", Approvals: 1},
	{Name: "prod-eu", Labels: map[string]string{"product": "order-desk", "stage": "prod", "region": "eu"}, Steward: "emil", Approvals: 1},
	{Name: "prod-us", Labels: map[string]string{"product": "order-desk", "stage": "prod", "region": "us"}, Steward: "uma", Approvals: 1},
}

// secrets stand in for those that the example refers to, and that agents read from their environment.
var secrets = map[string]string{"CRM_TOKEN": "not-a-token", "PAYMENTS_KEY": "not-a-key"}

// A chapter is an edit of a file of the directory, and the proposal of the directory as it is then: by anna, and approved by ben.
type chapter struct {
	file, before, after string
	ledger.Propose
}

var story = []chapter{
	{Propose: ledger.Propose{
		Reason: "Bring the order desk's configuration under Lockstep", Ticket: "ORDERS-1",
		Source: &events.Provenance{Repository: "github.com/acme/order-desk", Commit: "4f2c9d1", Build: "118"},
	}},
	{
		file: "resources/flags.yaml", before: "    test: {defaultVariant: \"on\"}\n", after: "    test: {defaultVariant: \"on\"}\n    staging: {defaultVariant: \"on\"}\n",
		Propose: ledger.Propose{Reason: "Try orders on one page before customers do", Ticket: "ORDERS-7"},
	},
	{
		file: "resources/variables.yaml", before: "  default: 5000\n", after: "  default: 8000\n",
		Propose: ledger.Propose{Reason: "Larger orders without a second signature", Ticket: "OPS-42", Within: 600},
	},
}

// A telling is the story so far: the directory's files, as they are proposed and as they stand on disk.
type telling struct {
	files []registry.File
	dir   string
}

// begin writes the directory where it is not there; one that is kept stays as people left it.
func begin(dir string) (*telling, error) {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if _, err := example.Write(dir); err != nil {
			return nil, err
		}
	}
	files, err := registry.Load(example.Files(), source)
	return &telling{files, dir}, err
}

// next edits what the chapter edits, and is what it proposes.
func (t *telling) next(c chapter) (ledger.Propose, error) {
	if c.file != "" {
		i := slices.IndexFunc(t.files, func(f registry.File) bool { return f.Name == source+"/"+c.file })
		old := t.files[i].Text
		edited := strings.Replace(old, c.before, c.after, 1)
		if edited == old {
			return ledger.Propose{}, fmt.Errorf("the example's %s does not hold %q", c.file, c.before)
		}
		t.files = slices.Clone(t.files)
		t.files[i].Text = edited
		path := filepath.Join(t.dir, filepath.FromSlash(c.file))
		if now, err := os.ReadFile(path); err == nil && string(now) == old {
			if err := os.WriteFile(path, []byte(edited), 0o644); err != nil {
				return ledger.Propose{}, err
			}
		}
	}
	p := c.Propose
	p.Edits, p.Directory = []ledger.Edit{}, &ledger.Directory{Files: t.files}
	return p, nil
}
