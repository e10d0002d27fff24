package arch

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/lockstep-dev/lockstep/"

// A layer imports only from layers below it and from its own (ARCHITECTURE.md, Packages).
type layer int

const (
	wire     layer = iota // the contract and what follows from it alone
	support               // imports nothing of ours but the wire
	domain                // pure: state machines and projections
	part                  // runtime parts and the bus
	runtime               // the two runtimes
	assembly              // runs several runtimes in one process
	program               // signals, flags, exit codes
)

// layers names every package of ours once; what is below a package belongs to it unless it is named itself.
var layers = map[string]layer{
	"cmd/publisher":  program,
	"cmd/agent":      program,
	"internal/bench": assembly,
	"internal/demo":  assembly,

	"internal/publisher": runtime,
	"internal/agent":     runtime,

	"internal/access":     part,
	"internal/api":        part,
	"internal/bus":        part,
	"internal/changefile": part,
	"internal/console":    part,
	"internal/connector":  part,
	"internal/dashboard":  part,
	"internal/example":    part,
	"internal/keys":       part,
	"internal/webhook":    part,

	"internal/ledger":     domain,
	"internal/flagd":      domain,
	"internal/secretscan": domain,
	"internal/exchange":   domain,
	"internal/fleet":      domain,
	"internal/notify":     domain,
	"internal/registry":   domain,
	"internal/policy":     domain,
	"internal/trust":      domain,
	"internal/seal":       domain,
	"internal/audit":      domain,

	"internal/config":    support,
	"internal/fault":     support,
	"internal/leaktest":  support,
	"internal/lifecycle": support,
	"internal/telemetry": support,
	"internal/tracing":   support,

	"pkg/events": wire,
	"pkg/fold":   wire,
	"pkg/store":  wire,

	"internal/arch":     program,
	"internal/scenario": program,
}

// A ban is an edge that must not be there, and why.
type ban struct {
	from, except []string // packages with all below them; empty from is every package of ours
	to           []string
	deep         bool // not through others either
	why          string
}

var bans = []ban{
	{from: []string{"pkg"}, to: []string{module + "internal"}, deep: true,
		why: "pkg is importable by others; what it needs must be theirs too"},
	{from: []string{"internal/publisher"}, to: []string{module + "internal/agent"}, deep: true,
		why: "they meet on the wire only, so that each can be replaced, upgraded and distrusted alone"},
	{from: []string{"internal/agent", "cmd/agent"}, to: []string{module + "internal/publisher", module + "internal/ledger", module + "internal/registry", module + "internal/policy", module + "internal/fleet", module + "internal/api"}, deep: true,
		why: "an agent believes signed releases, not the publisher's view of things"},
	{from: []string{"internal/agent", "cmd/agent"}, to: []string{"github.com/nats-io/nats-server", "github.com/google/cel-go", "cel.dev", "github.com/zricethezav/gitleaks", module + "internal/dashboard"}, deep: true,
		why: "the agent is a light sidecar; the server, the policy engine and the dashboard are the publisher's"},
	{from: []string{"internal/agent", "cmd/agent"}, to: []string{module + "internal/tracing", "go.opentelemetry.io"}, deep: true,
		why: "the exporter of spans costs 3 MB of resident memory; the publisher makes the agents' spans from their acks"},
	{from: []string{"pkg", "internal/ledger", "internal/registry", "internal/policy", "internal/fleet", "internal/trust", "internal/seal", "internal/audit", "internal/notify"}, to: []string{module + "internal/tracing", "go.opentelemetry.io"},
		why: "spans are made at the edges; the domain knows traces as text"},
	{except: []string{"internal/bus"}, to: []string{"github.com/nats-io/nats.go"},
		why: "JetStream's rules (expected sequences, double reads, catch-up) are kept in one place"},
	{except: []string{"internal/bus/embedded", "internal/bus/bustest"}, to: []string{"github.com/nats-io/nats-server"},
		why: "the server is embedded in one place, with durability and limits set"},
	{except: []string{"internal/bus"}, to: []string{"github.com/nats-io/jwt"},
		why: "who may do what on the bus is issued in one place, and read by the server alone"},
	{except: []string{"pkg/store"}, to: []string{"go.etcd.io/bbolt"},
		why: "the checkpoint's transactions are in one place"},
	{from: []string{"pkg/events", "pkg/fold", "internal/ledger", "internal/registry", "internal/flagd", "internal/secretscan", "internal/exchange", "internal/policy", "internal/fleet", "internal/trust", "internal/seal", "internal/audit", "internal/notify"}, except: []string{"pkg/fold/foldtest"}, to: []string{"github.com/nats-io/nats.go", "go.etcd.io/bbolt"}, deep: true,
		why: "pure: the same bytes give the same decision on every machine"},
	{from: []string{"pkg/events", "pkg/fold", "internal/ledger", "internal/registry", "internal/flagd", "internal/secretscan", "internal/exchange", "internal/policy", "internal/fleet", "internal/trust", "internal/seal", "internal/audit", "internal/notify"}, to: []string{"os", "net/http", "net", "io/ioutil", "os/exec", "math/rand", "math/rand/v2", "crypto/rand", "github.com/rs/zerolog"},
		why: "pure: no files, no network, no chance, nothing to log; what they need arrives as an argument"},
	{from: []string{"internal/config", "internal/fault", "internal/lifecycle", "internal/telemetry", "internal/tracing"}, to: []string{module + "internal", module + "cmd"}, deep: true,
		why: "support is below everything that uses it"},
	{to: []string{"log/slog", "go.uber.org/zap", "github.com/sirupsen/logrus", "github.com/go-logr/logr"},
		why: "zerolog is the one log library"},
	{to: []string{"github.com/pkg/errors", "golang.org/x/xerrors"},
		why: "errors are wrapped with %w"},
}

// A listed is what `go list` says of a package. Imports and Deps are those of the package without its tests.
type listed struct {
	ImportPath, Dir, Name              string
	Imports, Deps                      []string
	GoFiles, TestGoFiles, XTestGoFiles []string
}

func (p listed) path() string { return strings.TrimPrefix(p.ImportPath, module) }

// isTestHelper says whether a package exists for tests: foldtest, bustest and the like.
func (p listed) isTestHelper() bool { return strings.HasSuffix(p.ImportPath, "test") }

// packages are all packages of this module.
var packages = sync.OnceValues(func() ([]listed, error) {
	cmd := exec.Command("go", "list", "-tags", "hosts,browser", "-json=ImportPath,Dir,Name,Imports,Deps,GoFiles,TestGoFiles,XTestGoFiles", "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			return nil, errors.New(string(exit.Stderr))
		}
		return nil, err
	}
	var all []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
})

func list(t *testing.T) []listed {
	t.Helper()
	all, err := packages()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// within says whether path is one of the roots or below one.
func within(path string, roots []string) bool {
	return slices.ContainsFunc(roots, func(root string) bool { return path == root || strings.HasPrefix(path, root+"/") })
}

func layerOf(path string) (layer, bool) {
	for {
		if l, ok := layers[path]; ok {
			return l, true
		}
		i := strings.LastIndex(path, "/")
		if i < 0 {
			return 0, false
		}
		path = path[:i]
	}
}

func TestImportsPointDown(t *testing.T) {
	for _, p := range list(t) {
		from, ok := layerOf(p.path())
		if !ok {
			t.Errorf("%s belongs to no layer: name it in layers, and in ARCHITECTURE.md", p.path())
			continue
		}
		if p.isTestHelper() {
			continue // helpers assemble what tests need; nothing but tests imports them
		}
		for _, imported := range p.Imports {
			to, ours := strings.CutPrefix(imported, module)
			if !ours {
				continue
			}
			if l, ok := layerOf(to); ok && l > from {
				t.Errorf("%s imports %s, which is above it", p.path(), to)
			}
		}
	}
}

func TestNobodyImportsTestHelpersButTests(t *testing.T) {
	for _, p := range list(t) {
		for _, imported := range p.Imports {
			if strings.HasPrefix(imported, module) && strings.HasSuffix(imported, "test") && !p.isTestHelper() {
				t.Errorf("%s imports %s, which is for tests", p.path(), imported)
			}
		}
	}
	for _, p := range list(t) {
		if !p.isTestHelper() && slices.Contains(p.Imports, "testing") {
			t.Errorf("%s imports testing", p.path())
		}
	}
}

func TestBannedEdges(t *testing.T) {
	all := list(t)
	for _, b := range bans {
		for _, p := range all {
			if len(b.from) > 0 && !within(p.path(), b.from) || within(p.path(), b.except) || p.isTestHelper() && !b.deep {
				continue
			}
			imports := p.Imports
			if b.deep {
				imports = p.Deps
			}
			for _, imported := range imports {
				if within(imported, b.to) && !within(p.ImportPath, b.to) {
					t.Errorf("%s imports %s: %s", p.path(), imported, b.why)
				}
			}
		}
	}
}
